"""One run writes in a folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from livetoon import lock
from livetoon.errors import TrainingError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder`/.lock; TrainingError where another process holds it."""
    with ExitStack() as held:
        try:
            held.enter_context(lock.alone(folder / ".lock"))
        except BlockingIOError:
            raise TrainingError(f"{folder}: another run writes there; wait for it or choose another --out") from None
        yield
