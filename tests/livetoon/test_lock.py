"""One holds a file at a time, whatever happens to it."""

import errno
import importlib
import subprocess
import sys
import threading

import pytest

from livetoon import lock


def test_a_second_one_is_told_at_once(tmp_path):
    path = tmp_path / "a.lock"
    with lock.alone(path):
        with pytest.raises(BlockingIOError, match="held by another process") as refused, lock.alone(path):
            pass
        assert refused.value.filename == str(path)
    with lock.alone(path):
        pass


def test_or_waits_and_says_so_once(tmp_path):
    path, order = tmp_path / "a.lock", []

    def second() -> None:
        with lock.alone(path, lambda: (order.append("waits"), told.set())):
            order.append("second")

    told, waiting = threading.Event(), threading.Thread(target=second)
    with lock.alone(path):
        waiting.start()
        assert told.wait(10)
        waiting.join(3 * lock.AGAIN_AFTER_S)
        order.append("first")
    waiting.join()
    assert order == ["waits", "first", "second"]


def test_a_file_that_its_holder_removes_is_no_lock(tmp_path):
    """Who waited for it must hold the one that the next finds."""
    path, holding, order = tmp_path / "a.lock", threading.Event(), []

    def second() -> None:
        with lock.alone(path, told.set):
            holding.set()
            release.wait(10)
            order.append("second")

    told, release, waiting = threading.Event(), threading.Event(), threading.Thread(target=second)
    with lock.alone(path):
        waiting.start()
        assert told.wait(10)
        path.unlink()
    assert holding.wait(10)
    with pytest.raises(BlockingIOError), lock.alone(path):
        order.append("both")
    release.set()
    waiting.join()
    assert order == ["second"]


def test_a_process_that_is_killed_lets_go(tmp_path):
    path = tmp_path / "a.lock"
    program = (
        "import sys, time; from pathlib import Path; from livetoon import lock\n"
        "with lock.alone(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError), lock.alone(path):
        pass
    holder.kill()
    holder.wait()
    with lock.alone(path):
        pass


def test_a_file_that_cannot_be_made_or_locked_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none/a\.lock"), lock.alone(tmp_path / "none" / "a.lock"):
        pass

    def without(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_take", without)
    with pytest.raises(OSError, match=r"No locks available: .*a\.lock"), lock.alone(tmp_path / "a.lock", print):
        pass


def test_it_holds_on_windows_too(tmp_path, monkeypatch, windows_locks):
    windows = importlib.reload(lock)
    try:
        path = tmp_path / "a.lock"
        with windows.alone(path), pytest.raises(BlockingIOError), windows.alone(path):
            pass
        with windows.alone(path):
            pass
    finally:
        monkeypatch.undo()
        importlib.reload(lock)
