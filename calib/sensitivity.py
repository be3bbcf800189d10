"""Which ranges serve an INT8 graph best, and which of its convolutions must stay as they are.

compare   every method of calib.ranges for all convolutions at once; the best picture wins
scan      where that is not good enough: one convolution at a time in int8, the most harmful ones are kept,
          as many as it takes, as long as most of the work stays int8
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from calib.quantize import int8_convolutions, share, sources
from calib.ranges import activation_ranges

REPORTED = 20  # convolutions of a scan between two lines of progress
LEAST_SHARE = 0.8  # of the convolutions' work; with less in int8 a graph is not called INT8


@dataclass(frozen=True)
class Accuracy:
    """PSNR in dB against the float graph: mean over crops, and of the worst crop."""

    mean: float
    worst: float

    def reaches(self, bar: "Accuracy") -> bool:
        return self.mean >= bar.mean and self.worst >= bar.worst

    def __str__(self) -> str:
        return f"{self.mean:.1f} dB, worst crop {self.worst:.1f}"


@dataclass(frozen=True)
class Calibrated:
    """An INT8 graph and how it came about. method: of its ranges; kept: names of convolutions that stay float; share:
    of the convolutions' work that is int8."""

    model: ModelProto
    method: str
    ranges: dict[str, float]
    kept: tuple[str, ...]
    share: float
    accuracy: Accuracy


def calibrated(
    model: ModelProto,
    crops: Sequence[np.ndarray],
    judge: Callable[[ModelProto], Accuracy],
    bar: Accuracy,
    report: Callable[[str], None] = lambda line: None,
    batch: int = 1,
) -> Calibrated:
    """`model` (float32) with int8 convolutions, as accurate as `bar` where that leaves LEAST_SHARE of the work in int8,
    otherwise as accurate as that allows.

    crops: (3, S, S) float32 in [-1, 1], to take ranges from. judge: runs a graph on other crops and compares.
    """
    found = _best_ranges(model, crops, judge, report, batch)
    if found.accuracy.reaches(bar):
        return found
    order = _scan(model, found.ranges, judge, report)
    kept: list[str] = []
    for name in order:
        if share(model, [*kept, name]) < LEAST_SHARE:
            continue
        kept.append(name)
        found = _with(model, found.method, found.ranges, kept, judge)
        report(f"{len(kept)} convolutions stay float: {found.accuracy}, {found.share:.0%} of the work in int8")
        if found.accuracy.reaches(bar):
            break
    return found


def _best_ranges(
    model: ModelProto,
    crops: Sequence[np.ndarray],
    judge: Callable[[ModelProto], Accuracy],
    report: Callable[[str], None],
    batch: int,
) -> Calibrated:
    tried = []
    for method, ranges in activation_ranges(model, set(sources(model).values()), crops, batch).items():
        tried.append(_with(model, method, ranges, (), judge))
        report(f"ranges by {method}: {tried[-1].accuracy}")
    return max(tried, key=lambda each: each.accuracy.mean)


def _scan(
    model: ModelProto,
    ranges: dict[str, float],
    judge: Callable[[ModelProto], Accuracy],
    report: Callable[[str], None],
) -> list[str]:
    """Names of the convolutions, the one that harms most when it alone is int8 first."""
    names = list(sources(model))
    harm = {}
    for done, name in enumerate(names, start=1):
        harm[name] = judge(int8_convolutions(model, ranges, set(names) - {name})).mean
        if done % REPORTED == 0 or done == len(names):
            report(f"scan: {done} of {len(names)} convolutions alone in int8")
    order = sorted(names, key=harm.__getitem__)
    report("most harmful: " + ", ".join(f"{name} {harm[name]:.1f} dB" for name in order[:3]))
    return order


def _with(
    model: ModelProto,
    method: str,
    ranges: dict[str, float],
    kept: Collection[str],
    judge: Callable[[ModelProto], Accuracy],
) -> Calibrated:
    quantized = int8_convolutions(model, ranges, kept)
    return Calibrated(quantized, method, ranges, tuple(kept), share(model, kept), judge(quantized))
