"""Files of torch.save, the format of the public programs, read without running any code in them."""

import pickle
import re
import warnings
from pathlib import Path

import torch

from livetoon.errors import ModelError

ARCHIVE, PICKLE = b"PK", b"\x80"  # first bytes of what torch.save writes: now, and before version 1.6


def read(path: Path) -> object:
    """What torch.save wrote into a file, tensors in containers; a file of the newer format is mapped, not read.

    ModelError, one sentence, where it is none, is broken or holds other objects.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    with open(path, "rb") as file:
        start = file.read(2)
    if start and not start.startswith((ARCHIVE, PICKLE)):
        raise ModelError(f"{path}: not a PyTorch checkpoint at all; expected a file that torch.save wrote")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of what a damaged byte looks like, then fails
            return torch.load(path, map_location="cpu", weights_only=True, mmap=start == ARCHIVE)
    except Exception as error:  # a damaged file makes torch and its unpickler raise nearly any class
        foreign = isinstance(error, pickle.UnpicklingError)
        if foreign and re.search(r"Unsupported|not an allowed global|GLOBAL", str(error)):
            raise ModelError(f"{path}: holds more than tensors; code in a file is never run") from None
        raise ModelError(f"{path}: not a PyTorch checkpoint, or cut short or damaged") from None
