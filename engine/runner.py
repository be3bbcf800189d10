"""The contract of an engine, and the only door to one: `open_runner`.

crops (N, S, S, 3) uint8 RGB -> runner -> pictures (N, S, S, 4) uint8 RGBA
"""

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine import backends, manifest
from engine.backends import LATENCY, MODES, UNUSABLE, Backend, Options
from engine.cache import cache_of
from engine.from_run import playable
from engine.manifest import Manifest, ModelFiles
from livetoon.errors import EngineError, UsageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerSpec:
    """What a runner runs, and where.

    size: side S of a crop in px. precision: as it was asked for. arithmetic: what most of it is really computed in,
    "f32", "f16", "bf16" or "int8". alpha: whether the network draws one; without, it is 255 everywhere. own_lines: as
    the manifest has it. on_card: whether a graphics card computes it.
    """

    name: str
    network: str
    group: str
    size: int
    precision: str
    backend: str
    device: str
    threads: int
    arithmetic: str
    alpha: bool = True
    own_lines: bool = True
    on_card: bool = False


def spec_of(
    files: ModelFiles,
    precision: str,
    backend: str,
    device: str,
    threads: int,
    arithmetic: str,
    on_card: bool = False,
) -> RunnerSpec:
    """The spec of a runner for `files`."""
    described = files.manifest
    model = (described.name, described.network, files.group, described.size)
    kind = (described.alpha, described.own_lines)
    return RunnerSpec(*model, precision, backend, device, threads, arithmetic, *kind, on_card)


class Runner(Protocol):
    """One group of one model, ready to run. May be called from several threads: for throughput they share the streams,
    for latency they wait for each other."""

    spec: RunnerSpec

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """crops (N, S, S, 3) uint8 RGB -> (N, S, S, 4) uint8 RGBA, a new array; EngineError for anything else."""
        ...

    def infer(self, x: np.ndarray) -> np.ndarray:
        """x (N, 3, S, S) float32 RGB in [-1, 1] -> (N, 4, S, S) float32: RGB in [-1, 1], alpha in [0, 1].

        For comparing accuracy: made ready by the first call, not tuned for speed.
        """
        ...


class CheckedRunner:
    """What every backend's runner shares: inputs checked, one call at a time, colours back in [-1, 1].

    A backend implements `_pictures` and `_rgba` for inputs that are right, contiguous and not empty. at_once: whether
    several threads may be in `_pictures`.
    """

    def __init__(self, spec: RunnerSpec, at_once: bool = False):
        self.spec = spec
        self._lock = threading.Lock()
        self._turn = contextlib.nullcontext() if at_once else self._lock

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        side = self.spec.size
        _check(self.spec, crops, np.uint8, (side, side, 3))
        if len(crops) == 0:
            return np.empty((0, side, side, 4), np.uint8)
        with self._turn:
            return self._pictures(np.ascontiguousarray(crops))

    def infer(self, x: np.ndarray) -> np.ndarray:
        side = self.spec.size
        _check(self.spec, x, np.float32, (3, side, side))
        if len(x) == 0:
            return np.empty((0, 4, side, side), np.float32)
        with self._lock:
            rgba = self._rgba(np.ascontiguousarray(x))
        rgba[:, :3] = rgba[:, :3] * 2 - 1
        return rgba

    def _pictures(self, crops: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _rgba(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def open_runner(
    model: str | os.PathLike = "live",
    group: str | None = None,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    batches: Sequence[int] = (1,),
    mode: str = LATENCY,
) -> Runner:
    """Open `group` (None: the basic one) of `model`: a name in the zoo, a model folder, or a training run, of which
    the newest checkpoint is exported first (from_run.py).

    backend: "auto" takes the first that can be used, an NVIDIA card's before OpenVINO and that before ONNX Runtime.
    precision: "auto" takes the fastest that this machine has and the model was made for. threads: None takes the
    fewest that are quick enough, measured once. batches: sizes that engines are compiled for; any number of crops is
    cut into the largest that fit, the last one padded. mode: "latency", one crop as soon as possible, or "throughput",
    as many crops a second as possible.
    UsageError for an option that cannot be, ModelError for files that are missing or altered, EngineError when no
    backend can run the model. Compiled engines are kept in the model folder's `engines`, where there is one, or in the
    user's cache folder.
    """
    files = manifest.open_files(playable(model), group)
    options = _options(files.manifest, threads, batches, mode)
    candidate, chosen = choose(backend, precision, files.manifest.precisions, files.manifest.name)
    runner = candidate(files, chosen, options, cache_of(files.folder))
    log.debug("opened %s", runner.spec)
    return runner


def choose(backend: str, precision: str, stored: Sequence[str], name: str) -> tuple[type[Backend], str]:
    """The backend that `open_runner` takes, and the precision. Loads its library, opens nothing.

    stored: precisions that model `name` has graphs for. Errors as of `open_runner`.
    """
    unusable, without = [], []
    for candidate in backends.candidates(backend):
        try:
            precisions = candidate.precisions(stored)
        except UNUSABLE as error:
            log.debug("%s cannot be used: %s", candidate.backend_name, error)
            unusable.append(f"{candidate.backend_name} cannot be used: {error}")
            continue
        if precision in ("auto", *precisions):
            return candidate, precisions[0] if precision == "auto" else precision
        without.append(f"{candidate.backend_name} in {', '.join(precisions)}")
    if without:
        raise UsageError(
            f"precision {precision!r}: model {name} is run on this machine by {', by '.join(without)}; "
            "choose one of these or auto"
        )
    if backend != "auto":
        raise EngineError(unusable[0])
    raise EngineError(
        f"no backend can be used ({'; '.join(unusable) or 'none is installed'}): pip install openvino or onnxruntime"
    )


def _options(described: Manifest, threads: int | None, batches: Sequence[int], mode: str) -> Options:
    if threads is not None and threads < 1:
        raise UsageError(f"threads {threads}: expected 1 or more")
    if mode not in MODES:
        raise UsageError(f"mode {mode!r}: expected {' or '.join(MODES)}")
    if not batches or any(type(batch) is not int or batch < 1 for batch in batches):
        raise UsageError(f"batches {batches!r}: expected whole numbers from 1 up, as (1, 4)")
    return Options(threads, described.batches(tuple(sorted(set(batches))), f"batches {batches!r}"), mode)


def _check(spec: RunnerSpec, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.ndim != 4 or array.shape[1:] != shape:
        wanted = ", ".join(map(str, ("N", *shape)))
        raise EngineError(
            f"model {spec.name} takes arrays ({wanted}) of {np.dtype(dtype)}, got {array.shape} of {array.dtype}"
        )
