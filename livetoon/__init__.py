"""What every room of livetoon stands on: its errors, its files, its command line.

Imports nothing but the standard library, so that `livetoon --help` answers at once.
"""

import sys

__version__ = "0.1.0"

# Nothing leaves the machine, and nothing is written to the home folder: `import openvino` alone tells Google Analytics
# of itself, from a process of its own, unless its telemetry package cannot be imported. Every room imports this one
# before it imports OpenVINO.
sys.modules.setdefault("openvino_telemetry", None)
