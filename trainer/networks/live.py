"""The live generator: photo crop in, cartoon and its alpha out, one branch per group of people.

    e1, e2   (group)   what a group looks like: 128 and 64 px maps
    trunk    (shared)  what a face is: 32 and 16 px maps
    d3 .. out (group)  how a group is drawn: back to 256 px

What costs little at 64, 32 and 16 px is spent there: blocks of one depthwise 5x5
and two 1x1 convolutions (the block of ConvNeXt, arXiv 2201.03545, with batch instead of layer
normalization, which folds into the convolutions at export). There is no reflection pad, no resize and no
normalization left at run time: a CPU without bf16 or VNNI must manage 20 frames a second beside a browser.
Against the all-3x3 design of `live_dense.py`: a quarter of the operations (see LOG.md for both, measured).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.networks import network


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, then batch normalization: one convolution after export."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Mixer(nn.Module):
    """x + pointwise(ReLU(pointwise(depthwise 5x5(x)))); starts as the identity."""

    def __init__(self, channels: int, expand: int = 2):
        super().__init__()
        self.depthwise = conv_bn(channels, channels, kernel=5, groups=channels)
        self.widen = conv_bn(channels, channels * expand, kernel=1)
        self.narrow = conv_bn(channels * expand, channels, kernel=1)
        nn.init.zeros_(self.narrow[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(torch.relu(self.widen(self.depthwise(x))))


class Trunk(nn.Module):
    """(N, c2, S/4, S/4) -> (N, c3, S/8, S/8): shared by all groups, moved by the basic group only."""

    def __init__(self, c2: int, c3: int, c4: int, blocks: Sequence[int]):
        super().__init__()
        before, deep, after = blocks
        self.down3 = conv_bn(c2, c3, stride=2)
        self.before = nn.Sequential(*(Mixer(c3) for _ in range(before)))
        self.down4 = conv_bn(c3, c4, stride=2)
        self.deep = nn.Sequential(*(Mixer(c4) for _ in range(deep)))
        self.up4 = nn.Conv2d(c4, c3 * 4, 1)
        self.after = nn.Sequential(*(Mixer(c3) for _ in range(after)))
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, f2: Tensor) -> Tensor:
        f3 = self.before(torch.relu(self.down3(f2)))
        deep = self.deep(torch.relu(self.down4(f3)))
        return self.after(f3 + self.shuffle(self.up4(deep)))


@network("live")
class LiveGenerator(nn.Module):
    """crop (N, 3, S, S) float32 RGB in [-1, 1] -> (N, 4, S, S): RGB in [-1, 1] and alpha in [0, 1].

    `groups`: any number of names; the first is the basic group, whose pictures move the trunk.
    own: the parts outside the trunk that each group has to itself; the others stand in the trunk too.
    S: a multiple of 16.
    """

    PARTS = ("e1", "e2", "d3", "m2", "refine", "d2", "m1", "out")

    def __init__(
        self,
        groups: Sequence[str],
        widths: Sequence[int] = (16, 48, 96, 192),
        blocks: Sequence[int] = (0, 5, 3),
        refine: int = 2,
        own: Sequence[str] = PARTS,
    ):
        super().__init__()
        if unknown := set(own) - set(self.PARTS):
            raise ValueError(f"own={','.join(sorted(unknown))}: expected parts of {', '.join(self.PARTS)}")
        self.groups, self.own = tuple(groups), tuple(name for name in self.PARTS if name in own)
        self.settings = {"groups": list(groups), "widths": list(widths), "blocks": list(blocks), "refine": refine}
        if self.own != self.PARTS:
            self.settings["own"] = list(self.own)
        c1, c2, c3, c4 = widths
        parts = {
            "e1": lambda: conv_bn(12, c1),
            "e2": lambda: conv_bn(c1, c2, stride=2),
            "d3": lambda: nn.Conv2d(c3, c2 * 4, 1),
            "m2": lambda: conv_bn(c2, c2),
            "refine": lambda: nn.Sequential(*(Mixer(c2) for _ in range(refine))),
            "d2": lambda: nn.Conv2d(c2, c1 * 4, 1),
            "m1": lambda: conv_bn(c1, c1),
            "out": lambda: nn.Conv2d(c1, 16, 3, padding=1),
        }
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.trunk = Trunk(c2, c3, c4, blocks)
        for name in self.PARTS:
            if name not in self.own:
                self.trunk.add_module(name, parts[name]())
        self.branches = nn.ModuleDict(
            {group: nn.ModuleDict({name: parts[name]() for name in self.own}) for group in groups}
        )

    def logits(self, x: Tensor, group: str) -> Tensor:
        """What the losses see: (N, 4, S, S) before tanh (RGB) and sigmoid (alpha)."""
        branch = self.branches[group]
        part = {name: branch[name] if name in self.own else getattr(self.trunk, name) for name in self.PARTS}
        f1 = torch.relu(part["e1"](self.unshuffle(x)))  # (N, c1, S/2, S/2)
        f2 = torch.relu(part["e2"](f1))  # (N, c2, S/4, S/4)
        f3 = self.trunk(f2)
        y = part["refine"](torch.relu(part["m2"](f2 + self.shuffle(part["d3"](f3)))))
        y = torch.relu(part["m1"](f1 + self.shuffle(part["d2"](y))))
        return self.shuffle(part["out"](y))

    def forward(self, x: Tensor, group: str, raw: bool = False) -> Tensor:
        """raw: the logits."""
        y = self.logits(x, group)
        return y if raw else torch.cat([torch.tanh(y[:, :3]), torch.sigmoid(y[:, 3:])], dim=1)
