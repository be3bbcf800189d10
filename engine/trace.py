"""torch -> ONNX by its dynamo exporter, whose chatter is held back."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import onnx
import torch
from torch import Tensor, nn

OPSET = 21  # quantizers in half precision need 19; read by ONNX Runtime 1.20 and OpenVINO 2025.1


def traced(module: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], batch: int | None) -> onnx.ModelProto:
    """The graph of `module(*inputs)` with `names` for its inputs and the output `rgba`.

    batch: None leaves the first side of the first input free; it must then be larger than 1 here. Inputs after the
    first are one list for `module`.
    """
    first, *others = inputs
    shapes = None if batch else ({0: torch.export.Dim("n")}, *([[None] * len(others)] if others else []))
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
            (first, others) if others else (first,),
            dynamo=True,
            input_names=list(names),
            output_names=["rgba"],
            opset_version=OPSET,
            dynamic_shapes=shapes,
            verbose=False,
        ).model_proto


def operations(module: nn.Module, inputs: Sequence[object]) -> int:
    """How many operators of torch `module(*inputs)` takes as it was trained: what an export starts from."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch.export.export(module.eval(), tuple(inputs), strict=False).graph
    return sum(node.op == "call_function" for node in graph.nodes)


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
