"""`python -m engine.bundle_check DIR`: how large a bundle is on a box, and how long it takes to its first page.

An empty environment is filled by the bundle's own install.sh, with an empty home and cache, without a package index;
then the server is started twice: the first start finds no cache, the second what the first one left. Times end when the
page has come over the wire. What the system still holds of the files in memory stays there: a box that was just
switched on reads them from its disk on top of that.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import bundle_manifest
from engine.bundle_target import Target, this_platform
from livetoon import cli
from livetoon.errors import EngineError, UsageError
from livetoon.files import write_json

INSTALLS_WITHIN_S, STARTS_WITHIN_S, STOPS_WITHIN_S = 900, 180, 15
# A closed port instead of an index and a proxy: what asked for the network would fail at once.
NOWHERE = "http://127.0.0.1:9"


def can(target: Target, with_wheels: bool = True) -> None:
    """UsageError when this machine cannot run a bundle for `target`."""
    if not target.is_this_machine:
        raise UsageError(f"--check starts the bundle, and a {this_platform()} cannot run one for {target.platform}")
    if not with_wheels:
        raise UsageError("--check installs the bundle's wheels, and --no-wheels leaves them out")
    if not _python(target.python):
        raise UsageError(f"--check needs python{target.python}, which is not installed here")


def check(folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Seconds and bytes, by name; `report` is told every step. EngineError for a bundle that does not start."""
    described = bundle_manifest.read(folder)
    with tempfile.TemporaryDirectory(prefix="livetoon-check-") as temporary:
        place = Path(temporary)
        environment = _environment(place, _python(described.python))
        report("check: installing into an empty environment")
        began = time.monotonic()
        command = ["sh", str(folder / "install.sh"), "--install-only"]
        installed = subprocess.run(
            command, env=environment, cwd=place, capture_output=True, text=True, timeout=INSTALLS_WITHIN_S, check=False
        )
        if installed.returncode:
            raise EngineError(f"{folder}: install.sh failed: {_last(installed.stderr)}")
        install_s = time.monotonic() - began
        starts = []
        for name in ("first", "second"):
            report(f"check: {name} start")
            starts.append(_start(folder, place, environment))
        return {
            "bundle_bytes": _bytes(folder),
            "installed_bytes": _bytes(place / "env"),
            "install_s": round(install_s, 2),
            "cold_start_s": round(starts[0], 2),
            "second_start_s": round(starts[1], 2),
        }


def summary(found: Mapping[str, Any]) -> str:
    """One line."""
    return (
        f"checked: {found['bundle_bytes'] / 1e6:.0f} MB, installed {found['installed_bytes'] / 1e6:.0f} MB in "
        f"{found['install_s']:.1f} s; page served {found['cold_start_s']:.1f} s after the first start, "
        f"{found['second_start_s']:.1f} s after the second"
    )


def _environment(place: Path, python: str | None) -> dict[str, str]:
    """Nothing of this machine's but the path, and no way out."""
    named = {"PYTHON": python} if python else {}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(place),
        "LIVETOON_ENV": str(place / "env"),
        "LIVETOON_CACHE": str(place / "cache"),
        "TMPDIR": str(place),
        **{name: NOWHERE for name in ("PIP_INDEX_URL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")},
        "no_proxy": "localhost,127.0.0.1",
        **named,
    }


def _start(folder: Path, place: Path, environment: Mapping[str, str]) -> float:
    """Seconds from the command to the page; the server is stopped again."""
    began = time.monotonic()
    command = [str(place / "env" / "bin" / "livetoon"), "--bundle", str(folder), "--port", "0"]
    process = subprocess.Popen(
        command, env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    late = threading.Timer(STARTS_WITHIN_S, process.kill)
    late.start()
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"livetoon is at (\S+)", line):
                break
        else:
            raise EngineError(f"{folder}: the server did not start: {_last(''.join(said))}")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(found.group(1), timeout=STOPS_WITHIN_S) as page:
            if b"<html" not in page.read():
                raise EngineError(f"{folder}: what is served at {found.group(1)} is not the page")
        seconds = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
        if process.wait(STOPS_WITHIN_S):
            raise EngineError(f"{folder}: the server ended with exit code {process.returncode}")
        return seconds
    finally:
        late.cancel()
        process.kill()
        process.communicate()


def _python(version: str) -> str | None:
    """An interpreter of `version`: this one where it fits, else the one on the path."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return shutil.which(f"python{version}")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _last(said: str) -> str:
    return next(reversed([line.strip() for line in said.splitlines() if line.strip()]), "it said nothing")


def main(argv: Sequence[str] | None = None) -> int:
    made = cli.parser(
        "python -m engine.bundle_check",
        "Install a bundle into an empty environment, start it and measure how long it takes.",
        "python -m engine.bundle_check edge --json edge.json",
    )
    made.add_argument("bundle", type=Path, metavar="DIR", help="what python -m engine.bundle made")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return cli.run(_command, made, argv)


def _command(options: argparse.Namespace) -> None:
    folder = options.bundle.absolute()
    described = bundle_manifest.read(folder)
    can(Target(described.platform, described.python), bool(described.versions))
    found = check(folder, lambda line: print(line, file=sys.stderr, flush=True))
    print(summary(found))
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    sys.exit(main())
