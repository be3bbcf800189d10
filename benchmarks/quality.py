"""How good the cartoon itself is: `python -m benchmarks.quality [MODEL ...] --data DIR`.

    pairs       L1, SSIM and alpha on held-out pairs, before white and camera-like backgrounds
    kid         KID of held-out people's cartoons to their group's, against what the first branch draws of them
    identity    cosine of a face recognition network between input and output, the change of the face beside it
    kind        sex and age that a network trained on photos sees in the cartoons
    colours     CIELAB distance of cheeks, input to output, by ethnicity
    glasses     kept and gained, by our own network
    steadiness  change of successive outputs of the live pipeline, before a noisy still face and on clips
    hard        benchmarks/quality_hard.csv: glasses, beards, hats, bad light, dark skin, turned faces
    paper       the few-shot paper's own outputs (fewshot_groups) beside ours of the same photos

MODEL is a model of the zoo, a model folder, a run or a .safetensors file, drawn by the engine that serves it. The input
left as it is always stands beside it, and so does the baseline where its weights lie in --models.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from livetoon import cli
from livetoon.errors import UsageError
from livetoon.files import write_json
from livetoon.progress import Progress
from livetoon.tables import table

if TYPE_CHECKING:
    from benchmarks.quality_figures import Figure
    from benchmarks.quality_people import Case, Model, Photo

PACKAGES = ("openvino", "onnxruntime", "torch", "numpy", "opencv-python-headless")
PARTS = ("pairs", "kid", "identity", "kind", "colours", "glasses", "steadiness", "hard", "paper")
ON_PEOPLE = {"kid", "identity", "kind", "colours", "glasses"}
NEEDS = {
    "pairs": ("pairs/test",), "kid": ("fewshot_groups",), "paper": ("fewshot_groups",),
    "colours": ("utkface/table.csv",),
}  # fmt: skip
BASELINE, BASELINE_NAME = "live_baseline.safetensors", "baseline"  # a file of --models, and its row
HARD = Path(__file__).with_name("quality_hard.csv")
WEIGHTS_MB = 8.0


@dataclass
class Run:
    """What a run measures with, and what it found. rows: the baseline, the photo as it is, then the models. shown: the
    shares of own colours and lines that live video takes by default."""

    data: Path
    models: Path | None
    parts: frozenset[str]
    pictures: int | None
    rows: list["Photo | Model"]
    shown: tuple[float, float]
    progress: Progress
    figures: list["Figure"] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cases: list["Case"] = field(default_factory=list)
    hard_cases: list["Case"] = field(default_factory=list)
    clips: dict = field(default_factory=dict)


def pairs(run: Run) -> None:
    """As trainer.evaluate measures, by the engines; SSIM as the baseline's published figure was taken."""
    from benchmarks import quality_pairs

    run.notes.append(quality_pairs.NOTE)
    behind = run.data / "all_age_faces" / "images"
    scenes = quality_pairs.scenes(run.data / "pairs" / "test", behind if behind.is_dir() else None, run.pictures)
    for row in run.rows:
        run.progress.passing(f"pairs: {row.name}")
        run.figures += quality_pairs.figures(row, scenes)


def people(run: Run) -> None:
    """The parts that look at held-out people of the tables."""
    from benchmarks import quality_figures, quality_judges
    from benchmarks.quality_people import Cutter, cut_all, tables

    judges = quality_judges.Judges(run.parts & ON_PEOPLE, run.models)
    cutter = Cutter()
    rows = tables(run.data, run.pictures)
    wanted = [(person, source, "") for source, people in rows.items() for person in people]
    run.progress.passing(f"cutting {len(wanted)} held-out pictures")
    run.cases = cut_all(wanted, cutter, run.progress.tick)
    run.notes.append(f"a face found in {len(run.cases)} of {len(wanted)} held-out pictures")
    if "kid" in run.parts:
        real = quality_judges.cartoons_of(run.data, judges)
        run.notes.append(
            f"KID by {judges.features_name}; few-shot cartoons of the rare groups may have trained a model"
        )
    drawings = quality_judges.error_on_drawings(run.data) if "glasses" in run.parts else ""
    run.notes += [f"glasses: {drawings}"] if drawings else []
    photos: dict = {}
    bars = {} if run.rows[0].name == BASELINE_NAME else quality_figures.PUBLISHED_IDENTITY
    for row in run.rows:
        run.progress.passing(f"people: {row.name}")
        sights = judges.look(row, run.cases, run.shown, photos)
        if "kid" in run.parts:
            run.figures += quality_figures.kid(sights, real, row.name, row.groups)
        if "identity" in run.parts:
            found = quality_figures.identity(sights, row.name, bars)
            run.figures += found
            if row.name == BASELINE_NAME:
                bars = {figure.name: figure.value for figure in found}
        if "kind" in run.parts:
            run.figures += quality_figures.kinds(sights, row.name)
            run.figures += quality_figures.kinds(sights, row.name, "plain") if row.groups else []
        if "colours" in run.parts:
            run.figures += quality_figures.colours(sights, row.name)
        if "glasses" in run.parts:
            run.figures += quality_figures.glasses(sights, row.name, drawings)


