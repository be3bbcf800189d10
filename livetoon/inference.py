"""The one OpenVINO core of a process."""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


@functools.cache
def openvino_core() -> "openvino.Core":
    """Made at the first call and kept until the process ends. ImportError where OpenVINO is not installed.

    OpenVINO 2026.4's CPU plugin gives the thread that loads it another stack for signals and puts the one before back
    when it is freed. Of two cores the first one freed leaves the second to put back memory that is gone, and the next
    signal that Python handles, Ctrl-C above all, ends the process with a segmentation fault. One core never does.
    """
    import openvino

    return openvino.Core()
