"""What this machine's processor is called and how much of it we may use."""

import contextlib
import ctypes
import functools
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """Of the instruction sets that decide the speed of a network, those this processor has (Linux only)."""
    known = _cpuinfo().get("flags", "").split()
    decisive = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return tuple(name for name in decisive if name in known)


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16; one that does not takes 40 times as long in it as in float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(instruction_sets())


def described() -> dict[str, object]:
    """For files of figures."""
    return {
        "processor": processor(),
        "cores": cores(),
        "instruction_sets": list(instruction_sets()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those of `packages` that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@functools.cache
def nvidia_gpus() -> int:
    """NVIDIA GPUs that this process may use. Asks the driver, which needs none of the libraries that run on it."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    answered = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if answered else 0


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
