"""One group's engine as `python -m engine.build` makes it: found or compiled, and its figures.

Compiled    for this machine, by the backend that runs it
Ahead       by TensorRT for RTX for cards of other machines; it cannot run here, so the graph in it is compared
"""

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from engine import machine
from engine.backends import LATENCY, Backend, Options, fields_of, slot
from engine.cache import Cache, cache_of
from engine.manifest import WEIGHTS, ModelFiles
from engine.proof import Crops, graph_drawn
from engine.runner import Runner, open_runner

FIGURES = 1  # version of what is kept of a build
Report = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """What a build found out about one engine.

    precision: as it was asked for, or "mixed" where little of the work is int8; arithmetic: what it computes in.
    bytes: of the compiled engine, else of graph and weights. build_s: seconds; None where it came from the cache.
    reference: what drew the pictures that it was compared with; compared: "engine", or "graph" where no engine could
    run here. psnr_mean_db, psnr_worst_db: over range 2; largest_error: of RGB in [-1, 1] or alpha in [0, 1].
    p50_ms: batch -> milliseconds of a call. rival: what int8 was timed against, its precision, p50_ms and own_p50_ms.
    slots: of the cache, which the engine fills.
    """

    group: str
    precision: str
    arithmetic: str
    device: str
    threads: int | None
    bytes: int
    build_s: float | None
    reference: str
    compared: str
    psnr_mean_db: float
    psnr_worst_db: float
    largest_error: float
    p50_ms: Mapping[str, float] = field(default_factory=dict)
    rival: Mapping[str, object] | None = None
    slots: tuple[str, ...] = ()


class Engine(Protocol):
    """Before it is made: where it will be found. After `make`: what draws, and its runner where this machine has it."""

    files: ModelFiles
    precision: str
    batches: tuple[int, ...]
    name: str  # of what makes it
    title: str  # with its version
    compared: str
    runner: Runner | None

    @property
    def keys(self) -> Mapping[str, Mapping[str, object]]:
        """Slot of the cache -> fields."""
        ...

    def make(self, report: Report) -> None: ...

    def infer(self, x: np.ndarray) -> np.ndarray:
        """x (N, 3, S, S) float32 RGB in [-1, 1] -> (N, 4, S, S): RGB in [-1, 1], alpha in [0, 1]."""
        ...


class Compiled:
    """By `backend`, through the door that livetoon itself opens it by."""

    compared = "engine"

    def __init__(self, files: ModelFiles, backend: type[Backend], precision: str, batches: tuple[int, ...]):
        self.files, self.precision, self.batches = files, precision, batches
        self.runner: Runner | None = None
        self.backend = backend
        version = getattr(importlib.import_module(backend.library), "__version__", "")
        self.name = backend.backend_name
        self.title = f"{self.name} {version.partition('-')[0]}"

    @cached_property
    def keys(self) -> Mapping[str, Mapping[str, object]]:
        return self.backend.engine_keys(self.files, self.precision, Options(batches=self.batches))

    def make(self, report: Report) -> None:
        self.runner = open_runner(
            self.files.folder, self.files.group, self.backend.backend_name, self.precision, batches=self.batches
        )

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.runner.infer(x)


class Ahead:
    """A plan for the cards `targets`, which this machine need not have."""

    compared = "graph"
    runner = None

    def __init__(self, files: ModelFiles, targets: tuple[str, ...], precision: str, batches: tuple[int, ...]):
        from engine.tensorrt_engines import Recipe
        from engine.tensorrt_plans import RTX, check_targets, library, version

        targets = check_targets(targets, precision)
        self.files, self.precision, self.batches, self.targets = files, precision, batches, targets
        self._recipe = Recipe(files, precision, batches, RTX, targets)
        self.name = "-".join(["tensorrt-rtx", *targets])
        self.title = f"{version(library(RTX))} for {', '.join(targets)}"

    @cached_property
    def keys(self) -> Mapping[str, Mapping[str, object]]:
        return dict([self._recipe.key])

    def make(self, report: Report) -> None:
        from engine.tensorrt_engines import build_ahead

        build_ahead(self.files, self.precision, self.targets, self.batches, cache_of(self.files.folder), report)

    def infer(self, x: np.ndarray) -> np.ndarray:
        """As a card computes it: what is half precision in the graph is rounded to it."""
        from calib.half import rounding
        from engine.graphs import read_graph

        if self.precision == "fp32":
            model = read_graph(self.files, "fp32")
        else:
            model = rounding(read_graph(self.files, self.precision, rest="fp16"))
        return graph_drawn(model.SerializeToString(), x, self.files.manifest.batch or 1)


class Kept:
    """Figures of `engine` in the cache beside it, valid as long as nothing that decides them has changed."""

    def __init__(self, engine: Engine, crops: Crops):
        files = engine.files
        self._engine = engine
        self.cache: Cache = cache_of(files.folder)
        sizes = f"batch{'.'.join(map(str, engine.batches))}"
        self._slot = slot(files, files.group, engine.name, engine.precision, sizes, "figures")
        own = next(iter(engine.keys.values()), {})
        self._fields = {
            "figures": FIGURES,
            **fields_of(files, engine.precision, LATENCY),
            "backend": engine.title,
            **{name: value for name, value in own.items() if name != "batch"},
            "batches": engine.batches,
            "processor": machine.processor(),
            "cores": machine.cores(),
            "crops": crops.digest,
        }

    def load(self) -> Figures | None:
        """None where anything is missing, altered or for other fields, which the log then names."""
        stored = self.cache.load(self._slot, self._fields)
        if stored is None:
            return None
        figures = Figures(**json.loads(stored))
        keys = self._engine.keys
        whole = not keys or (set(figures.slots) == set(keys) and self.has_engine)
        return replace(figures, slots=tuple(figures.slots)) if whole else None

    @cached_property
    def has_engine(self) -> bool:
        """Whether it was there before, whole."""
        keys = self._engine.keys
        return bool(keys) and all(self.cache.load(*key) is not None for key in keys.items())

    @property
    def filled(self) -> tuple[str, ...]:
        return tuple(name for name, fields in self._engine.keys.items() if self.cache.has(name, fields))

    @property
    def bytes(self) -> int:
        """Of the engine; where none is kept of its graph and the model's weights."""
        files = self._engine.files
        paths = [self.cache.path(name) for name in self.filled]
        return sum(path.stat().st_size for path in paths or _graph_files(files, self._engine.precision))

    def store(self, figures: Figures) -> bool:
        """Whether the cache could keep them, and the engine before."""
        if self.filled != tuple(self._engine.keys):
            return False
        self.cache.store(self._slot, self._fields, json.dumps(asdict(figures)).encode())
        return self.cache.has(self._slot, self._fields)

    def drop(self) -> None:
        """An engine that draws too badly is not kept."""
        for name in (*self._engine.keys, self._slot):
            self.cache.remove(name)


def _graph_files(files: ModelFiles, precision: str) -> list[Path]:
    return [files.graph(precision), files.folder / WEIGHTS]


def label(files: ModelFiles, precision: str) -> str:
    """What a precision may be called: with too little of its work in int8 an engine is not INT8 but mixed."""
    told = files.manifest.int8.get(files.group, {})
    if precision != "int8" or "share" not in told:
        return precision
    from calib.sensitivity import LEAST_SHARE

    return "int8" if told["share"] >= LEAST_SHARE else f"mixed ({told['share']:.0%} int8)"
