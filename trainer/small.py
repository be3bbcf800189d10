"""Small networks of our own, as faces/nets.py runs them: ONNX files with weights in float16."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from livetoon.files import replacing

HALVED_FROM = 64  # values of a tensor from which it is stored in float16; smaller ones would save nothing


def export(network, out: Path, shape: Sequence[int], entry: str, outputs: Sequence[str]) -> None:
    """Write a torch network in its evaluating state, whole or not at all. shape: of its one input, named `entry`, as
    the file will always take it; outputs: names of what it returns."""
    import onnx
    import torch

    with replacing(out) as temporary:
        torch.onnx.export(
            network,
            (torch.zeros(*shape),),
            temporary,
            input_names=[entry],
            output_names=list(outputs),
            opset_version=17,
            dynamo=False,
        )
        onnx.save(half(onnx.load(temporary)), temporary)


def half(model):
    """Large weights of an ONNX model stored as float16 and cast back in the graph, in place: half the file, computed
    in float32 all the same."""
    import onnx
    from onnx import helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < HALVED_FROM:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=onnx.TensorProto.FLOAT))
    for index, node in enumerate(casts):
        model.graph.node.insert(index, node)
    onnx.checker.check_model(model)
    return model
