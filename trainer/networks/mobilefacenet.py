"""MobileFaceNet (arXiv 1804.07573): a face, aligned or cut out, becomes a vector that says who it is.

Two published networks of the same plan, each under its own public keys:

    mobilefacenet      PReLU everywhere, then a linear layer: 512 numbers, photo2cartoon's face-ID network
    mobilefacenet-128  ReLU6, a pointwise convolution more near the start, then a 1x1 convolution: 128 numbers

The plan: half size at once, three stages of inverted bottlenecks of which each halves again (7x7 maps of a 112 px
face), and instead of average pooling a depthwise convolution over the whole map, because the middle of a face says
more than its corners.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from livetoon.errors import ModelError
from trainer.networks import network


def _map_side(size: int) -> int:
    """Side of the last maps for a picture of `size` px."""
    if size < 16 or size % 16:
        raise ModelError(f"size {size}: expected a multiple of 16, the published networks take 112")
    return size // 16


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalization and, unless `linear`, a PReLU with a slope for each channel."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = None if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.prelu is None else self.prelu(x)


class Bottleneck(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation."""

    def __init__(self, inputs: int, outputs: int, inner: int, stride: int = 1):
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.conv = ConvNorm(inputs, inner)
        self.conv_dw = ConvNorm(inner, inner, kernel=3, stride=stride, padding=1, groups=inner)
        self.project = ConvNorm(inner, outputs, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y


class Stage(nn.Module):
    """`blocks` bottlenecks of one width, under the public key `model`."""

    def __init__(self, channels: int, inner: int, blocks: int):
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(channels, channels, inner) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@network("mobilefacenet")
class MobileFaceNet(nn.Module):
    """faces (N, 3, size, size) float32 RGB in [-1, 1] -> (N, dimensions) float32, not normalised.

    `dimensions`: length of the vector. `width`: channels of the first map, 64 as published; every other width is a
    fixed multiple of it. `blocks`: residual blocks of the three stages. `size`: side of a face, a multiple of 16.
    """

    def __init__(self, dimensions: int = 512, width: int = 64, blocks: Sequence[int] = (4, 6, 2), size: int = 112):
        super().__init__()
        self.settings = {"dimensions": dimensions, "width": width, "blocks": list(blocks), "size": size}
        self.size = size
        first, second, third = blocks
        self.conv1 = ConvNorm(3, width, kernel=3, stride=2, padding=1)
        self.conv2_dw = ConvNorm(width, width, kernel=3, padding=1, groups=width)
        self.conv_23 = Bottleneck(width, width, inner=width * 2, stride=2)
        self.conv_3 = Stage(width, inner=width * 2, blocks=first)
        self.conv_34 = Bottleneck(width, width * 2, inner=width * 4, stride=2)
        self.conv_4 = Stage(width * 2, inner=width * 4, blocks=second)
        self.conv_45 = Bottleneck(width * 2, width * 2, inner=width * 8, stride=2)
        self.conv_5 = Stage(width * 2, inner=width * 4, blocks=third)
        self.conv_6_sep = ConvNorm(width * 2, width * 8)
        self.conv_6_dw = ConvNorm(width * 8, width * 8, kernel=_map_side(size), groups=width * 8, linear=True)
        self.linear = nn.Linear(width * 8, dimensions, bias=False)
        self.bn = nn.BatchNorm1d(dimensions)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(faces))))
        x = self.conv_4(self.conv_34(x))
        x = self.conv_5(self.conv_45(x))
        x = self.conv_6_dw(self.conv_6_sep(x))
        return self.bn(self.linear(x.flatten(1)))


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise 1x1, each with batch normalization and ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.pointwise(torch.relu(self.bn1(self.depthwise(x))))))


class WholeMap(nn.Module):
    """A depthwise convolution as large as the map: (N, C, side, side) -> (N, C, 1, 1)."""

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, side, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))


def _conv_relu6(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class Inverted(nn.Module):
    """The bottleneck of MobileNetV2 (arXiv 1801.04381): ReLU6, no activation after the narrow convolution."""

    def __init__(self, inputs: int, outputs: int, inner: int, stride: int = 1):
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            _conv_relu6(inputs, inner),
            _conv_relu6(inner, inner, kernel=3, stride=stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


@network("mobilefacenet-128")
class MobileFaceNet128(nn.Module):
    """faces (N, 3, size, size) float32 RGB in ImageNet's scale -> (N, dimensions) float32, not normalised.

    ImageNet's scale: value in [0, 1] minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225). Keys and layers of
    foamliu/MobileFaceNet (Apache-2.0). Settings as MobileFaceNet's.
    """

    def __init__(self, dimensions: int = 128, width: int = 64, blocks: Sequence[int] = (4, 6, 2), size: int = 112):
        super().__init__()
        self.settings = {"dimensions": dimensions, "width": width, "blocks": list(blocks), "size": size}
        self.size = size
        first, second, third = blocks
        deep = width * 2
        self.conv1 = _conv_relu6(3, width, kernel=3, stride=2)
        self.dw_conv = Separable(width)
        self.features = nn.Sequential(
            Inverted(width, width, inner=width * 2, stride=2),
            *(Inverted(width, width, inner=width * 2) for _ in range(first)),
            Inverted(width, deep, inner=width * 4, stride=2),
            *(Inverted(deep, deep, inner=width * 4) for _ in range(second)),
            Inverted(deep, deep, inner=width * 8, stride=2),
            *(Inverted(deep, deep, inner=width * 4) for _ in range(third)),
        )
        self.conv2 = _conv_relu6(deep, width * 8)
        self.gdconv = WholeMap(width * 8, _map_side(size))
        self.conv3 = nn.Conv2d(width * 8, dimensions, 1)
        self.bn = nn.BatchNorm2d(dimensions)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.features(self.dw_conv(self.conv1(faces)))
        return self.bn(self.conv3(self.gdconv(self.conv2(x)))).flatten(1)

    def layers(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Every convolution in the order of work and the normalization behind it: an exported graph holds the same
        convolutions in the same order, with the normalization folded in."""
        yield self.conv1[0], self.conv1[1]
        yield self.dw_conv.depthwise, self.dw_conv.bn1
        yield self.dw_conv.pointwise, self.dw_conv.bn2
        for block in self.features:
            yield block.conv[0][0], block.conv[0][1]
            yield block.conv[1][0], block.conv[1][1]
            yield block.conv[2], block.conv[3]
        yield self.conv2[0], self.conv2[1]
        yield self.gdconv.depthwise, self.gdconv.bn
        yield self.conv3, self.bn
