"""Numbered folders of the public projects: which group is which number."""

from pathlib import Path

import pytest

from livetoon.errors import DataError
from trainer.layout import places, training_places

GROUPS = ["many", "few", "other"]


def numbered(root: Path, *names: str) -> Path:
    for name in names:
        for side in ("trainA", "trainB"):
            (root / side / name).mkdir(parents=True)
    return root


@pytest.mark.parametrize("names", [("1", "2", "3"), ("0", "1", "2", "3"), ("1", "2"), ("00", "07")])
def test_numbers_that_do_not_begin_at_0_or_are_too_many_are_refused(names, tmp_path):
    numbers = ", ".join(str(int(name)) for name in names)
    sentence = (
        f"trainA, trainB: folders {numbers} for the groups many, few, other, but numbers begin at 0: expected "
        "0 (many), 1 (few), 2 (other), or the groups' names"
    )
    with pytest.raises(DataError) as caught:
        training_places(numbered(tmp_path, *names), GROUPS)
    assert str(caught.value) == f"{tmp_path}/{sentence}"


def test_fewer_numbers_than_groups_and_names_beside_them_are_taken(tmp_path):
    found = training_places(numbered(tmp_path, "0", "1", "strangers", ".cache"), GROUPS)
    assert [place.group for place in found if place.domain == "photo"] == ["many", "few", "strangers"]


def test_a_group_may_be_called_by_a_number(tmp_path):
    found = places(numbered(tmp_path, "1", "2"), ["1", "2"])
    assert [(place.group, place.folder.name) for place in found] == [("1", "1"), ("2", "2")] * 2
