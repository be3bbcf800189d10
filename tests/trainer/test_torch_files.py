"""Files of torch.save, whole, damaged byte by byte, and with code in them."""

import os
import random
import re
import warnings

import pytest
import torch

from livetoon.errors import ModelError
from trainer import torch_files

SENTENCES = re.compile(
    "not a PyTorch checkpoint, or cut short or damaged|holds more than tensors; code in a file is never run|"
    "not a PyTorch checkpoint at all; expected a file that torch.save wrote"
)
CONTENT = {"genA2B": {"weight": torch.arange(12.0).view(3, 4), "bias": torch.zeros(3)}, "disGA": {"u": torch.ones(5)}}
zipped_or_not = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@zipped_or_not
def test_tensors_in_containers_come_back(zipped, tmp_path):
    torch.save(CONTENT, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = torch_files.read(tmp_path / "a.pt")
    assert found.keys() == CONTENT.keys()
    assert torch.equal(found["genA2B"]["weight"], CONTENT["genA2B"]["weight"])


@zipped_or_not
def test_a_damaged_byte_anywhere_is_one_sentence_or_another_value(zipped, tmp_path):
    torch.save(CONTENT, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    whole, changed, refused = (tmp_path / "a.pt").read_bytes(), random.Random(0), 0
    path = tmp_path / "b.pt"
    for _ in range(300):
        harmed = bytearray(whole)
        harmed[changed.randrange(len(harmed))] = changed.randrange(256)
        path.write_bytes(harmed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would be a line more
            try:
                torch_files.read(path)
            except ModelError as error:
                refused += 1
                named, _, said = str(error).partition(": ")
                assert named == str(path) and SENTENCES.fullmatch(said), error
    assert refused > 50


@pytest.mark.parametrize("error", [AssertionError(), RecursionError("too deep"), MemoryError()])
def test_whatever_torch_raises_on_a_damaged_file_is_the_sentence(error, tmp_path, monkeypatch):
    def failing(*_, **__):
        raise error

    torch.save(CONTENT, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(ModelError, match=r"a\.pt: not a PyTorch checkpoint, or cut short or damaged$"):
        torch_files.read(tmp_path / "a.pt")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


@zipped_or_not
def test_code_is_told_and_never_run(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"genA2B": Harmful()}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"a\.pt: holds more than tensors; code in a file is never run"):
        torch_files.read(tmp_path / "a.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"a\.pt: no such file"):
        torch_files.read(tmp_path / "a.pt")
