"""How long the engines of a build take, in turn, so that what disturbs the machine disturbs all of them."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.build_engines import Compiled, Engine
from engine.runner import Runner, open_runner
from livetoon.progress import Progress

ROUNDS, LEAST_ROUNDS = 20, 3
ENOUGH_S = 15.0  # after which only the least rounds are made


def timed(engines: Sequence[Engine], source: Path, crops: np.ndarray, progress: Progress) -> list[dict[str, object]]:
    """`p50_ms` of each engine, and of the first that is int8 its `rival`, as Figures has them; nothing of plans that
    cannot run here.

    source: the model folder where the rival is opened. crops: (N, S, S, 3) uint8 RGB.
    """
    calls: dict[Hashable, Callable[[], object]] = {
        (index, batch): _call(engine.runner, crops, batch)
        for index, engine in enumerate(engines)
        for batch in engine.batches
        if engine.runner
    }
    if not calls:
        return [{} for _ in engines]
    first = engines[0]
    batch = first.batches[0]
    rival = _rival(first, source, progress)
    if rival:
        calls["rival"] = _call(rival, crops, batch)
    with progress.stage(f"timing {len(calls)} engines in turn"):
        took = p50_ms(calls)
    found = [
        {"p50_ms": {str(each): took[index, each] for each in engine.batches}} for index, engine in enumerate(engines)
    ]
    if rival:
        per_crop = {"p50_ms": took["rival"] / batch, "own_p50_ms": took[0, batch] / batch}
        found[0]["rival"] = {"precision": rival.spec.precision, **per_crop}
    return found


def p50_ms(calls: Mapping[Hashable, Callable[[], object]]) -> dict[Hashable, float]:
    """Median milliseconds of each call, one of each in a round; the first round warms up."""
    took: dict[Hashable, list[float]] = {name: [] for name in calls}
    began = time.monotonic()
    for done in range(ROUNDS + 1):
        if done > LEAST_ROUNDS and time.monotonic() - began > ENOUGH_S:
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            took[name].append((time.perf_counter() - start) * 1e3)
    return {name: round(float(np.median(each[1:])), 3) for name, each in took.items()}


def _call(runner: Runner, crops: np.ndarray, batch: int) -> Callable[[], object]:
    given = crops[np.arange(batch) % len(crops)]
    return lambda: runner(given)


def _rival(engine: Engine, source: Path, progress: Progress) -> Runner | None:
    """What an int8 engine must beat: the precision that this machine would take without it."""
    if engine.precision != "int8" or not isinstance(engine, Compiled):
        return None
    others = [each for each in engine.backend.precisions(engine.files.manifest.precisions) if each != "int8"]
    group = engine.files.group
    with progress.stage(f"{group}: opening {others[0]}, which int8 must beat"):
        return open_runner(source, group, engine.backend.backend_name, others[0], batches=engine.batches[:1])
