"""What all tests share: CI skips nothing."""

import os
import sys
import types

import pytest

_skipped: list[str] = []


@pytest.fixture
def windows_locks(monkeypatch) -> None:
    """There is no fcntl there; msvcrt locks bytes of a file and raises OSError where another holds them."""
    held = []

    def locking(number, mode, count):
        if mode == 2 and held:
            raise OSError(13, "Permission denied")
        held.append(count) if mode == 2 else held.clear()

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") and _skipped and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter) -> None:
    if os.environ.get("CI") and _skipped:
        terminalreporter.write_line(f"CI skips no test, but {len(_skipped)} were: {', '.join(_skipped)}", red=True)
