"""How every benchmark here measures: interleaved rounds, medians, the machine named beside the figures."""

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import machine
from livetoon.tables import table

__all__ = ["Effort", "Timing", "described_machine", "interleaved", "percentile", "resident", "table", "timed"]

REST_S = 0.01  # between contenders: the threads of the one before stop spinning
COLD_BELOW_S = 0.3  # a call that is shorter notices that its threads slept and its caches were used by others
Sample = tuple[float, float]  # milliseconds of a call: on the wall, and of the processor, all threads of the process


@dataclass(frozen=True)
class Timing:
    """Milliseconds a call. cpu_ms: processor time of all threads of its process, median. Of fewer than 100 calls the
    99th percentile is about the longest one."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    min_ms: float
    cpu_ms: float
    calls: int


@dataclass(frozen=True)
class Effort:
    """How long to measure: the rounds, the most calls of a contender in one, and the seconds that its calls may take in
    a round and in all (its first and `least` calls are made however long they take)."""

    rounds: int
    per_round: int = 5
    round_s: float = math.inf
    all_s: float = math.inf
    least: int = 1


def timed(call: Callable[[], object], most: int, seconds: float, warm_up: bool) -> list[Sample]:
    """Up to `most` calls, one at least, until `seconds` have passed; before them one that does not count."""
    if warm_up:
        call()
    found: list[Sample] = []
    while not found or (len(found) < most and sum(wall for wall, _ in found) < seconds * 1e3):
        before, busy = time.perf_counter(), time.process_time()
        call()
        processor, wall = time.process_time() - busy, time.perf_counter() - before
        found.append((wall * 1e3, processor * 1e3))
    return found


def interleaved(
    contenders: Mapping[str, Callable[[int, float, bool], list[Sample]]],
    effort: Effort,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Timing]:
    """Measure every contender in turn, round by round; each is `timed` of a call, here or in another process.

    What disturbs the machine for a while then disturbs all of them, so that ratios hold better than milliseconds.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for done in range(effort.rounds):
        for name, measure in contenders.items():
            had = samples[name]
            spent = sum(wall for wall, _ in had) / 1e3
            if spent >= effort.all_s and len(had) >= effort.least:
                continue
            time.sleep(REST_S)
            warm_up = not had or had[-1][0] < COLD_BELOW_S * 1e3
            had += measure(effort.per_round, effort.round_s, warm_up)
        progress(done + 1)
    return {name: _summary(found) for name, found in samples.items()}


def _summary(samples: Sequence[Sample]) -> Timing:
    wall, processor = zip(*samples, strict=True)
    return Timing(
        p50_ms=percentile(wall, 50),
        p95_ms=percentile(wall, 95),
        p99_ms=percentile(wall, 99),
        min_ms=round(min(wall), 3),
        cpu_ms=percentile(processor, 50),
        calls=len(wall),
    )


def percentile(values: Iterable[float], percent: float) -> float:
    """Rounded to a thousandth; for milliseconds that is a microsecond."""
    return round(float(np.percentile(list(values), percent)), 3)


def described_machine(packages: Sequence[str]) -> dict[str, object]:
    """Processor, cores, instruction sets, system, load, and the versions of `packages` that are installed."""
    return {
        **machine.described(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": machine.versions(packages),
    }


def resident() -> tuple[int, int]:
    """Bytes of this process in memory, now and at its peak.

    Linux says both in /proc; getrusage's peak there may be the parent's. Elsewhere the peak stands for both.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak
    said = dict(line.split(":", 1) for line in lines)
    return tuple(int(said[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
