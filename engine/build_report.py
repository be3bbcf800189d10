"""What a build tells: progress while it works, a table and one JSON object when it is done."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from engine import machine
from engine.build_engines import Figures
from engine.manifest import Manifest
from livetoon import __version__
from livetoon.tables import table

LEVELS = 255 / 2  # of 8 bits, in a range of 2
PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "torch")
COLUMNS = {
    "group": "group",
    "precision": "precision",
    "arithmetic": "computes in",
    "batch": "batch",
    "megabytes": "size MB",
    "build_s": "build s",
    "p50_ms": "p50 ms",
    "psnr_mean_db": "PSNR mean",
    "psnr_worst_db": "worst dB",
    "levels": "error /255",
    "compared": "compared",
    "cached": "cached",
}


@dataclass(frozen=True)
class Line:
    """One engine of a build. cached: whether it was there before; kept: whether it will be there the next time."""

    figures: Figures
    cached: bool
    kept: bool
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Built:
    """A whole build. engines: slot of the cache -> the fields that decide what is in it."""

    model: Manifest
    title: str
    crops: str
    lines: Sequence[Line]
    engines: Mapping[str, Mapping[str, object]]
    folder: str
    advice: str | None


def described(built: Built) -> dict[str, object]:
    """One object for `--json` and build.json; a row for each engine and batch."""
    return {
        "version": 1,
        "model": built.model.name,
        "network": built.model.network,
        "size": built.model.size,
        "backend": built.title,
        "machine": machine.described(),
        "versions": {"livetoon": __version__, "python": platform.python_version(), **machine.versions(PACKAGES)},
        "crops": built.crops,
        "rows": [row for line in built.lines for row in _rows(line)],
        "advice": built.advice,
        "engines": built.engines,
    }


def _rows(line: Line) -> list[dict[str, object]]:
    figures = asdict(line.figures)
    p50_ms = figures.pop("p50_ms")
    return [
        {**figures, "batch": batch, "p50_ms": p50_ms.get(str(batch)), "cached": line.cached, "kept": line.kept}
        for batch in line.batches
    ]


def summary(built: Built) -> str:
    """The table, and what must be said of the build."""
    rows = []
    for line in built.lines:
        figures = line.figures
        for index, batch in enumerate(line.batches):
            row = {"group": figures.group, "precision": figures.precision, "batch": batch}
            rows.append(row | {"p50_ms": figures.p50_ms.get(str(batch)), "arithmetic": figures.arithmetic})
            rows[-1]["cached"] = "yes" if line.cached else "no"
            if index == 0:  # the rest is of one engine for all batches
                rows[-1] |= {
                    "megabytes": figures.bytes / 1e6,
                    "build_s": figures.build_s,
                    "psnr_mean_db": figures.psnr_mean_db,
                    "psnr_worst_db": figures.psnr_worst_db,
                    "levels": figures.largest_error * LEVELS,
                    "compared": figures.compared,
                }
    where = "in" if all(line.kept for line in built.lines) else "not all of it could be kept in"
    said = [table(rows, COLUMNS), f"{built.model.name}, {built.model.size} px, {built.title}; {where} {built.folder}"]
    return "\n".join([*said, *filter(None, [built.advice])])


def advice(figures: Sequence[Figures], title: str) -> str | None:
    """What int8 is good for, where it is asked for."""
    told = next((each for each in figures if each.rival), None)
    if told is None:
        if any(each.arithmetic == "int8" and each.compared == "graph" for each in figures):
            return "int8 is not timed without the card: build --precision fp16 too, and keep the faster one there"
        return None
    rival, own, other = told.rival["precision"], told.rival["own_p50_ms"], told.rival["p50_ms"]
    if own < other:
        return f"{told.precision}: {own:.1f} ms a crop where {rival} takes {other:.1f}, {other / own:.2f} times as fast"
    return (
        f"{told.precision} is not faster with {title} on this machine: {own:.1f} ms a crop, {rival} takes {other:.1f}; "
        f"build --precision {rival} instead"
    )