def steadiness(run: Run) -> None:
    """Through the live pipeline; the input's own change is measured beside every model's."""
    from benchmarks import quality_motion

    frames = quality_motion.FRAMES if run.pictures is None else min(quality_motion.FRAMES, 3 * run.pictures)
    for row in run.rows:
        if not row.groups or row.name == BASELINE_NAME:
            continue
        run.progress.passing(f"steadiness: {row.name}, still face")
        run.figures += quality_motion.figures("noise", row.name, quality_motion.still(row, frames))
        clips = sorted((run.data / "video").glob("*.mp4"))
        run.notes += [] if clips else [f"steadiness: no clips, {run.data / 'video'} has no *.mp4"]
        for clip in clips:
            run.progress.passing(f"steadiness: {row.name}, {clip.name}")
            change = quality_motion.clip(row, clip, frames)
            run.clips.setdefault(clip.stem, {})[row.name] = change
            found = quality_motion.figures(clip.stem, row.name, change)
            run.notes += [] if found else [f"steadiness: {row.name} drew no face in {clip.name}"]
            run.figures += found


def hard(run: Run) -> None:
    """The list's pictures; those that are not in the data folder are left out, and said."""
    from benchmarks import quality_figures, quality_judges
    from benchmarks.quality_people import Cutter, cut_all, listed

    judges = quality_judges.Judges({"hard"}, run.models)
    wanted = listed(HARD, run.data, run.pictures)
    if missing := [person.file for person, _, _ in wanted if not person.path.is_file()]:
        run.notes.append(f"hard: {len(missing)} of {len(wanted)} pictures of {HARD.name} are not in {run.data}")
    run.hard_cases = cut_all([each for each in wanted if each[0].path.is_file()], Cutter(), run.progress.tick)
    photos: dict = {}
    for row in run.rows:
        run.progress.passing(f"hard: {row.name}")
        run.figures += quality_figures.hard(judges.look(row, run.hard_cases, run.shown, photos), row.name)


def paper(run: Run) -> None:
    """Everybody's drawings of the published photos, and the published drawings."""
    from benchmarks import quality_figures, quality_judges
    from benchmarks.quality_people import Cutter

    judges = quality_judges.Judges({"paper"}, run.models)
    found = quality_judges.published(run.data, Cutter())
    photos: dict = {}
    for row in run.rows:
        sights = judges.look(row, [case for case, _ in found], run.shown, photos)
        run.figures += quality_figures.paper(sights, row.name)
    theirs = [judges.sight(case, drawing) for case, drawing in found]
    run.figures += quality_figures.paper(theirs, "few-shot paper")
    run.notes.append("paper: a model that learned from fewshot_groups has seen these photos")


MEASURED = {"pairs": pairs, "steadiness": steadiness, "hard": hard, "paper": paper}


def measured(run: Run) -> dict[str, object]:
    """Everything that is asked for, JSON-ready."""
    from benchmarks import timing
    from benchmarks.quality_figures import AT_MOST, Figure

    machine = timing.described_machine(PACKAGES)
    for row in run.rows:
        if row.weights_mb is not None:
            run.figures.append(Figure("weights MB", row.name, row.weights_mb, WEIGHTS_MB, AT_MOST))
    if run.parts & ON_PEOPLE:
        people(run)
    for part in PARTS:
        if part in run.parts and part in MEASURED:
            MEASURED[part](run)
    return {
        "machine": machine,
        "pictures_per_group": run.pictures,
        "tone": run.shown[0],
        "detail": run.shown[1],
        "models": [
            {"name": row.name, "groups": row.groups, "arithmetic": row.arithmetic, "weights_mb": row.weights_mb}
            for row in run.rows
        ],
        "notes": run.notes,
        "figures": [figure.as_json() for figure in run.figures],
    }


