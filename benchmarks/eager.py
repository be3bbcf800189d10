"""The PyTorch network behind a model folder: what its engines are compared with.

An export folds and reorders weights; this undoes the reordering and leaves the folding to batch normalizations that
hold the biases. So the network does in eager mode what it did in training, with the weights that were shipped.
"""

import itertools
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


def eager_network(folder: Path) -> nn.Module:
    """The network of a model folder, in eval mode, all groups."""
    described = manifest.read(folder)
    network = build(described.network, **described.settings).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.running_var, 1 - module.eps)
    for group in described.groups:
        stored = _weights(onnx.load(manifest.open_files(folder, group).graph("fp32")))
        places = _places(network, group, described.size)
        if [weight.shape for weight, _ in stored] != [tuple(weight.shape) for weight, _ in places]:
            raise ModelError(f"{folder}: the graph of {group} is not network {described.network} with its settings")
        for values, parameters in zip(stored, places, strict=True):
            for value, parameter in zip(values, parameters, strict=True):
                parameter.data.copy_(torch.from_numpy(value))
    return network


def _places(network: nn.Module, group: str, size: int) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Weight and bias of every convolution in the order in which they run; a folded bias is the norm's after it."""
    ran: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: ran.append(module))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 3, size, size), group)
    for hook in hooks:
        hook.remove()
    return [
        (module.weight, following.bias if module.bias is None else module.bias)
        for module, following in itertools.pairwise([*ran, ran[-1]])
        if isinstance(module, nn.Conv2d)
    ]


def _weights(model: ModelProto) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias of every convolution as the network has them, in the order of the graph."""
    stored = {value.name: numpy_helper.to_array(value).astype(np.float32) for value in model.graph.initializer}
    half = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    found = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight, *bias = (_as_trained(model, node, stored[half.get(name, name)]) for name in node.input[1:])
            found.append((weight, bias[0] if bias else np.zeros(len(weight), np.float32)))  # a zero bias is left out
    return found


def _as_trained(model: ModelProto, convolution: NodeProto, value: np.ndarray) -> np.ndarray:
    """A weight or bias before the rewrites of engine.rewrite."""
    shuffled, last = _followed_by_shuffle(model, convolution)
    if shuffled:
        value = value.reshape(BLOCK**2, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
    if last:
        value = np.concatenate([value[: 3 * BLOCK**2] / 2, value[3 * BLOCK**2 :]])
    if value.ndim == 4 and value.shape[2:] == (3 * BLOCK, 3 * BLOCK):
        outputs, inputs = value.shape[:2]
        blocks = value.reshape(outputs, inputs, 3, BLOCK, 3, BLOCK).transpose(0, 1, 3, 5, 2, 4)
        value = blocks.reshape(outputs, inputs * BLOCK**2, 3, 3)
    return value


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
