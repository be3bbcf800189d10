"""Goes on by the processor when the graphics card fails: taken by another program, or lost while it draws."""

import logging
import os
import threading

import numpy as np

from engine import machine
from engine.runner import Runner, RunnerSpec, open_runner
from livetoon.errors import EngineError

log = logging.getLogger("livetoon.server")

PROCESSOR = ("openvino", "onnxruntime")  # backends, the quicker one first
NOTICE = "The graphics card failed, so the processor draws, more slowly. Start livetoon again to try the card anew."


def open_lasting(model: str | os.PathLike, group: str, backend: str, precision: str) -> Runner:
    """As `open_runner`, but what runs on a card is a `Fallback`; and where a card that "auto" takes cannot be used, the
    processor's backend is opened at once. A backend that was asked for by name has to open."""
    try:
        runner = open_runner(model, group, backend, precision)
    except EngineError as error:
        if backend != "auto":
            raise
        return Fallback(_by_processor(model, group, error), model, group, NOTICE)
    return runner if runner.spec.device == machine.processor() else Fallback(runner, model, group)


class Fallback:
    """A runner that another one replaces when it fails. notice: what the page has to be told, "" while all is well."""

    def __init__(self, runner: Runner, model: str | os.PathLike, group: str, notice: str = ""):
        self._runner, self._model, self._group = runner, model, group
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
        spare = _by_processor(self._model, self._group, error)
        drawn = spare(crops)
        self._runner, self.notice = spare, NOTICE
        return drawn


def _by_processor(model: str | os.PathLike, group: str, error: Exception) -> Runner:
    """The first of `PROCESSOR` that opens; `error` where none does."""
    for backend in PROCESSOR:
        try:
            runner = open_runner(model, group, backend)
        except EngineError:
            continue
        log.warning("group %s: %s; going on with %s on %s", group, error, backend, runner.spec.device)
        return runner
    raise error
