"""One run writes in a folder; the system lets go of the lock when the process ends, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livetoon.errors import TrainingError

try:
    import fcntl

    def _take(file) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _let_go(file) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)

except ImportError:  # Windows
    import msvcrt

    def _take(file) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _let_go(file) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder`/.lock; TrainingError where another process holds it."""
    with open(folder / ".lock", "a") as file:  # "w" would cut a file that another process has locked
        try:
            _take(file)
        except OSError:
            raise TrainingError(f"{folder}: another run writes there; wait for it or choose another --out") from None
        try:
            yield
        finally:
            _let_go(file)
