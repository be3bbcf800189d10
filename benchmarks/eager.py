"""The PyTorch network behind a model folder: what its engines are compared with.

An export folds and reorders weights; this undoes the reordering and leaves the folding to batch normalizations that
hold the biases. So the network does in eager mode what it did in training, with the weights that were shipped.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import nn

from engine import manifest
from engine.rewrite import BLOCK
from livetoon.errors import ModelError
from trainer.networks import build

PREFIX = "generator."


def eager_network(folder: Path) -> nn.Module:
    """The network of a model folder, in eval mode, all groups."""
    described = manifest.read(folder)
    network = build(described.network, **described.settings).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.running_var, 1 - module.eps)
    parameters = dict(network.named_parameters())
    left = set(parameters)
    for group in described.groups:
        for name, value in _weights(onnx.load(manifest.open_files(folder, group).graph("fp32"))).items():
            place = _place(name, parameters)
            if place is None or parameters[place].shape != value.shape:
                raise ModelError(f"{folder}: {name} has no place in network {described.network}")
            parameters[place].data.copy_(torch.from_numpy(value))
            left.discard(place)
    if missing := [name for name in left if not _is_scale(name, network)]:
        raise ModelError(f"{folder}: no weights for {missing[0]} of network {described.network}")
    return network


def _weights(model: ModelProto) -> dict[str, np.ndarray]:
    """Every convolution's weight and bias, by name, in the order of the network."""
    stored = {value.name: numpy_helper.to_array(value).astype(np.float32) for value in model.graph.initializer}
    half = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    weights = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        shuffled, last = _followed_by_shuffle(model, node)
        for name in node.input[1:]:
            value = stored[half.get(name, name)]
            if shuffled:
                value = value.reshape(BLOCK**2, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
            if last:
                value = np.concatenate([value[: 3 * BLOCK**2] / 2, value[3 * BLOCK**2 :]])
            if value.ndim == 4 and value.shape[2:] == (3 * BLOCK, 3 * BLOCK):
                outputs, inputs = value.shape[:2]
                blocks = value.reshape(outputs, inputs, 3, BLOCK, 3, BLOCK).transpose(0, 1, 3, 5, 2, 4)
                value = blocks.reshape(outputs, inputs * BLOCK**2, 3, 3)
            weights[name.removeprefix(PREFIX)] = value
    return weights


def _followed_by_shuffle(model: ModelProto, convolution: NodeProto) -> tuple[bool, bool]:
    """Whether a depth-first shuffle follows, and whether it is the one that makes the picture."""
    following = _reader(model, convolution.output[0])
    last = following is not None and following.op_type == "Sigmoid"
    if last:
        following = _reader(model, following.output[0])
    shuffled = following is not None and following.op_type == "DepthToSpace"
    return shuffled and helper.get_node_attr_value(following, "mode") == b"DCR", last


def _reader(model: ModelProto, tensor: str) -> NodeProto | None:
    return next((node for node in model.graph.node if tensor in node.input), None)


def _place(name: str, parameters: dict[str, nn.Parameter]) -> str | None:
    """Where an exported value goes: its own name, or for a folded bias the batch normalization's."""
    if name in parameters:
        return name
    block, _, kind = name.rpartition(".")
    parent, _, index = block.rpartition(".")
    folded = f"{parent}.{int(index) + 1}.{kind}" if index.isdigit() else None
    return folded if kind == "bias" and folded in parameters else None


def _is_scale(name: str, network: nn.Module) -> bool:
    """A batch normalization's weight: one, as the folded scale is in the convolution."""
    return isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d) and name.endswith("weight")
