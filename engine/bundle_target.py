"""The machine that a bundle is for: which wheels it takes, and what it answers to a requirement's markers."""

import platform
import sys
from dataclasses import dataclass
from functools import cached_property

from packaging import tags
from packaging.utils import parse_wheel_filename

from livetoon.errors import UsageError

PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = {"linux-x86_64": "x86_64", "linux-aarch64": "aarch64"}
RUN_ON = ("linux-x86_64",)  # bundles for others are put together and checked, but nobody has started one
# glibc 2.x; the last one is that of Ubuntu 22.04 and JetPack 6, and the oldest that OpenVINO's aarch64 wheels take.
OLDEST_GLIBC, NEWEST_GLIBC = 5, 35
ALIASES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


@dataclass(frozen=True)
class Target:
    """platform: one of `MACHINES`; python: "3.11" and the like, CPython. UsageError for others.

    >>> Target("linux-aarch64", "3.11").supports("av-18.1.0-cp311-abi3-manylinux_2_28_aarch64.whl")
    True
    >>> Target("linux-aarch64", "3.11").supports("av-18.1.0-cp311-abi3-manylinux_2_28_x86_64.whl")
    False
    """

    platform: str
    python: str

    def __post_init__(self):
        if self.platform not in MACHINES:
            raise UsageError(f"--platform {self.platform}: not known; choose one of {', '.join(MACHINES)}")
        if self.python not in PYTHONS:
            raise UsageError(f"--python {self.python}: livetoon runs on {', '.join(PYTHONS)}; choose one of them")

    @property
    def is_this_machine(self) -> bool:
        return self.platform == this_platform()

    @property
    def is_this_python(self) -> bool:
        """Whether what is built from source here runs there."""
        return self.is_this_machine and self.python == this_python()

    @cached_property
    def platform_tags(self) -> list[str]:
        """Of wheels, those for the oldest systems first: a bundle should run on as many as it can."""
        machine = MACHINES[self.platform]
        found = []
        for minor in range(OLDEST_GLIBC, NEWEST_GLIBC + 1):
            found += [f"{ALIASES[minor]}_{machine}"] if minor in ALIASES else []
            found.append(f"manylinux_2_{minor}_{machine}")
        return found

    def supports(self, file: str) -> bool:
        """Whether the wheel of this name runs there. One that was built for that machine's own system does."""
        return bool(parse_wheel_filename(file)[3] & self._tags)

    def environment(self) -> dict[str, str]:
        """What markers as `python_version < "3.12"` and `platform_machine == "aarch64"` are compared with."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": MACHINES[self.platform],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @cached_property
    def _tags(self) -> frozenset[tags.Tag]:
        version = tuple(int(part) for part in self.python.split("."))
        interpreter = "cp" + self.python.replace(".", "")
        platforms = [*self.platform_tags, f"linux_{MACHINES[self.platform]}"]
        return frozenset(
            [
                *tags.cpython_tags(version, [interpreter], platforms),
                *tags.compatible_tags(version, interpreter, platforms),
            ]
        )


def glibc_of(file: str) -> int | None:
    """The oldest glibc 2.x that the wheel of this name runs on; None for one that asks for none.

    >>> glibc_of("aiohttp-3.14.5-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl")
    17
    """
    known = {alias: minor for minor, alias in ALIASES.items()}
    found = []
    for tag in parse_wheel_filename(file)[3]:
        begin, _, rest = tag.platform.partition("_")
        if begin in known:
            found.append(known[begin])
        elif begin == "manylinux":
            found.append(int(rest.split("_")[1]))
    return min(found, default=None)


def this_platform() -> str:
    """As `MACHINES` has it, or what this system calls itself."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{sys.platform}-{machine}"


def this_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
