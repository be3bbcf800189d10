"""check.py: whether this bundle is whole and for this machine. One sentence and exit code 1 where it is not.

Needs nothing but Python, as nothing else is there yet.
"""

import hashlib
import json
import platform
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def reasons() -> str | None:
    """What stands in the way; None when nothing does."""
    try:
        manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"manifest.json cannot be read ({error}): copy the bundle again"
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    here = f"{sys.platform}-{machine}"
    if here != manifest["platform"]:
        return f"this bundle is for {manifest['platform']}, this machine is {here}: make one with --platform {here}"
    wanted, version = manifest["python"], f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version != wanted:
        return f"this bundle is for Python {wanted}, this is {version}: set PYTHON, or make one with --python {version}"
    name, libc = platform.libc_ver()
    needed = manifest["glibc"]
    if needed and name != "glibc":
        return f"this bundle needs glibc {needed}, this system has another C library: take one with glibc, as Debian"
    if needed and tuple(map(int, libc.split("."))) < tuple(map(int, needed.split("."))):
        return f"this bundle needs glibc {needed} or newer, this system has {libc}: take a newer system"
    for file, known in manifest["files"].items():
        path = HERE / file
        if not path.is_file():
            return f"{path} is missing: copy the bundle again"
        with open(path, "rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != known:
                return f"{path} was altered or cut short: copy the bundle again"
    return None


if __name__ == "__main__":
    old = f"Python 3.11 or newer is needed, this is {platform.python_version()}: set PYTHON"
    if found := old if sys.version_info < (3, 11) else reasons():
        print(f"install.sh: {found}", file=sys.stderr)
        raise SystemExit(1)
