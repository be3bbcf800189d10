"""A row in a process of its own: its threads disturb no other row, its memory is its own, and it can be given up.

The parent asks over a pipe and waits; while it does not ask, the process sleeps. Times are taken inside.
"""

import contextlib
import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Self

import numpy as np

from benchmarks import timing
from benchmarks.contenders import CUDA, Contender, Ready, ready
from livetoon.errors import EngineError

ENDS_WITHIN_S = 10.0  # after its last question


class GivenUp(EngineError):
    """What was asked took longer than it may."""


class Worker:
    """The parent's end. After a question that failed or was given up the process is gone."""

    def __init__(self, contender: Contender, crops: np.ndarray):
        """crops: (batch, S, S, 3) uint8 RGB, what each call is given."""
        self._title = f"{contender.backend} {contender.precision}"
        context = get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, contender, crops), daemon=True)
        self._process.start()
        there.close()

    def open(self) -> tuple[str, bool]:
        """The arithmetic, and whether an engine was compiled for it just now."""
        return self._ask("open")

    def start(self, limit_s: float | None = None) -> float:
        """Seconds of the first call; GivenUp after `limit_s`."""
        return self._ask("start", limit_s=limit_s)

    def timed(self, most: int, seconds: float, warm_up: bool) -> list[timing.Sample]:
        """As timing.timed."""
        return self._ask("timed", most, seconds, warm_up)

    def memory(self) -> tuple[int, int | None]:
        """Bytes of this process at its peak, and of the GPU's memory since it was opened (None on a processor)."""
        return self._ask("memory")

    def draw(self, x: np.ndarray) -> np.ndarray:
        """(N, 3, S, S) float32 in [-1, 1] -> (N, 4, S, S) float32."""
        return self._ask("draw", x)

    def close(self) -> None:
        self._here.close()
        self._process.join(ENDS_WITHIN_S)
        if self._process.is_alive():
            self._kill()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kill(self) -> None:
        """With all that it started: a compiler that goes on would disturb the rows that stay."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _ask(self, question: str, *arguments: object, limit_s: float | None = None):
        try:
            self._here.send((question, arguments))
            if not self._here.poll(limit_s):
                self._kill()
                raise GivenUp(f"given up after {limit_s:g} s")
            answer = self._here.recv()
        except (EOFError, OSError):
            self._process.join(ENDS_WITHIN_S)
            raise EngineError(
                f"{self._title}: its process ended with code {self._process.exitcode}; was memory enough?"
            ) from None
        if isinstance(answer, Exception):
            self.close()
            raise answer
        return answer


def _work(there: Connection, contender: Contender, crops: np.ndarray) -> None:
    """The other end: answers until there are no more questions."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # what it starts can be ended with it
    row = _Row(contender, crops)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            question, arguments = there.recv()
            try:
                answer = getattr(row, question)(*arguments)
            except Exception as error:  # of any library: the row is left out, and its reason told
                answer = error if isinstance(error, EngineError) else EngineError(_words(error))
            there.send(answer)


class _Row:
    """Answers of one contender."""

    def __init__(self, contender: Contender, crops: np.ndarray):
        self._contender, self._crops = contender, crops
        self._ready: Ready | None = None
        self._free_before: int | None = None

    def open(self) -> tuple[str, bool]:
        self._free_before = self._free()
        self._ready = ready(self._contender, self._crops)
        return self._ready.arithmetic, self._ready.made

    def start(self) -> float:
        wall_ms, _ = timing.timed(self._ready.run, 1, 0, warm_up=False)[0]
        return wall_ms / 1e3

    def timed(self, most: int, seconds: float, warm_up: bool) -> list[timing.Sample]:
        return timing.timed(self._ready.run, most, seconds, warm_up)

    def memory(self) -> tuple[int, int | None]:
        free = self._free()
        return timing.resident()[1], None if free is None else self._free_before - free

    def draw(self, x: np.ndarray) -> np.ndarray:
        return self._ready.draw(x)

    def _free(self) -> int | None:
        """Bytes of the GPU's memory that nobody uses."""
        if self._contender.device != CUDA:
            return None
        if self._contender.is_pytorch:
            import torch

            return torch.cuda.mem_get_info()[0]
        from engine import cuda

        status, free, _ = cuda.runtime().cudaMemGetInfo()
        return free if int(status) == 0 else None


def _words(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
