"""The outermost edge of every command: exit codes, one-line errors, `--debug`."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from livetoon.errors import LivetoonError, UsageError


def parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser with an example below its help, and `--debug`."""
    made = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--debug", action="store_true", help="show the traceback of an error and log every event")
    return made


def check_place(option: str, path: object) -> None:
    """UsageError, before any work, when a `path` that is written at the end lies nowhere or where nobody may write."""
    if not isinstance(path, Path):
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{option} {path}: its folder is not there; make it first")
    if path.is_dir():
        raise UsageError(f"{option} {path}: this is a folder; give a file in it")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{option} {path}: nothing can be written into its folder; choose another one")


def run(
    command: Callable[[argparse.Namespace], int | None],
    arguments: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv`, call `command(options)` and turn what happens into an exit code.

    0: done; 1: failed, with one line on standard error; 2: used wrongly. A traceback is shown with
    `--debug` only. The places of figures, which are written last (`--json`, `--plot`), are looked at first.
    """
    options = arguments.parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(name)s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        for option in ("json", "plot"):
            check_place(f"--{option}", getattr(options, option, None))
        return command(options) or 0
    except KeyboardInterrupt:
        print(f"{arguments.prog}: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            raise
        print(f"{arguments.prog}: {_sentence(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _sentence(error: Exception) -> str:
    if isinstance(error, LivetoonError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        written = error.filename2 or error.filename  # of two files, as in a copy, the second one
        return f"{written}: {error.strerror}" if written else error.strerror
    if isinstance(error, ModuleNotFoundError):
        if error.name == "torch":  # `make live` goes without
            return 'torch is not installed: in livetoon\'s folder .venv/bin/pip install -e ".[train]"'
        return (
            f"{error.name} is not installed: use .venv/bin/python after `make live`, or in livetoon's folder "
            'pip install ".[stream]" for live video, ".[train]" for training'
        )
    said = next(iter(str(error).strip().splitlines()), "no more is known")
    return f"{type(error).__name__}: {said} (--debug shows where)"
