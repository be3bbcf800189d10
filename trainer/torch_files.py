"""Files of torch.save, the format of the public programs, read without running any code in them."""

import pickle
import re
import struct
import zipfile
from pathlib import Path

import torch

from livetoon.errors import ModelError

STARTS = (b"PK", b"\x80")  # of torch.save's archives, and of its pickles before version 1.6


def read(path: Path) -> object:
    """What torch.save wrote into a file, tensors in containers; a file of the newer format is mapped, not read.

    ModelError, one sentence, where it is none, is broken or holds other objects.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    with open(path, "rb") as file:
        start = file.read(2)
    if start and not start.startswith(STARTS):
        raise ModelError(f"{path}: not a PyTorch checkpoint at all; expected a file that torch.save wrote")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if re.search(r"Unsupported|not an allowed global|GLOBAL", str(error)):
            raise ModelError(f"{path}: holds more than tensors; code in a file is never run") from None
        raise ModelError(f"{path}: not a PyTorch checkpoint, or cut short") from None
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, struct.error, OSError):
        raise ModelError(f"{path}: not a PyTorch checkpoint, or cut short") from None
