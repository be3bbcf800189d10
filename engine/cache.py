"""Compiled engines and measured choices kept on disk, so that a second start compiles and measures nothing.

One file per slot: a line of JSON (every field the content depends on, and the content's sha256), then the content.
A slot whose fields differ is made anew, and the log says which field changed. A cache that cannot be read or
written costs time, never the start.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from livetoon.files import replacing

log = logging.getLogger(__name__)


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

    def path(self, slot: str) -> Path:
        return self.folder / (re.sub(r"[^\w.-]", "_", slot) + ".cache")

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
        wanted = json.loads(json.dumps(fields))
        if changed := sorted(name for name in {*known, *wanted} if known.get(name) != wanted.get(name)):
            log.info("cache %s is for another %s, made anew", path.name, ", ".join(changed))
            return None
        return content

    def store(self, slot: str, fields: Mapping[str, object], content: bytes) -> None:
        """Keep `content`; a folder that cannot be written is logged and otherwise ignored."""
        header = json.dumps({"fields": dict(fields), "sha256": hashlib.sha256(content).hexdigest()})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.path(slot)) as temporary:
                temporary.write_bytes(header.encode() + b"\n" + content)
        except OSError as error:
            log.warning("cache %s cannot be written (%s): the next start takes longer", self.folder, error.strerror)
