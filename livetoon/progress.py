"""What a command that takes a while says meanwhile."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Lines on standard error; on a terminal a stage that goes on is overwritten by what comes of it."""

    def __init__(self):
        self._stream = sys.stderr

    @contextmanager
    def stage(self, said: str) -> Iterator[None]:
        """A stage that takes a while: "young-women: compiling for openvino 2026.4.1 ... 1.2 s"."""
        began = time.monotonic()
        self.passing(f"{said} ...")
        yield
        self.line(f"{said} ... {time.monotonic() - began:.1f} s")

    def line(self, said: str) -> None:
        self._write(f"{said}\n")

    def passing(self, said: str) -> None:
        if self._stream.isatty():
            self._write(said[: shutil.get_terminal_size().columns - 1])
        else:
            self._write(f"{said}\n")

    def tick(self, said: str) -> None:
        """Signs of life that only somebody who watches wants."""
        if self._stream.isatty():
            self.passing(said)

    def _write(self, said: str) -> None:
        self._stream.write(f"\r\x1b[2K{said}" if self._stream.isatty() else said)
        self._stream.flush()
