"""The network of faces/matte.py: down to 8 px, where one block sees the whole picture, and up again.

Upwards a 1x1 convolution and the nearest pixel, whose steps the 5x5 convolutions behind it smooth: sub-pixel
convolutions (PixelShuffle) took 0.2 ms more of 1.4, and 43 kB. The last one stays, for the outline.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trainer.networks.live import Mixer, conv_bn

WIDTHS = (16, 32, 64, 88)  # channels at 64, 32, 16 and 8 px
OUT = 24  # channels of the last layer at 64 px, of which four times the alpha is made


class MatteNetwork(nn.Module):
    """x (N, 3, 128, 128) float32 RGB in [-1, 1] -> logits of alpha (N, 1, 128, 128). 34 million multiplications."""

    def __init__(self):
        super().__init__()
        c1, c2, c3, c4 = WIDTHS
        self.stem = conv_bn(3, c1, stride=2)
        self.down2, self.down3, self.down4 = _down(c1, c2), _down(c2, c3), _down(c3, c4)
        self.before2 = Mixer(c2)
        self.before3 = nn.Sequential(Mixer(c3), Mixer(c3))
        self.deep = nn.Sequential(Mixer(c4), Mixer(c4))
        self.up3, self.up2, self.up1 = (nn.Conv2d(*pair, 1) for pair in ((c4, c3), (c3, c2), (c2, c1)))
        self.after2 = Mixer(c2)
        self.after1 = nn.Sequential(conv_bn(c1, c1, kernel=5, groups=c1), conv_bn(c1, OUT, kernel=1), nn.ReLU())
        self.out = nn.Sequential(nn.Conv2d(OUT, 4, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        f1 = torch.relu(self.stem(x))
        f2 = self.before2(self.down2(f1))
        f3 = self.before3(self.down3(f2))
        y = self.deep(self.down4(f3))
        y = torch.relu(f3 + _twice(self.up3(y)))
        y = self.after2(f2 + _twice(self.up2(y)))
        y = self.after1(f1 + _twice(self.up1(y)))
        return self.out(y)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(inputs, inputs, 5, stride=2, groups=inputs), conv_bn(inputs, outputs, 1), nn.ReLU())


def _twice(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="nearest")
