"""Quantization-aware training: the live generator draws while it learns as its INT8 graph will (calib/quantize.py).

    weights       batch normalization folded in, with the statistics that it had learned; then int8 steps, one scale for
                  an output channel
    activations   what a convolution reads, in int8 steps of a range that training crops had at the start, one scale for
                  a tensor and group, because every group has a graph of its own

Rounding has no slope: gradients pass it as if it were not there, and stop where a value lies outside of its range
(straight-through: Jacob and others, arXiv 1712.05877, section 3). What is learned are the generator's own weights, so
that its checkpoints are those of any other run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from calib.quantize import LARGEST_ACTIVATION, LARGEST_WEIGHT
from calib.ranges import nearly_largest

MEASURED = 16  # crops of each group that ranges are taken from
SMALLEST = 1e-6  # range of a tensor that is all zeros
SMALLEST_WEIGHT = 1e-8  # the same of a channel's weights


class Rounding:
    """What rounding needs to know, and a generator that draws with it.

    ranges: "GROUP/CONVOLUTION" -> range r of what that convolution reads, a number: [-r, r] holds nearly all of it.
    largest_weight, largest_activation: codes reach from minus this to this.
    """

    def __init__(self, largest_weight: int = LARGEST_WEIGHT, largest_activation: int = LARGEST_ACTIVATION):
        self.largest_weight, self.largest_activation = largest_weight, largest_activation
        self.ranges: dict[str, Tensor] = {}

    def knows(self, group: str) -> bool:
        """Whether the group's ranges were measured."""
        return any(key.startswith(f"{group}/") for key in self.ranges)

    @torch.no_grad()
    def measure(self, generator: nn.Module, group: str, crops: Tensor) -> None:
        """Take the group's ranges from what `generator` computes of `crops`, (N, 3, S, S) in [-1, 1], unrounded.

        The rule is calib's `percentile` (calib/ranges.py), averaged over crops; 1 of the picture itself.
        """
        seen: dict[str, list[float]] = {}
        with _reading(generator, group, lambda name, x: seen.setdefault(name, []).append(_magnitude(x))):
            for crop in crops:
                generator.eval().logits(crop[None], group)
        first, *others = seen
        self.ranges[f"{group}/{first}"] = torch.ones(())
        for name in others:
            self.ranges[f"{group}/{name}"] = torch.tensor(max(float(np.mean(seen[name])), SMALLEST))

    def logits(self, generator: nn.Module, x: Tensor, group: str, constant_trunk: bool = False) -> Tensor:
        """What `generator.logits(x, group)` gives in int8 steps. Leaves the generator in eval mode.

        constant_trunk: no gradient reaches the parameters that groups share.
        """
        values: dict[str, Tensor] = {}
        for name, norm in _layers(generator, group):
            fixed = constant_trunk and not name.startswith("branches.")
            values |= self._folded(generator, name, norm, fixed)
        with _reading(generator, group, lambda name, x: self._stepped(x, self.ranges[f"{group}/{name}"])):
            return functional_call(generator.eval(), values, (x, group), {"raw": True})

    def _folded(self, generator: nn.Module, name: str, norm: str | None, fixed: bool) -> dict[str, Tensor]:
        """State of a convolution with folded and rounded weights, and of a norm after it that adds the bias alone."""
        convolution = generator.get_submodule(name)
        weight, values = _parameter(convolution.weight, fixed), {}
        if norm is not None:
            batch = generator.get_submodule(norm)
            factor = _parameter(batch.weight, fixed) * torch.rsqrt(batch.running_var + batch.eps)
            weight = weight * factor[:, None, None, None]
            values[f"{norm}.weight"] = torch.ones_like(batch.running_var)
            values[f"{norm}.bias"] = _parameter(batch.bias, fixed) - batch.running_mean * factor
            values[f"{norm}.running_mean"] = torch.zeros_like(batch.running_mean)
            values[f"{norm}.running_var"] = torch.full_like(batch.running_var, 1 - batch.eps)
        elif convolution.bias is not None:
            values[f"{name}.bias"] = _parameter(convolution.bias, fixed)
        largest = weight.detach().flatten(1).abs().amax(dim=1).clamp(min=SMALLEST_WEIGHT)
        zeros = torch.zeros(len(largest), dtype=torch.int32, device=weight.device)
        codes = -self.largest_weight, self.largest_weight
        scales = largest / self.largest_weight
        return values | {f"{name}.weight": torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, *codes)}

    def _stepped(self, x: Tensor, largest: Tensor) -> Tensor:
        codes = -self.largest_activation - 1, self.largest_activation  # int8 has one code more below zero
        return torch.fake_quantize_per_tensor_affine(x, float(largest) / self.largest_activation, 0, *codes)


def _parameter(value: Tensor, fixed: bool) -> Tensor:
    return value.detach() if fixed else value


def _magnitude(x: Tensor) -> float:
    return nearly_largest(x.abs().cpu().numpy().ravel())


def _layers(generator: nn.Module, group: str) -> Iterator[tuple[str, str | None]]:
    """Names of each convolution that draws the group, and of the batch normalization right after it."""
    others = tuple(f"branches.{each}." for each in generator.groups if each != group)
    modules = dict(generator.named_modules())
    after = {}
    for name, block in modules.items():
        children = [(f"{name}.{child}", module) for child, module in block.named_children()]
        for (first, convolution), (second, norm) in pairwise(children):
            if isinstance(block, nn.Sequential) and isinstance(convolution, nn.Conv2d):
                after[first] = second if isinstance(norm, nn.BatchNorm2d) else None
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d) and not name.startswith(others):
            yield name, after.get(name)


@contextmanager
def _reading(generator: nn.Module, group: str, look) -> Iterator[None]:
    """Meanwhile every convolution of the group reads what `look(its name, x)` makes of what it would read."""

    def hooked(name: str):
        def hook(_module: nn.Module, inputs: Sequence[Tensor]):
            seen = look(name, inputs[0])
            return (seen,) if isinstance(seen, Tensor) else None

        return hook

    hooks = [
        generator.get_submodule(name).register_forward_pre_hook(hooked(name)) for name, _ in _layers(generator, group)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
