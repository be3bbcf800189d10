"""What all tests share: where the development pictures lie, and that CI skips nothing."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
_skipped: list[str] = []


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data beside the repository; a test that needs it is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository")
    return SHARED


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") and _skipped and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter) -> None:
    if os.environ.get("CI") and _skipped:
        terminalreporter.write_line(f"CI skips no test, but {len(_skipped)} were: {', '.join(_skipped)}", red=True)
