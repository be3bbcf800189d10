"""Measurements of every part, each a command: `python -m benchmarks.NAME` or `python benchmarks/NAME.py`.

Run as a file, Python looks for modules in this folder first, and would take faces.py here for the package `faces`.
"""

import sys
from pathlib import Path

import livetoon  # noqa: F401 -- before what it keeps silent

_HERE = Path(__file__).resolve().parent
sys.path[:] = [place for place in sys.path if not place or Path(place).resolve() != _HERE]
