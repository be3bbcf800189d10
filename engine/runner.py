"""The contract of an engine, and the only door to one: `open_runner`.

crops (N, S, S, 3) uint8 RGB -> runner -> pictures (N, S, S, 4) uint8 RGBA
"""

import logging
import os
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine import backends, manifest
from engine.cache import Cache
from engine.from_run import playable
from livetoon.errors import EngineError, UsageError
from livetoon.files import user_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerSpec:
    """What a runner runs, and where. size: side S of a crop in px; precision: of the arithmetic."""

    name: str
    network: str
    group: str
    size: int
    precision: str
    backend: str
    device: str
    threads: int


class Runner(Protocol):
    """One group of one model, ready to run. May be called from several threads; they wait for each other."""

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

    A backend implements `_pictures` and `_rgba` for inputs that are right, contiguous and not empty.
    """

    def __init__(self, spec: RunnerSpec):
        self.spec = spec
        self._lock = threading.Lock()

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        side = self.spec.size
        _check(self.spec, crops, np.uint8, (side, side, 3))
        if len(crops) == 0:
            return np.empty((0, side, side, 4), np.uint8)
        with self._lock:
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
) -> Runner:
    """Open `group` (None: the basic one) of `model`: a name in the zoo, a model folder, or a training run, of which
    the newest checkpoint is exported first (from_run.py).

    backend: "auto" takes the first that is installed, OpenVINO before ONNX Runtime. precision: "auto" takes the
    fastest that this machine has and the model was made for. threads: None takes the fewest that are quick enough,
    measured once.
    UsageError for a name that does not exist, ModelError for files that are missing or altered, EngineError when
    no backend can run the model. Compiled engines are kept in the user's cache folder.
    """
    files = manifest.open_files(playable(model), group)
    cache = Cache(user_folder())
    if threads is not None and threads < 1:
        raise UsageError(f"threads {threads}: expected 1 or more")
    reasons = []
    for candidate in backends.candidates(backend):
        try:
            precisions = candidate.precisions(files.manifest.precisions)
        except (ImportError, OSError) as error:
            log.warning("%s cannot be loaded: %s", candidate.backend_name, error)
            reasons.append(f"{candidate.backend_name} cannot be loaded: {error}")
            continue
        if precision not in ("auto", *precisions):
            raise UsageError(
                f"precision {precision!r}: {candidate.backend_name} on this machine runs model "
                f"{files.manifest.name} in {', '.join(precisions)}; choose one of these or auto"
            )
        runner = candidate(files, precisions[0] if precision == "auto" else precision, threads, cache)
        log.debug("opened %s", runner.spec)
        return runner
    raise EngineError(
        f"no backend can be used ({'; '.join(reasons) or 'none is installed'}): pip install openvino or onnxruntime"
    )


def _check(spec: RunnerSpec, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.ndim != 4 or array.shape[1:] != shape:
        wanted = ", ".join(map(str, ("N", *shape)))
        raise EngineError(
            f"model {spec.name} takes arrays ({wanted}) of {np.dtype(dtype)}, got {array.shape} of {array.dtype}"
        )
