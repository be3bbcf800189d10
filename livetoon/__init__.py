"""What every room of livetoon stands on: its errors, its files, its command line.

Imports nothing but the standard library, so that `livetoon --help` answers at once.
"""

import os
import sys

__version__ = "0.1.0"

# Nothing leaves the machine, and nothing is written to the home folder. Every room imports this package first, because
# - OpenVINO tells Google Analytics as it is imported, from a process of its own, unless that part of it is missing;
# - ONNX Runtime (1.31 and later, Linux and macOS) sends Microsoft the events of each session, under a number that it
#   keeps in ~/.cache, unless this says no before its first session.
sys.modules.setdefault("openvino_telemetry", None)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
