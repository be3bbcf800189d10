import errno
import logging
from pathlib import Path

import pytest

from engine.cache import Cache

FIELDS = {"digest": "abc", "precision": "fp32", "shape": [1, 256, 256, 3]}


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "made" / "when needed")


def test_what_was_stored_comes_back(cache):
    assert cache.load("slot", FIELDS) is None
    cache.store("slot", FIELDS, b"line\nline\0")
    assert cache.load("slot", FIELDS) == b"line\nline\0"


def test_the_log_names_the_field_that_changed(cache, caplog):
    cache.store("slot", FIELDS, b"compiled")
    with caplog.at_level(logging.INFO):
        assert cache.load("slot", {**FIELDS, "precision": "bf16"}) is None
    assert "is for another precision" in caplog.text


def test_a_field_more_or_less_is_a_change(cache):
    cache.store("slot", FIELDS, b"compiled")
    assert cache.load("slot", {**FIELDS, "driver": "1"}) is None
    assert cache.load("slot", {"digest": "abc"}) is None


def test_slots_are_one_file_each_whatever_their_name(cache):
    cache.store("a/b: ü", FIELDS, b"one")
    cache.store("a/b: ü", {**FIELDS, "digest": "new"}, b"two")
    assert len(list(cache.folder.iterdir())) == 1
    assert cache.load("a/b: ü", {**FIELDS, "digest": "new"}) == b"two"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:10],
        lambda content: content.replace(b"compiled", b"Compiled"),
        lambda content: b"[]\n" + content,
        lambda content: b"\xff" * 100,
    ],
)
def test_spoilt_content_is_not_used_and_said(cache, caplog, spoil):
    cache.store("slot", FIELDS, b"compiled")
    path = cache.path("slot")
    path.write_bytes(spoil(path.read_bytes()))
    assert cache.load("slot", FIELDS) is None
    assert "cannot be used" in caplog.text
    cache.store("slot", FIELDS, b"again")
    assert cache.load("slot", FIELDS) == b"again"


def test_a_folder_that_cannot_be_made_is_said_once_and_ignored(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    cache.store("slot", FIELDS, b"compiled")
    assert len(caplog.records) == 1
    assert "the next start takes longer" in caplog.text
    assert cache.load("slot", FIELDS) is None


def test_a_full_disk_leaves_the_old_content(cache, caplog, monkeypatch):
    cache.store("slot", FIELDS, b"old")

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache.store("slot", FIELDS, b"new")
    assert "No space left on device" in caplog.text
    assert cache.load("slot", FIELDS) == b"old"
    assert len(list(cache.folder.iterdir())) == 1
