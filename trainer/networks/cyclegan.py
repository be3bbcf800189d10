"""CycleGAN's networks (arXiv 1703.10593) and ECE285's variant of them."""

import itertools
from collections.abc import Collection, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks import network
from trainer.networks.branches import Branched, Drawing
from trainer.networks.discriminators import Verdict
from trainer.networks.layers import InstanceNorm, ResidualBlock, padded

BLOCKS = 9


class ReluBlock(ResidualBlock):
    """ECE285's residual block: a ReLU stands after the second norm, before the sum."""

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.conv_block(x))


def initialise(module: nn.Module, transposed: bool) -> None:
    """N(0, 0.02) weights; transposed: of transposed convolutions too, and biases 0 (CycleGAN does, ECE285 does not)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) or (transposed and isinstance(layer, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if transposed and layer.bias is not None:
                nn.init.zeros_(layer.bias)


@network("cyclegan")
class CycleGANGenerator(Branched):
    """photo (N, 3, S, S) in [-1, 1] -> Drawing without CAM. S: a multiple of 4.

    variant: `cyclegan` pads the down convolutions with zeros, `ece285` reflects there and has a ReLU more in
    every block.
    """

    def __init__(
        self, groups: Sequence[str], size: int = 256, width: int = 64, blocks: int = BLOCKS,
        variant: str = "cyclegan", own: Sequence[str] = (),
    ):  # fmt: skip
        published = variant == "cyclegan"
        deep = width * 4

        def down(inputs: int, outputs: int) -> list:
            mode = "zeros" if published else "reflect"
            return [nn.Conv2d(inputs, outputs, 3, 2, 1, padding_mode=mode), InstanceNorm(), nn.ReLU()]

        def up(inputs: int, outputs: int) -> list:
            return [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1), InstanceNorm(), nn.ReLU()]

        block = ResidualBlock if published else ReluBlock
        parts = {
            "stem": lambda: nn.Sequential(*padded(3, width, 7, bias=True), InstanceNorm(), nn.ReLU()),
            "down": lambda: nn.Sequential(*down(width, width * 2), *down(width * 2, deep)),
            "encode": lambda: nn.Sequential(*(block(deep, bias=True) for _ in range(blocks))),
            "up": lambda: nn.Sequential(*up(deep, width * 2), *up(width * 2, width)),
            "out": lambda: nn.Sequential(*padded(width, 3, 7, bias=True), nn.Tanh()),
        }
        super().__init__(groups, own, parts)
        initialise(self, transposed=published)
        self.settings = {
            "groups": list(groups), "size": size, "width": width, "blocks": blocks, "variant": variant,
            "own": list(own),
        }  # fmt: skip

    def forward(self, x: Tensor, group: str | Sequence[str], constant: Collection[str] = ()) -> Drawing:
        names = self.names_of(x, group)
        for part in self.parts:
            x = self.run(part, names, constant, x)
        return Drawing(x)


@network("patchgan")
class PatchGAN(nn.Module):
    """picture (N, 3, S, S) -> Verdict whose logit is one value for each 70x70 patch, (N, 1, S/8 - 2, S/8 - 2).

    variant `ece285`: values through a sigmoid.
    """

    def __init__(self, width: int = 64, variant: str = "cyclegan"):
        super().__init__()
        widths = (3, width, width * 2, width * 4, width * 8)
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            layers.append(nn.Conv2d(inputs, outputs, 4, 2 if index < 3 else 1, 1))
            if index:
                layers.append(InstanceNorm())
            layers.append(nn.LeakyReLU(0.2))
        layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        if variant == "ece285":
            layers.append(nn.Sigmoid())
        self.model = nn.Sequential(*layers)
        initialise(self, transposed=variant == "cyclegan")
        self.settings = {"width": width, "variant": variant}

    def forward(self, x: Tensor) -> Verdict:
        return Verdict(self.model(x))
