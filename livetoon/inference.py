"""The one OpenVINO core of a process."""

import functools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


_making = threading.Lock()  # functools.cache alone lets threads that come at once make one each


def openvino_core() -> "openvino.Core":
    """Made at the first call and kept until the process ends; any thread may call. ImportError where OpenVINO is not
    installed.

    OpenVINO 2026.4's CPU plugin gives the thread that loads it another stack for signals and puts the one before back
    when it is freed. Of two cores the first one freed leaves the second to put back memory that is gone, and the next
    signal that Python handles, Ctrl-C above all, ends the process with a segmentation fault. One core never does.
    """
    with _making:
        return _core()


@functools.cache
def _core() -> "openvino.Core":
    import openvino

    return openvino.Core()
