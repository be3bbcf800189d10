import errno
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.cache import LEFT_S, Cache, cache_of

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


def test_what_is_there_is_known_without_reading_it(cache, caplog):
    assert not cache.has("slot", FIELDS)
    cache.store("slot", {**FIELDS, "batches": (1, 4)}, b"compiled")
    assert cache.has("slot", {**FIELDS, "batches": (1, 4)})
    assert cache.load("slot", {**FIELDS, "batches": (1, 4)}) == b"compiled"
    assert not cache.has("slot", FIELDS)
    assert not cache.has("another", FIELDS)
    for spoilt in (b"", b"[]\n", b"\xff\n", b'{"sha256": ""}\n'):
        cache.path("slot").write_bytes(spoilt)
        assert not cache.has("slot", FIELDS)
    assert caplog.text == ""


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
    with cache.lock("slot") as waited:
        assert not waited
        cache.store("slot", FIELDS, b"compiled")
    cache.store("another", FIELDS, b"compiled")
    assert not cache.has("slot", FIELDS)
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


def test_a_folder_that_cannot_be_written_is_read_and_said_once(cache, caplog, monkeypatch):
    """As on a read-only medium. (Access rights stop nobody who is root, so the system's answer is played here.)"""
    cache.store("slot", FIELDS, b"compiled")

    def refused(file, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(file))

    monkeypatch.setattr("livetoon.lock.open", refused, raising=False)
    monkeypatch.setattr("tempfile.mkstemp", lambda **wanted: refused(wanted["dir"]))
    with cache.lock("another") as waited:
        assert not waited
        assert cache.load("slot", FIELDS) == b"compiled"
        cache.store("another", FIELDS, b"compiled")
        cache.store("another", FIELDS, b"compiled")
    (said,) = caplog.messages
    assert said == f"cache {cache.folder} cannot be written (Read-only file system): the next start takes longer"


def test_one_makes_it_and_the_others_take_it(cache, caplog):
    caplog.set_level(logging.INFO)
    made, got = [], []

    def take_or_make() -> None:
        with cache.lock("slot") as waited:
            content = cache.load("slot", FIELDS) if waited else None
            if content is None:
                time.sleep(0.05)
                made.append(content := b"compiled")
                cache.store("slot", FIELDS, content)
            got.append(content)

    starts = [threading.Thread(target=take_or_make) for _ in range(4)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    assert (made, got) == ([b"compiled"], [b"compiled"] * 4)
    assert caplog.messages == ["waiting for another build of slot"] * 3
    assert [path.name for path in cache.folder.iterdir()] == ["slot.cache"]


def test_other_slots_are_not_waited_for(cache):
    with cache.lock("slot"), cache.lock("another") as waited:
        assert not waited


def test_a_build_that_failed_is_not_waited_for(cache):
    with pytest.raises(RuntimeError), cache.lock("slot"):
        raise RuntimeError
    with cache.lock("slot") as waited:
        assert not waited


def test_a_killed_build_lets_the_next_one_go_on(cache):
    program = (
        "import sys, time; from pathlib import Path; from engine.cache import Cache\n"
        "with Cache(Path(sys.argv[1])).lock('slot'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(cache.folder)]
    builds = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert builds.stdout.readline() == "held\n"
    threading.Timer(0.3, builds.kill).start()
    with cache.lock("slot") as waited:
        assert waited
        assert cache.load("slot", FIELDS) is None
    builds.wait()


def test_what_a_kill_left_goes_a_day_later(cache):
    cache.folder.mkdir(parents=True)
    old, young, foreign = (cache.folder / name for name in (".slot.cache.a1.cache", ".slot.cache.b2.cache", ".keep"))
    for path in (old, young, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (time.time() - LEFT_S - 60,) * 2)
    cache.store("slot", FIELDS, b"compiled")
    assert sorted(path.name for path in cache.folder.iterdir()) == [foreign.name, young.name, "slot.cache"]


def test_engines_lie_in_the_model_folder_where_it_has_them(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "user"))
    assert cache_of(tmp_path).folder == tmp_path / "user"
    (tmp_path / "engines").mkdir()
    assert cache_of(tmp_path).folder == tmp_path / "engines"
