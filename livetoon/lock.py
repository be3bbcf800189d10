"""A file that one holds at a time; the system lets go of it when the process ends, however it ends."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

AGAIN_AFTER_S = 0.1  # what is waited for takes seconds
HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)  # Linux and macOS, then Windows

try:
    import fcntl

    def _take(file: IO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _let_go(file: IO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)

except ImportError:  # Windows
    import msvcrt

    def _take(file: IO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _let_go(file: IO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)


@contextmanager
def alone(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold `path`, an empty file that is made where there is none; its holder may remove it.

    Another process, or another thread, that holds it is waited for where `waiting` is given, which is called once;
    otherwise that is a BlockingIOError. Other OSErrors say that the file cannot be made or not be locked.
    """
    while (file := _opened(path)) is None:
        if waiting is None:
            raise BlockingIOError(errno.EAGAIN, "held by another process", str(path))
        waiting()
        waiting = _nothing
        time.sleep(AGAIN_AFTER_S)
    with file:
        try:
            yield
        finally:
            _let_go(file)


def _nothing() -> None:
    pass


def _opened(path: Path) -> IO | None:
    """The file, open and held; None while another holds it."""
    while True:
        with contextlib.ExitStack() as failed:
            file = failed.enter_context(open(path, "a"))  # "w" would cut a file that another has locked
            try:
                _take(file)
            except OSError as error:
                if error.errno in HELD:
                    return None
                raise OSError(error.errno, error.strerror, str(path)) from error
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    failed.pop_all()
                    return file
        # its holder has removed it meanwhile: whoever comes next makes another one, so this one tells nobody
