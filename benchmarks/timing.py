"""How every benchmark here measures: interleaved rounds, medians, the machine named beside the figures."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from engine import machine
from livetoon.tables import table

__all__ = ["Timing", "described_machine", "interleaved", "percentile", "table"]

REST_S = 0.01  # between contenders: the threads of the one before stop spinning


@dataclass(frozen=True)
class Timing:
    """Milliseconds a call. cpu_ms: processor time of all threads of this process, median."""

    p50_ms: float
    p95_ms: float
    min_ms: float
    cpu_ms: float
    calls: int


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    per_round: int = 5,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Timing]:
    """Time every call in turn, `rounds` times: one warm-up and `per_round` timed calls of each in a round.

    What disturbs the machine for a while then disturbs all of them, so that ratios hold better than milliseconds.
    """
    wall: dict[str, list[float]] = {name: [] for name in calls}
    processor: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(rounds):
        for name, call in calls.items():
            time.sleep(REST_S)
            call()
            for _ in range(per_round):
                before, busy = time.perf_counter(), time.process_time()
                call()
                processor[name].append((time.process_time() - busy) * 1e3)
                wall[name].append((time.perf_counter() - before) * 1e3)
        progress(done + 1)
    return {
        name: Timing(
            p50_ms=percentile(took, 50),
            p95_ms=percentile(took, 95),
            min_ms=round(min(took), 3),
            cpu_ms=percentile(processor[name], 50),
            calls=len(took),
        )
        for name, took in wall.items()
    }


def percentile(values: Iterable[float], percent: float) -> float:
    """Rounded to a thousandth; for milliseconds that is a microsecond."""
    return round(float(np.percentile(list(values), percent)), 3)


def described_machine(packages: Sequence[str]) -> dict[str, object]:
    """Processor, cores, instruction sets, system, load, and the versions of `packages` that are installed."""
    return {
        "processor": machine.processor(),
        "cores": machine.cores(),
        "instruction_sets": list(machine.instruction_sets()),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
