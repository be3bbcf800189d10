"""What this machine's processor is called and how much of it we may use."""

import ctypes
import functools
import os
import platform
import sys
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
