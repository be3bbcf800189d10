"""Compiled engines and measured choices kept on disk, so that a second start compiles and measures nothing.

One file per slot: a line of JSON (every field the content depends on, and the content's sha256), then the content.
A slot whose fields differ is made anew, and the log says which field changed. A cache that cannot be read or
written costs time, never the start.

Files appear whole: what Ctrl-C or a kill leaves has a temporary name, is never read, and goes a day later.
"""

import contextlib
import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from livetoon import lock
from livetoon.files import replacing, user_folder

log = logging.getLogger(__name__)

ENGINES = "engines"  # of a model folder that brings its engines along
LEFT_S = 24 * 3600  # a file under a temporary name that is older was left by a kill


def cache_of(model: Path) -> "Cache":
    """Where the engines of a model folder are: in its own `engines` where it has them, else with the user's caches."""
    return Cache(model / ENGINES if (model / ENGINES).is_dir() else user_folder())


class Cache:
    """Content by slot name, valid only for the exact fields that it was stored with.

    >>> import tempfile
    >>> cache = Cache(Path(tempfile.mkdtemp()))
    >>> cache.store("live", {"precision": "bf16"}, b"compiled")
    >>> cache.load("live", {"precision": "bf16"})
    b'compiled'
    >>> cache.load("live", {"precision": "fp32"}) is None
    True
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._told = False

    def path(self, slot: str) -> Path:
        return self.folder / f"{_file_name(slot)}.cache"

    def has(self, slot: str, fields: Mapping[str, object]) -> bool:
        """Whether there is content for `slot` with these `fields`. Quick and silent: `load` reads and checks it."""
        try:
            with open(self.path(slot), "rb") as file:
                return json.loads(file.readline())["fields"] == _as_stored(fields)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def load(self, slot: str, fields: Mapping[str, object]) -> bytes | None:
        """The content stored for `slot` with these `fields`; None when there is none that can be trusted."""
        path = self.path(slot)
        try:
            header, separator, content = path.read_bytes().partition(b"\n")
            stored = json.loads(header)
            content_hash, known = stored["sha256"], stored["fields"]
            if not separator or content_hash != hashlib.sha256(content).hexdigest():
                raise ValueError("cut short or altered")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("cache %s cannot be used (%s), made anew", path, error)
            return None
        wanted = _as_stored(fields)
        if changed := sorted(name for name in {*known, *wanted} if known.get(name) != wanted.get(name)):
            log.info("cache %s is for another %s, made anew", path.name, ", ".join(changed))
            return None
        return content

    def store(self, slot: str, fields: Mapping[str, object], content: bytes) -> None:
        """Keep `content`. Where the folder cannot be written or the disk is full, a warning says so, once."""
        header = json.dumps({"fields": dict(fields), "sha256": hashlib.sha256(content).hexdigest()})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_left()
            with replacing(self.path(slot)) as temporary:
                temporary.write_bytes(header.encode() + b"\n" + content)
        except OSError as error:
            if not self._told:
                log.warning(
                    "cache %s cannot be written (%s): the next start takes longer", self.folder, error.strerror or error
                )
            self._told = True

    def remove(self, slot: str) -> None:
        """What lies in `slot` goes, where the folder can be written."""
        _remove(self.path(slot))

    @contextmanager
    def lock(self, slot: str) -> Iterator[bool]:
        """Held by one process, or thread, at a time: the one that makes the content of `slot`. The others wait.

        Yields whether it waited: then what is wanted has most likely been stored. Where the folder cannot be written
        nobody holds it and nobody waits: nothing could be stored there either.
        """
        waited = False

        def waiting() -> None:
            nonlocal waited
            waited = True
            log.info("waiting for another build of %s", slot)

        path = self.folder / f".{_file_name(slot)}.lock"
        with contextlib.ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock.alone(path, waiting))
                held.callback(_remove, path)
            except OSError as error:
                log.debug("cache %s: no lock (%s)", self.folder, error)
            yield waited

    def _remove_left(self) -> None:
        for left in self.folder.glob(".*.cache"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > LEFT_S:
                    _remove(left)


def _file_name(slot: str) -> str:
    return re.sub(r"[^\w.-]", "_", slot)


def _as_stored(fields: Mapping[str, object]) -> dict[str, object]:
    """As they come back from JSON: tuples are lists there."""
    return json.loads(json.dumps(dict(fields)))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows removes no open file
        path.unlink()
