"""What a build tells: progress while it works, a table and one JSON object when it is done."""

import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata

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


class Progress:
    """Lines on standard error; on a terminal a stage that goes on is overwritten by what comes of it."""

    def __init__(self):
        self._stream = sys.stderr

    @contextmanager
    def stage(self, said: str) -> Iterator[None]:
        """A stage that takes a while: "young-women: compiling for openvino 2026.4.1 ... 1.2 s"."""
        began = time.monotonic()
        self.passing(f"{said} ...")
        yield
        self.line(f"{said} ... {time.monotonic() - began:.1f} s")

    def line(self, said: str) -> None:
        self._write(f"{said}\n")

    def passing(self, said: str) -> None:
        if self._stream.isatty():
            self._write(said[: shutil.get_terminal_size().columns - 1])
        else:
            self._write(f"{said}\n")

    def tick(self, said: str) -> None:
        """Signs of life that only somebody who watches wants."""
        if self._stream.isatty():
            self.passing(said)

    def _write(self, said: str) -> None:
        self._stream.write(f"\r\x1b[2K{said}" if self._stream.isatty() else said)
        self._stream.flush()


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
        "machine": {
            "processor": machine.processor(),
            "cores": machine.cores(),
            "instruction_sets": list(machine.instruction_sets()),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"livetoon": __version__, "python": platform.python_version(), **_versions()},
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


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