def report(figures: Sequence["Figure"], notes: Sequence[str]) -> str:
    """One line a figure, one column a model; "no" beside what misses its bar."""
    models = list(dict.fromkeys(figure.model for figure in figures))
    rows: dict[str, dict[str, object]] = {}
    for figure in figures:
        row = rows.setdefault(figure.name, {"name": figure.name, "bar": "", **{model: "" for model in models}})
        error = f" ±{figure.error:.2g}" if figure.error is not None else ""
        row[figure.model] = f"{figure.value:.4g}{error}" + {True: " ok", False: " no", None: ""}[figure.holds]
        if figure.bar is not None:
            row["bar"] = f"{figure.sense} {figure.bar:.4g}"
        if figure.pictures is not None:
            row["of"] = figure.pictures
    columns = {"name": "figure", "bar": "bar", **{model: model for model in models}, "of": "of"}
    judged = {model: [f.holds for f in figures if f.model == model and f.holds is not None] for model in models}
    sums = [f"{model}: {sum(held)} of {len(held)} bars hold" for model, held in judged.items() if held]
    return "\n".join([table(list(rows.values()), columns), "", *sums, *notes])


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m benchmarks.quality",
        "Measure how good cartoons are, beside the photo as it is: likeness, kind, colours, glasses, steadiness.",
        "python -m benchmarks.quality runs/mine --data data --models models --json quality.json --sheet quality.jpg",
    )
    parser.add_argument(
        "model", nargs="*", metavar="MODEL", help="zoo name, folder, run or file (default: the shipped)"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of pairs, tables, clips")
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="public networks that judge (default: DATA/../models)"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas (default: all)")
    parser.add_argument(
        "--pictures", type=int, metavar="N", help="of each group and sex, 3 N frames of a clip (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and figures there")
    parser.add_argument("--sheet", type=Path, metavar="FILE.jpg", help="contact sheets, of people: not to be published")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options: argparse.Namespace) -> None:
    run = _opened(options)
    result = measured(run)
    print(report(run.figures, run.notes))
    if options.json:
        write_json(options.json, result)
    if options.sheet:
        _draw(options.sheet, run)


def _opened(options: argparse.Namespace) -> Run:
    """Options checked, then models opened."""
    from benchmarks.quality_people import TABLES

    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise UsageError(f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    if not options.data.is_dir():
        raise UsageError(f"--data: {options.data} is no folder")
    for part in parts:
        if missing := [name for name in NEEDS.get(part, ()) if not (options.data / name).exists()]:
            raise UsageError(f"--parts {part}: {options.data / missing[0]} is missing; leave the part out or add it")
        if part in ON_PEOPLE and not any((options.data / name / "table.csv").is_file() for name in TABLES):
            raise UsageError(f"--parts {part}: {options.data} has no table.csv in {' or '.join(TABLES)}; add one")
    if options.pictures is not None and options.pictures < 1:
        raise UsageError(f"--pictures {options.pictures}: expected 1 or more")
    cli.check_place("--sheet", options.sheet)
    models = options.models or options.data / ".." / "models"
    if options.models and not options.models.is_dir():
        raise UsageError(f"--models: {options.models} is no folder")

    import torch

    from benchmarks import quality_judges
    from benchmarks.quality_people import Model, Photo
    from streamer.pipeline import Settings

    torch.set_num_threads(1)  # the judges are small: on a busy machine two threads took 18 times as long, waiting
    models = models if models.is_dir() else None
    quality_judges.check(parts, models)
    rows: list[Photo | Model] = [Photo()]
    if models and (models / BASELINE).is_file():
        rows.insert(0, Model(str(models / BASELINE), BASELINE_NAME))  # first, because others are held against it
    for number, model in enumerate(options.model or ["live"]):
        opened = Model(model)
        if opened.name in [row.name for row in rows]:
            opened.name = f"{opened.name} {number + 1}"
        rows.append(opened)
    return Run(
        options.data, models, frozenset(parts), options.pictures, rows, (Settings().tone, Settings().detail), Progress()
    )


def _draw(file: Path, run: Run) -> None:
    from benchmarks import quality_sheet

    if run.cases:
        quality_sheet.groups(file, run.cases, run.rows, run.shown)
    if run.hard_cases:
        quality_sheet.hard(quality_sheet.beside(file, "hard"), run.hard_cases, run.rows, run.shown)
    quality_sheet.strips(file, run.clips)


if __name__ == "__main__":
    sys.exit(main())
