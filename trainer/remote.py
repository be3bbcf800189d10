"""Data that lies elsewhere: any address that fsspec reads, copied once into the user's cache."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from livetoon.errors import DataError
from livetoon.files import user_folder


def local(address: str) -> Path:
    """A local folder with what lies at `address`: itself where it is a path, a cached copy where it is an address
    (`s3://...`, `gs://...`, `https://....zip` as `zip://*::https://...`, `file://...`). DataError says what went wrong.

    >>> local("drawings").name
    'drawings'
    """
    if "://" not in address:
        return Path(address)
    import fsspec

    kept = user_folder() / "data" / hashlib.sha256(address.encode()).hexdigest()[:16]
    if kept.is_dir():
        return kept
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        files, root = fsspec.core.url_to_fs(address)
        if not files.isdir(root):
            raise DataError(f"--data {address}: no folder there")
        print(f"copying {address} into {kept.parent}", file=sys.stderr)
        partial.parent.mkdir(parents=True, exist_ok=True)
        files.get(root.rstrip("/") + "/", str(partial) + "/", recursive=True)
        try:
            partial.rename(kept)
        except OSError:
            if not kept.is_dir():  # otherwise another process of this run was quicker
                raise
    except DataError:
        raise
    except Exception as error:  # every file system of fsspec raises classes of its own
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"--data {address}: cannot be read ({said})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return kept
