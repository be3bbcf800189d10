"""Exit codes and one-line errors of every command."""

from pathlib import Path

import pytest

from livetoon import cli
from livetoon.errors import DataError, UsageError


def run(error, argv=()):
    def command(options):
        if error is not None:
            raise error

    return cli.run(command, cli.parser("tool", "A tool.", "tool --go"), list(argv))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (DataError("no such picture"), 1),
        (UsageError("--size: expected 256"), 2),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device", "out.mp4"), 1),
        (RuntimeError("first line\nsecond line"), 1),
        (RuntimeError(), 1),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1),
    ],
)
def test_exit_codes(error, code, capsys):
    assert run(error) == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == (0 if error is None else 1)


def test_a_full_disk_names_the_file(capsys):
    run(OSError(28, "No space left on device", "out.mp4"))
    assert "out.mp4: No space left on device" in capsys.readouterr().err


def test_of_a_copy_the_file_that_is_written_is_named(capsys):
    run(OSError(28, "No space left on device", "in.mp4", None, "out.mp4"))
    assert "tool: out.mp4: No space left on device" in capsys.readouterr().err


def test_a_missing_package_is_named_with_what_installs_it(capsys):
    run(ModuleNotFoundError("No module named 'av'", name="av"))
    assert "av is not installed: use .venv/bin/python" in capsys.readouterr().err
    run(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith('torch is not installed: in livetoon\'s folder .venv/bin/pip install -e ".[train]"')
    )


def test_debug_shows_the_traceback():
    with pytest.raises(DataError):
        run(DataError("no such picture"), ["--debug"])


@pytest.mark.parametrize(("name", "said"), [("no/figures.json", "its folder is not there"), ("", "this is a folder")])
def test_the_place_of_the_figures_is_looked_at_before_the_work(tmp_path, capsys, name, said):
    parser, worked = cli.parser("tool", "A tool.", "tool --json out.json"), []
    parser.add_argument("--json", type=Path)
    assert cli.run(worked.append, parser, ["--json", str(tmp_path / name)]) == 2
    assert f"tool: --json {tmp_path / name}: {said}" in capsys.readouterr().err and not worked
    assert cli.run(worked.append, parser, ["--json", str(tmp_path / "figures.json")]) == 0 and len(worked) == 1
