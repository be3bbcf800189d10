"""From what the judges saw to figures with their bars: pure functions, one for each part of a quality run.

Bars are those that the shipped model has to pass. Where a bar is "not below the baseline", it is the baseline's own
figure of the same run, or as published where its weights are not at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product

import numpy as np

from benchmarks.comparison_judge import jackknife_error, kid_with_folds
from benchmarks.quality_judges import Sight
from faces.groups import TOLD_APART

AT_MOST, AT_LEAST, UNDER, OVER = "at most", "at least", "under", "over"
HOLDS = {
    AT_MOST: lambda value, bar: value <= bar,
    AT_LEAST: lambda value, bar: value >= bar,
    UNDER: lambda value, bar: value < bar,
    OVER: lambda value, bar: value > bar,
}
DRAWS = 1000  # of the bootstrap
# A drawing in this style differs from its photo by 0.2 to 0.4 inside the face; a photo that is merely smoothed does by
# less than 0.03. Below this bound a likeness is none of a cartoon.
CARTOON_FROM = 0.1
# Same person, by table and group: the baseline as published, where its weights are not there to be measured.
_PUBLISHED = {
    "all_age_faces": {"kids": 0.54, "young-women": 0.50, "elderly": 0.64, "young-men": 0.50},
    "utkface": {"kids": 0.61, "young-women": 0.50, "elderly": 0.62, "young-men": 0.52},
}
PUBLISHED_IDENTITY = {
    f"identity same of the network alone, {table}/{group}": value
    for table, of in _PUBLISHED.items()
    for group, value in of.items()
}
SKIN_UNDER, SKIN_APART = 12.0, 4.0  # CIELAB: input to output, and between ethnicities


@dataclass(frozen=True)
class Figure:
    """value and bar in the unit of the name; sense: how the value must lie to it; error: of the value, one standard
    deviation (bootstrap or jackknife); pictures: that it is taken over; note: what it does not say by itself."""

    name: str
    model: str
    value: float
    bar: float | None = None
    sense: str | None = None
    error: float | None = None
    pictures: int | None = None
    note: str | None = None
    counts: bool = True

    @property
    def holds(self) -> bool | None:
        """Whether it passes its bar; None where there is none. A photo left as it is passes none (`counts`)."""
        if self.bar is None or self.sense is None:
            return None
        return bool(self.counts and HOLDS[self.sense](self.value, self.bar))

    def as_json(self) -> dict[str, object]:
        said = {key: value for key, value in asdict(self).items() if value is not None and key != "counts"}
        return {**said, "value": round(self.value, 4), "bar": self.bar, "holds": self.holds}


def by(sights: Sequence[Sight], key) -> dict[str, list[Sight]]:
    """Sights by a key of theirs, sorted; those whose key is None are left out."""
    known = sorted((sight for sight in sights if key(sight) is not None), key=key)
    return {name: list(of) for name, of in groupby(known, key)}


def sets(sights: Sequence[Sight]) -> dict[str, list[Sight]]:
    """By table and group, and by table and ethnicity; pictures that surely belong to no group stay out of the first."""

    def ethnicity(sight: Sight) -> str | None:
        said = sight.case.person.ethnicity
        return f"{sight.case.source}/{said}" if said else None

    return {**by(sights, _group), **by(sights, ethnicity)}


def _group(sight: Sight) -> str | None:
    return f"{sight.case.source}/{sight.case.kind}" if sure(sight) else None


def sure(sight: Sight) -> bool:
    """Whether the table itself says the group."""
    return sight.case.person.group in (None, "kids", "elderly", "young")


def bootstrap(values: Sequence[float], of=np.mean) -> float:
    """Standard deviation of a statistic over samples drawn with replacement."""
    values, random = np.asarray(values, float), np.random.default_rng(0)
    return round(float(np.std(of(values[random.integers(0, len(values), (DRAWS, len(values)))], axis=1))), 6)


def kid(sights: Sequence[Sight], real: Mapping[str, np.ndarray], model: str, groups: Sequence[str]) -> list[Figure]:
    """KID x 1000 to a group's cartoons, of its own branch against the first one's. real: (N, D) by group."""
    figures = []
    for name, of in sets([sight for sight in sights if sight.case.group in real]).items():
        group = name.split("/")[1]
        if group not in real or len(of) < 2 or len(real[group]) < 2:
            continue
        own, folds = kid_with_folds(np.stack([sight.plain.features for sight in of]), real[group])
        rare = group in groups[1:]
        first, first_folds = kid_with_folds(np.stack([sight.first for sight in of]), real[group])
        error = jackknife_error([one - other for one, other in zip(folds, first_folds, strict=True)]) if rare else None
        figures.append(
            Figure(
                f"kid x 1000, {name}", model, 1000 * own, 1000 * first if rare else None, UNDER if rare else None,
                None if error is None else 1000 * error, len(of),
                f"bar: the first branch's; error: of the difference; {len(real[group])} cartoons",
            )
        )  # fmt: skip
    return figures


def identity(sights: Sequence[Sight], model: str, bars: Mapping[str, float]) -> list[Figure]:
    """Cosine of input and output, of the same and of other people, found as nearest of the set's photos, and the change
    inside the face beside it. bars: by name, those of the baseline, a network alone."""
    figures = []
    for (name, of), (moment, said) in product(
        sets(sights).items(), (("shown", ""), ("plain", " of the network alone"))
    ):
        seen = [getattr(sight, moment) for sight in of]
        alike = np.stack([sight.photo.vector for sight in of]) @ np.stack([each.vector for each in seen]).T
        same = np.eye(len(of), dtype=bool)
        changed = float(np.mean([each.change for each in seen]))
        nearest = alike.argmax(axis=0) == np.arange(len(of))
        for what, values in (("same", alike[same]), ("found", nearest)):
            bar = bars.get(f"identity {what} of the network alone, {name}")
            sense, error = None if bar is None else AT_LEAST, bootstrap(values)
            mean, cartoon = float(np.mean(values)), changed >= CARTOON_FROM
            full = f"identity {what}{said}, {name}"
            figures.append(Figure(full, model, mean, bar, sense, error, len(of), counts=cartoon))
        figures.append(Figure(f"identity change{said}, {name}", model, changed, pictures=len(of)))
        if len(of) > 1:
            figures.append(Figure(f"identity others{said}, {name}", model, float(alike[~same].mean())))
    return figures


def kinds(sights: Sequence[Sight], model: str, moment: str = "shown") -> list[Figure]:
    """Sex and age that an age and sex network sees in cartoons, by table. moment: "shown" or "plain"."""
    figures, said = [], "" if moment == "shown" else " of the network alone"
    for name, of in by(sights, _group).items():
        table, kind = name.split("/")
        guesses = [getattr(sight, moment).guess for sight in of]
        ages, male = np.array([guess.age for guess in guesses]), np.array([guess.female < 0.5 for guess in guesses])
        if kind in ("young-men", "young-women"):
            right, bar = (male, 80.0) if kind == "young-men" else (~male, 95.0)
            what, sense, error = f"{kind} called so %", AT_LEAST, 100 * bootstrap(right)
            value = 100 * float(right.mean())
        elif kind in ("kids", "elderly"):
            bar, sense = (10.0, UNDER) if kind == "kids" else (58.0, OVER)
            what, value, error = f"{kind}, median age", float(np.median(ages)), bootstrap(ages, np.median)
        else:
            continue
        name, counts = f"kind {what}{said}, {table}", model != "photo"
        figures.append(Figure(name, model, value, bar, sense, error, len(of), counts=counts))
    return figures


def colours(sights: Sequence[Sight], model: str) -> list[Figure]:
    """Median CIELAB distance of cheeks, input to output, by ethnicity, as shown and of the network alone."""
    figures = []
    people = by(sights, lambda sight: sight.case.person.ethnicity)
    for moment, said, bars in (
        ("shown", "", (SKIN_UNDER, SKIN_APART)),
        ("plain", " of the network alone", (None, None)),
    ):
        medians = []
        for ethnicity, of in people.items():
            apart = np.array([np.linalg.norm(getattr(sight, moment).skin - sight.photo.skin) for sight in of])
            apart = apart[np.isfinite(apart)]
            if not len(apart):
                continue
            medians.append(float(np.median(apart)))
            sense, error = bars[0] and UNDER, bootstrap(apart, np.median)
            name = f"skin CIELAB{said}, {ethnicity}"
            figures.append(Figure(name, model, medians[-1], bars[0], sense, error, len(apart), counts=model != "photo"))
        if medians:
            spread, sense = max(medians) - min(medians), bars[1] and AT_MOST
            name = f"skin CIELAB{said}, spread"
            figures.append(Figure(name, model, spread, bars[1], sense, counts=model != "photo"))
    return figures


def glasses(sights: Sequence[Sight], model: str, error_on_drawings: str) -> list[Figure]:
    """Share of pictures with glasses that keep them, and of those without that gain some, as shown. Of those with only
    where the judge, which misses a third of those that an eye sees, tells them in the photo."""
    figures = []
    for wears, what, bar, sense in ((True, "kept %", 80.0, AT_LEAST), (False, "gained %", 3.0, AT_MOST)):
        of = [sight for sight in sights if sight.case.wears_glasses == wears]
        seen = [sight.shown.glasses > 0.5 for sight in of if not wears or sight.photo.glasses > 0.5]
        if seen:
            value, error = 100 * float(np.mean(seen)), 100 * bootstrap(seen)
            figures.append(
                Figure(
                    f"glasses {what}", model, value, bar, sense, error, len(seen), error_on_drawings, model != "photo"
                )
            )
    return figures


def hard(sights: Sequence[Sight], model: str) -> list[Figure]:
    """Of each kind of hard picture: holes in the face, identity, glasses kept where they are worn."""
    figures = []
    for kind, of in by(sights, lambda sight: sight.case.kind).items():
        holes = [100 * sight.shown.holes for sight in of]
        alike = [float(sight.photo.vector @ sight.shown.vector) for sight in of]
        figures += [
            Figure(f"hard holes in the face %, {kind}", model, float(np.mean(holes)), pictures=len(of)),
            Figure(f"hard identity, {kind}", model, float(np.mean(alike)), error=bootstrap(alike), pictures=len(of)),
        ]
        worn = [sight.shown.glasses > 0.5 for sight in of if sight.case.wears_glasses and sight.photo.glasses > 0.5]
        if worn and kind == "glasses":
            name, kept = f"hard glasses kept %, {kind}", 100 * float(np.mean(worn))
            figures.append(Figure(name, model, kept, 80.0, AT_LEAST, pictures=len(worn), counts=model != "photo"))
    return figures


def paper(sights: Sequence[Sight], model: str) -> list[Figure]:
    """The same figures of the published few-shot pairs, whoever drew them."""
    figures = []
    for group in [name for name in TOLD_APART if any(sight.case.kind == name for sight in sights)]:
        of = [sight for sight in sights if sight.case.kind == group]
        alike = [float(sight.photo.vector @ sight.shown.vector) for sight in of]
        figures.append(Figure(f"paper identity, {group}", model, float(np.mean(alike)), pictures=len(of)))
        if group.startswith("young"):
            right = [(sight.shown.guess.female > 0.5) == (group == "young-women") for sight in of]
            figures.append(Figure(f"paper {group} called so %", model, 100 * float(np.mean(right)), pictures=len(of)))
        else:
            age = float(np.median([sight.shown.guess.age for sight in of]))
            figures.append(Figure(f"paper {group}, median age", model, age, pictures=len(of)))
    return figures
