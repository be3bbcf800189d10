"""Precision: choosing calibration crops and ranges, and writing a lower precision into an ONNX graph."""

import livetoon  # noqa: F401 -- before what it keeps silent
