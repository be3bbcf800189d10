"""Files are whole or not there."""

import errno
import hashlib
import os

import pytest

from livetoon import files
from livetoon.files import replacing, sha256, user_folder, write_json


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    out = tmp_path / "a.json"
    out.write_text("old")
    with pytest.raises(ValueError), replacing(out) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_names_the_file_and_says_that_the_old_one_is_kept(tmp_path, monkeypatch):
    out = tmp_path / "a.json"
    out.write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = rf"No space left on device; what was there before is kept: '{out}'"
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=kept):
        write_json(out, {})
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: '{tmp_path / 'none' / 'a.json'}'"):
        write_json(tmp_path / "none" / "a.json", {})
    with pytest.raises(FileNotFoundError, match=rf"directory: '{tmp_path / 'b.json'}'"), replacing(out):
        (tmp_path / "b.json").read_text()  # another file's own error stays what it is
    assert out.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_a_writer_sees_the_ending_it_needs(tmp_path):
    with replacing(tmp_path / "clip.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"x")
    assert (tmp_path / "clip.mp4").read_bytes() == b"x"


def test_json_is_readable_by_others_than_its_writer(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"livetoon")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"livetoon").hexdigest()


def test_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path))
    assert user_folder() == tmp_path
    monkeypatch.delenv("LIVETOON_CACHE")
    monkeypatch.setattr(files.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_folder() == tmp_path / "xdg" / "livetoon"
    monkeypatch.setattr(files.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert user_folder() == tmp_path / "local" / "livetoon" / "cache"
