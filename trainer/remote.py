"""Data that lies elsewhere: any address that fsspec reads, copied into the user's cache, and again when it changes."""

import hashlib
import json
import logging
import os
import shutil
import sys
from pathlib import Path

from livetoon.errors import DataError
from livetoon.files import user_folder

log = logging.getLogger("trainer")

LISTING = ".listing.json"  # in a copy: what lay at its address, {name: {"size": bytes, ...}}
# What file systems say of a file that changes with it, beside its size; few of them say more than one.
STAMPS = (
    *("mtime", "modified", "last_modified", "LastModified", "updated", "date_time"),
    *("ETag", "etag", "md5", "md5Hash", "CRC"),
)


def local(address: str) -> Path:
    """A local folder with what lies at `address`: itself where it is a path, a cached copy where it is an address
    (`s3://...`, `gs://...`, `https://....zip` as `zip://::https://...`, `file://...`). DataError says what went wrong.

    A copy is used while the files there have the names, sizes and, where they are told, times or hashes that it was
    made from, and also when nobody can be asked.

    >>> local("drawings").name
    'drawings'
    """
    if "://" not in address:
        return Path(address)
    kept = user_folder() / "data" / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        files, root = _opened(address)
        listing = _listing(files, root)
        if not _is_of(kept, listing):
            _copy(address, files, root, listing, kept)
    except Exception as error:  # every file system of fsspec raises classes of its own
        said = next(iter(str(error).splitlines()), type(error).__name__)
        if not _whole(kept):
            raise DataError(f"--data {address}: cannot be read ({said})") from None
        log.warning("--data %s: cannot be read (%s); going on with its copy in %s", address, said, kept)
    return kept


def _opened(address: str):
    """fsspec's file system for the address, asked anew, and the folder in it; FileNotFoundError where there is none."""
    import fsspec

    files, root = fsspec.core.url_to_fs(address)
    files.invalidate_cache()
    if not files.isdir(root):
        raise FileNotFoundError("no folder there")
    return files, root.rstrip("/")


def _listing(files, root: str) -> dict[str, dict]:
    """Name below `root` -> size and stamps of every file, as JSON holds them."""
    return {
        path[len(root) :].lstrip("/"): {
            "size": facts.get("size"),
            **{name: str(facts[name]) for name in STAMPS if facts.get(name) is not None},
        }
        for path, facts in sorted(files.find(root, detail=True).items())
    }


def _listed(kept: Path) -> dict[str, dict]:
    """The listing that a copy was made from; none where there is no copy."""
    try:
        return json.loads((kept / LISTING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _whole(kept: Path) -> bool:
    """Whether every file that was listed is there, in its size where that was told."""
    listing = _listed(kept)
    try:
        sizes = {name: (kept / name).stat().st_size for name in listing}
    except OSError:
        return False
    return bool(listing) and all(facts["size"] in (None, sizes[name]) for name, facts in listing.items())


def _is_of(kept: Path, listing: dict[str, dict]) -> bool:
    """Whether a copy is there, whole, and was made from this listing."""
    return _listed(kept) == listing and _whole(kept)


def _copy(address: str, files, root: str, listing: dict[str, dict], kept: Path) -> None:
    """Copy what lies at `root` to `kept`, whole or not at all; the copy before stays until then."""
    partial, before = (kept.with_name(f".{kept.name}.{os.getpid()}{suffix}") for suffix in ("", ".old"))
    for left in (partial, before):
        shutil.rmtree(left, ignore_errors=True)
    print(f"copying {address} into {kept.parent}", file=sys.stderr)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        files.get(f"{root}/", f"{partial}/", recursive=True)
        (partial / LISTING).write_text(json.dumps(listing), encoding="utf-8")
        if _is_of(kept, listing):  # another process of this run was quicker
            return
        if kept.is_dir():
            kept.rename(before)
        partial.rename(kept)
    except OSError:
        if not kept.exists() and before.is_dir():
            before.rename(kept)
        if not _is_of(kept, listing):
            raise
    finally:
        for left in (partial, before):
            shutil.rmtree(left, ignore_errors=True)
