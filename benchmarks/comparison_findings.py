"""What a comparison's figures show, as sentences: what a paper claims, and whether it shows here."""

from dataclasses import dataclass

import numpy as np

from benchmarks.comparison_data import STYLE

UNCHANGED = "photo unchanged"  # the row that tells what KID is when nothing is learned
BASIC, RARE, ALL = "the basic group", "the rare groups", "all groups"
SURE = 2.0  # standard errors from which a difference is called one


@dataclass(frozen=True)
class Claim:
    """The source says that `ours` comes nearer to the drawings than `other`, in the groups `where`."""

    ours: str
    other: str
    where: str
    source: str


_FEW_SHOT, _WEBTOON, _KEYPOINT = "arXiv 2007.13332", "Face2Webtoon", "the keypoint report"
CLAIMS = (
    Claim("fewshot", "fewshot-no-selective", RARE, f"{_FEW_SHOT} (selective backpropagation)"),
    Claim("fewshot", "fewshot-no-selective", BASIC, f"{_FEW_SHOT} (selective backpropagation)"),
    *(Claim("fewshot", name, RARE, _FEW_SHOT) for name in ("basic", "baseline1", "baseline2", "baseline3")),
    Claim("face2webtoon-group", "face2webtoon-finetune", ALL, f"{_WEBTOON} (group loss)"),
    Claim("face2webtoon-ada", "face2webtoon-group", ALL, f"{_WEBTOON} (ADA)"),
    *(Claim("keypoint2", name, STYLE, _KEYPOINT) for name in ("ugatit-light", "keypoint1", "keypoint3")),
)


def findings(rows: list[dict], basic: str) -> list[str]:
    """One sentence for every claim whose two methods are among the rows. A difference is called one from two standard
    errors on, taken over the same photos left out of both (paired). First: whether the methods draw at all."""
    found = {row["preset"]: row for row in rows}
    sentences = [
        _sentence(claim, found[claim.ours], found[claim.other], basic)
        for claim in CLAIMS
        if claim.ours in found and claim.other in found
    ]
    ada = [_ada(row) for row in rows if "ada_strength" in row]
    return ([_drawn_at_all(found, basic)] if UNCHANGED in found and len(found) > 1 else []) + sentences + ada


def _drawn_at_all(found: dict[str, dict], basic: str) -> str:
    """Told by the group with many drawings, or the style: the distance to two or three drawings says little of that."""
    learned = {name: row for name, row in found.items() if name != UNCHANGED}
    before = found[UNCHANGED]["kid"]
    nearer = {
        name: [group for group, value in row["kid"].items() if value < before[group]] for name, row in learned.items()
    }
    drawing = [name for name, groups in nearer.items() if {basic, STYLE} & set(groups)]
    everywhere = [name for name, groups in nearer.items() if len(groups) == len(learned[name]["kid"])]
    few = len(drawing) < len(learned) / 2
    said = "what follows compares methods that do not draw yet" if few else "most of them draw"
    where = " or ".join(name for name in (basic, STYLE) if any(name in row["kid"] for row in learned.values()))
    named = f" ({', '.join(drawing)})" if drawing else ""
    return (
        f"After these steps {len(drawing)} of {len(learned)} methods{named} are nearer to the drawings of {where} than "
        f"the photos are as they were, {len(everywhere)} in every group: {said}."
    )


def _sentence(claim: Claim, ours: dict, other: dict, basic: str) -> str:
    groups = [name for name in ours["kid"] if claim.where in (ALL, STYLE) or (name == basic) == (claim.where == BASIC)]
    kids = [1000 * float(np.mean([row["kid"][name] for name in groups])) for row in (ours, other)]
    difference, error = kids[0] - kids[1], 1000 * _error(ours, other, groups)
    if abs(difference) < SURE * error:
        said = f"no difference that these photos show, although {claim.source} says lower"
    elif difference < 0:
        said = f"lower, as {claim.source} says"
    else:
        said = f"higher, against what {claim.source} says"
    return (
        f"{claim.ours} against {claim.other}, {claim.where}: KID x 1000 {kids[0]:.1f} against {kids[1]:.1f}, "
        f"difference {difference:+.1f} ± {error:.1f}: {said}."
    )


def _error(ours: dict, other: dict, groups: list[str]) -> float:
    """Standard error of the mean difference over groups, whose photos are independent (jackknife)."""
    squares = 0.0
    for name in groups:
        pairs = np.array(ours["folds"][name]) - np.array(other["folds"][name])
        squares += (len(pairs) - 1) * float(((pairs - pairs.mean()) ** 2).mean()) if len(pairs) else float("inf")
    return squares**0.5 / len(groups)


def _ada(row: dict) -> str:
    strengths = ", ".join(f"{value:.3f} on {domain}s" for domain, value in row["ada_strength"].items())
    return f"{row['preset']}: ADA's strength at the end is {strengths}, of at most 1."
