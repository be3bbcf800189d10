"""A group's graph of the live generators: batch normalization folded, nothing left that takes a pass of its own.

fold      batch normalization into the convolutions (in float64)
trace     batch free unless it is fixed
rewrite   exact, see rewrite.py; only Conv, Relu, Add, Sigmoid, DepthToSpace remain
"""

import copy
import itertools

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engine import rewrite
from engine.trace import operations, traced
from livetoon.errors import ModelError

KINDS = {"Conv", "Relu", "Add", "Sigmoid", "DepthToSpace"}


class LiveGraphs:
    """Makes the graph of each group of `generator` (`logits(x, group)` as in trainer.networks.live)."""

    has_alpha = True
    half_weights = True  # float16 in the file: more than 60 dB from float32

    def __init__(self, generator: nn.Module, size: int, batch: int | None):
        self._folded, self._size, self.batch = fold(generator), size, batch
        crop = torch.zeros(1, 3, size, size)
        self.operations = operations(_Logits(generator, generator.groups[0]), [crop])

    def graph(self, group: str, title: str) -> onnx.ModelProto:
        """One group's graph in float32. ModelError when the network computes in a way that the rewrites do not know."""
        crops = torch.zeros(self.batch or 2, 3, self._size, self._size)
        model = traced(_Logits(self._folded, group), [crops], ["crop"], self.batch)
        try:
            rewrite.rgba_head(model)
        except ValueError as error:
            raise ModelError(f"group {group}: cannot be exported as red, green, blue and alpha: {error}") from None
        rewrite.depth_first_shuffles(model)
        rewrite.unshuffle_into_convolution(model)
        model = rewrite.clean(model, title)
        if leftover := {node.op_type for node in model.graph.node} - KINDS:
            raise ModelError(f"group {group}: operations that should have been folded are left: {sorted(leftover)}")
        return model


def fold(generator: nn.Module) -> nn.Module:
    """A copy in eval mode whose batch normalizations are part of the convolutions before them."""
    folded = copy.deepcopy(generator).double().eval()
    for block in folded.modules():
        if not isinstance(block, nn.Sequential):
            continue
        names = list(block._modules)
        for first, second in itertools.pairwise(names):
            convolution, norm = block._modules[first], block._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block._modules[first] = fuse_conv_bn_eval(convolution, norm)
                block._modules[second] = nn.Identity()
    return folded.float()


class _Logits(nn.Module):
    def __init__(self, generator: nn.Module, group: str):
        super().__init__()
        self.generator = generator
        self.group = group

    def forward(self, crop: Tensor) -> Tensor:
        return self.generator.logits(crop, self.group)
