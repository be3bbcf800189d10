"""torch -> ONNX by its dynamo exporter, whose chatter is held back."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import onnx
import torch
from torch import Tensor, nn

OPSET = 18


def traced(module: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], batch: int | None) -> onnx.ModelProto:
    """The graph of `module(*inputs)` with `names` for its inputs and the output `rgba`.

    batch: None leaves the first side of the first input free; it must then be larger than 1 here.
    """
    shapes = None if batch else ({0: torch.export.Dim("n")}, *(None for _ in inputs[1:]))
    chatter = io.StringIO()
    with (
        warnings.catch_warnings(),
        redirect_stdout(chatter),
        redirect_stderr(chatter),
        _quiet("torch.onnx", "onnxscript", "onnx_ir"),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            module.eval(),
            tuple(inputs),
            dynamo=True,
            input_names=list(names),
            output_names=["rgba"],
            opset_version=OPSET,
            dynamic_shapes=shapes,
            verbose=False,
        ).model_proto


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Hold back what libraries log below errors."""
    logs = [logging.getLogger(name) for name in names]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
