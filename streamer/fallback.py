"""Goes on by the processor when the graphics card fails: taken by another program, or lost while it draws."""

import contextlib
import logging
import os
import threading

import numpy as np

from engine import machine
from engine.runner import Runner, RunnerSpec, open_runner
from livetoon.errors import EngineError, UsageError

log = logging.getLogger("livetoon.server")

PROCESSOR = ("openvino", "onnxruntime")  # backends, the quicker one first
NOTICE = "The graphics card failed, so the processor draws, more slowly. Start livetoon again to try the card anew."


def open_lasting(model: str | os.PathLike, group: str, backend: str, precision: str) -> Runner:
    """As `open_runner`, but what runs on a card is a `Fallback`; and where there is a card that "auto" cannot use, the
    processor's backend is opened at once. A backend that was asked for by name has to open."""
    try:
        runner = open_runner(model, group, backend, precision)
    except EngineError as error:
        if backend != "auto" or not machine.nvidia_gpus():
            raise
        spare = _by_processor(model, group, precision, error)
        _tell(spare.spec, error)
        return Fallback(spare, model, precision, NOTICE)
    return Fallback(runner, model, precision) if runner.spec.on_card else runner


class Fallback:
    """A runner that another one replaces when it fails. notice: what the page has to be told, "" while all is well."""

    def __init__(self, runner: Runner, model: str | os.PathLike, precision: str, notice: str = ""):
        self._runner, self._model, self._precision = runner, model, precision
        self._spare: Runner | None = None
        self._turn = threading.Lock()
        self.notice = notice

    @property
    def spec(self) -> RunnerSpec:
        return self._runner.spec

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """As the runner: crops (N, S, S, 3) uint8 RGB -> (N, S, S, 4) uint8 RGBA."""
        runner = self._runner
        try:
            return runner(crops)
        except Exception as error:  # every library says in its own way that its device is gone
            with self._turn:
                if self._runner is runner and not self.notice:
                    return self._replaced(crops, error)
            if self._runner is runner:
                raise
            return self._runner(crops)

    def infer(self, x: np.ndarray) -> np.ndarray:
        """As the runner; for comparing, so without another to take over."""
        return self._runner.infer(x)

    def _replaced(self, crops: np.ndarray, error: Exception) -> np.ndarray:
        """The same crops by the processor, which stays; what it cannot draw either was no fault of the card's."""
        self._spare = self._spare or _by_processor(self._model, self.spec.group, self._precision, error)
        drawn = self._spare(crops)
        _tell(self._spare.spec, error)
        self._runner, self.notice = self._spare, NOTICE
        return drawn


def _by_processor(model: str | os.PathLike, group: str, precision: str, error: Exception) -> Runner:
    """The first of `PROCESSOR` that opens, in its own best precision where it has none of that name; `error` where none
    does."""
    for backend in PROCESSOR:
        for wanted in (precision, "auto"):
            with contextlib.suppress(EngineError, UsageError):
                runner = open_runner(model, group, backend, wanted)
                if not runner.spec.on_card:
                    return runner
    raise error


def _tell(spec: RunnerSpec, error: Exception) -> None:
    said = next(iter(str(error).strip().splitlines()), type(error).__name__)
    log.warning("group %s: %s; going on with %s on %s", spec.group, said, spec.backend, spec.device)
