"""The first design of the live generator: 3x3 convolutions all the way, one branch.

Kept as the opponent that `live` is measured against (trainer/evaluate.py, LOG.md); 1.81 M parameters,
5.4 GFLOP at 256 px. Keys as in its published baseline file: `e1.1`, `e2.0`, `e2.1.b`, `mid.N.b`, ...
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.networks import network
from trainer.networks.live import conv_bn


def conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*conv_bn(inputs, outputs, stride=stride), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.b = nn.Sequential(conv_bn_relu(channels, channels), conv_bn(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.b(x))


@network("live-dense")
class LiveDenseGenerator(nn.Module):
    """Same contract as `live`; every group is drawn by the one branch there is."""

    def __init__(self, groups: Sequence[str]):
        super().__init__()
        self.groups = tuple(groups)
        self.settings = {"groups": list(groups)}
        self.e1 = nn.Sequential(nn.PixelUnshuffle(2), *[conv_bn_relu(12, 24)])
        self.e2 = nn.Sequential(conv_bn_relu(24, 64, stride=2), Residual(64))
        self.e3 = nn.Sequential(conv_bn_relu(64, 128, stride=2))
        self.mid = nn.Sequential(*(Residual(128) for _ in range(5)))
        self.d3 = nn.Sequential(nn.Conv2d(128, 256, 1), nn.PixelShuffle(2))
        self.m2 = nn.Sequential(conv_bn_relu(64, 64), Residual(64))
        self.d2 = nn.Sequential(nn.Conv2d(64, 96, 1), nn.PixelShuffle(2))
        self.m1 = nn.Sequential(conv_bn_relu(24, 24), conv_bn_relu(24, 24))
        self.out = nn.Sequential(nn.Conv2d(24, 16, 3, padding=1), nn.PixelShuffle(2))

    def logits(self, x: Tensor, group: str) -> Tensor:
        f1 = self.e1(x)
        f2 = self.e2(f1)
        f3 = self.mid(self.e3(f2))
        return self.out(self.m1(f1 + self.d2(self.m2(f2 + self.d3(f3)))))

    def forward(self, x: Tensor, group: str) -> Tensor:
        y = self.logits(x, group)
        return torch.cat([torch.tanh(y[:, :3]), torch.sigmoid(y[:, 3:])], dim=1)
