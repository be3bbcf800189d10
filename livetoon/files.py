"""Files that are whole or not there: temporary name, flush, rename; and their hashes."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)]  # disk, quota, file


@contextlib.contextmanager
def naming(path: str | os.PathLike, temporary: str | os.PathLike | None = None) -> Iterator[None]:
    """The error of a full disk, which often names no file, names `path` and says that what stood there is kept. So does
    any OSError that names a file whose path begins with `temporary`."""
    try:
        yield
    except OSError as error:
        named = os.path.abspath(str(error.filename or ""))
        if error.errno not in FULL and not (temporary and named.startswith(os.path.abspath(temporary))):
            raise
        kept = "" if isinstance(error, FileNotFoundError) else "; what was there before is kept"
        raise OSError(error.errno, f"{os.strerror(error.errno)}{kept}", str(path)) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike, suffix: str | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes the name `path`.

    On any error the temporary file is removed and what stood at `path` before still stands there; an OSError says so.
    `suffix` keeps a file ending that a writer needs to see (".mp4").

    >>> import tempfile, pathlib
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(out) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> out.read_text()
    'whole'
    """
    path = Path(path)
    begin = f".{path.name}."
    with naming(path, path.parent / begin):
        handle, name = tempfile.mkstemp(prefix=begin, suffix=suffix or path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def into_place(made: Path, folder: Path, is_whole: Callable[[], bool]) -> None:
    """Give `made`, a whole folder beside it, the name `folder`, whose content is not whole.

    An error of the system counts only where `is_whole()` is still false: another process may have done the same.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        made.rename(folder)
    except OSError:
        if not is_whole():
            raise


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def user_folder() -> Path:
    """Where this user's caches live; LIVETOON_CACHE names another folder."""
    if chosen := os.environ.get("LIVETOON_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "livetoon" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "livetoon"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livetoon"


def sha256(path: str | os.PathLike) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
