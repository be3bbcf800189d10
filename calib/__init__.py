"""Precision: choosing calibration crops and ranges, and writing a lower precision into an ONNX graph."""
