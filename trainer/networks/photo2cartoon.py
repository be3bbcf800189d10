"""photo2cartoon's generator (minivision, 2020), light and full, and with group branches: the few-shot network of
arXiv 2007.13332. Hourglasses before and after U-GAT-IT's trunk; Soft-AdaLIN takes gamma and beta from content and
style."""

import itertools
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks import network
from trainer.networks.branches import Branched, Drawing
from trainer.networks.layers import CAM, AdaLIN, InstanceNorm, ResidualBlock, padded
from trainer.networks.ugatit import up

BLOCKS = 4  # encoder and decoder blocks: each decoder block reads the content of its encoder block


class ConvBlock(nn.Module):
    """Three pre-activated 3x3 convolutions of 1/2, 1/4 and 1/4 of the channels, joined, + x.

    `ConvBlock4` takes no part where as many channels go in as out, which is always; published files carry it.
    """

    def __init__(self, channels: int):
        super().__init__()
        widths = (channels, channels // 2, channels // 4, channels // 4)
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
            block = nn.Sequential(InstanceNorm(), nn.ReLU(), *padded(inputs, outputs, 3))
            setattr(self, f"ConvBlock{index}", block)
        self.ConvBlock4 = nn.Sequential(InstanceNorm(), nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False))
        self.ConvBlock4.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        first = self.ConvBlock1(x)
        second = self.ConvBlock2(first)
        return x + torch.cat([first, second, self.ConvBlock3(second)], dim=1)


class HourGlassBlock(nn.Module):
    """Four times down and up again, with a skip at each level."""

    LEVELS = 4

    def __init__(self, channels: int):
        super().__init__()
        for level in range(1, self.LEVELS + 1):
            setattr(self, f"ConvBlock{level}_1", ConvBlock(channels))
            setattr(self, f"ConvBlock{level}_2", ConvBlock(channels))
        for index in range(5, 10):
            setattr(self, f"ConvBlock{index}", ConvBlock(channels))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in range(1, self.LEVELS + 1):
            skips.append(getattr(self, f"ConvBlock{level}_1")(x))
            x = getattr(self, f"ConvBlock{level}_2")(F.avg_pool2d(x, 2))
        x = self.ConvBlock5(x)
        for index, skip in zip(range(6, 10), reversed(skips), strict=True):
            x = F.interpolate(getattr(self, f"ConvBlock{index}")(x), scale_factor=2) + skip
        return x


class HourGlass(nn.Module):
    """x + what the hourglass sees + what its own picture says; the last one gives that picture (3 channels) alone."""

    def __init__(self, channels: int, picture: bool = False):
        super().__init__()
        self.HG = nn.Sequential(
            HourGlassBlock(channels),
            ConvBlock(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            InstanceNorm(),
            nn.ReLU(),
        )
        self.Conv1 = nn.Conv2d(channels, 3, 1)
        self.picture = picture
        if not picture:
            self.Conv2 = nn.Conv2d(channels, channels, 1)
            self.Conv3 = nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.HG(x)
        picture = self.Conv1(seen)
        return picture if self.picture else x + self.Conv2(seen) + self.Conv3(picture)


class Encoder(nn.Module):
    """Four residual blocks; each one's spatial mean is a content feature (N, C)."""

    def __init__(self, channels: int):
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(BLOCKS))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        content = []
        for block in self.blocks:
            x = block(x)
            content.append(x.mean(dim=(2, 3)))
        return x, content


class Style(nn.Module):
    """Attended face (N, C, H, W) -> style features (N, C). light: of the pooled features."""

    def __init__(self, channels: int, light: bool, side: int):
        super().__init__()
        inputs = channels if light else channels * side * side
        self.light = light
        self.FC = nn.Sequential(nn.Linear(inputs, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.FC(x.mean(dim=(2, 3)) if self.light else x.flatten(1))


class SoftAdaLIN(nn.Module):
    """AdaLIN whose gamma and beta are mixed from content and style: (1 - w) style + w content, w starting at 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = AdaLIN(channels)
        self.w_gamma = nn.Parameter(torch.zeros(1, channels))
        self.w_beta = nn.Parameter(torch.zeros(1, channels))

        def content() -> nn.Sequential:
            return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))

        self.c_gamma, self.c_beta = content(), content()
        self.s_gamma, self.s_beta = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, content: Tensor, style: Tensor) -> Tensor:
        gamma = torch.lerp(self.s_gamma(style).float(), self.c_gamma(content).float(), self.w_gamma.float())
        beta = torch.lerp(self.s_beta(style).float(), self.c_beta(content).float(), self.w_beta.float())
        return self.norm(x, gamma, beta)

    @torch.no_grad()
    def clamp(self) -> None:
        """Hold both mixing weights in [0, 1]: called after every step."""
        self.w_gamma.clamp_(0, 1)
        self.w_beta.clamp_(0, 1)


class SoftBlock(nn.Module):
    """x + Soft-AdaLIN(conv(ReLU(Soft-AdaLIN(conv(x)))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.pad1, self.conv1 = padded(channels, channels, 3)
        self.norm1 = SoftAdaLIN(channels)
        self.pad2, self.conv2 = padded(channels, channels, 3)
        self.norm2 = SoftAdaLIN(channels)

    def forward(self, x: Tensor, content: Tensor, style: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(self.pad1(x)), content, style))
        return x + self.norm2(self.conv2(self.pad2(y)), content, style)


class Decoder(nn.Module):
    """Four blocks; the first reads the last content feature."""

    def __init__(self, channels: int):
        super().__init__()
        self.blocks = nn.ModuleList(SoftBlock(channels) for _ in range(BLOCKS))

    def forward(self, x: Tensor, content: list[Tensor], style: Tensor) -> Tensor:
        for block, feature in zip(self.blocks, reversed(content), strict=True):
            x = block(x, feature, style)
        return x


@network("photo2cartoon")
class Photo2Cartoon(Branched):
    """photo (N, 3, S, S) in [-1, 1] -> Drawing. S: a multiple of 16; the full network takes its own `size` only.

    width: channels of the stem (published: 32), a multiple of 4; heads: rows of the CAM heads, one for each group
    in the few-shot network; own: parts that each group has to itself.
    """

    def __init__(
        self,
        groups: Sequence[str],
        size: int = 256,
        width: int = 32,
        light: bool = True,
        own: Sequence[str] = (),
        heads: int = 1,
    ):
        deep = width * 4
        parts = {
            "stem": lambda: nn.Sequential(*padded(3, width, 7), InstanceNorm(), nn.ReLU()),
            "hourglass1": lambda: HourGlass(width),
            "hourglass2": lambda: HourGlass(width),
            "down1": lambda: nn.Sequential(*padded(width, width * 2, 3, 2), InstanceNorm(), nn.ReLU()),
            "down2": lambda: nn.Sequential(*padded(width * 2, deep, 3, 2), InstanceNorm(), nn.ReLU()),
            "encode": lambda: Encoder(deep),
            "cam": lambda: CAM(deep, heads, bias=True),
            "style": lambda: Style(deep, light, size // 4),
            "decode": lambda: Decoder(deep),
            "up1": lambda: up(deep, width * 2),
            "up2": lambda: up(width * 2, width),
            "hourglass3": lambda: HourGlass(width),
            "hourglass4": lambda: HourGlass(width, picture=True),
            "out": lambda: nn.Sequential(*padded(3, 3, 7), nn.Tanh()),
        }
        super().__init__(groups, own, parts)
        self.settings = {
            "groups": list(groups), "size": size, "width": width, "light": light, "own": list(own), "heads": heads,
        }  # fmt: skip

    def forward(self, x: Tensor, group: str | Sequence[str], constant: Collection[str] = ()) -> Drawing:
        names = self.names_of(x, group)
        rows = self.rows(names, x.device)
        for part in ("stem", "hourglass1", "hourglass2", "down1", "down2"):
            x = self.run(part, names, constant, x)
        x, content = self.run("encode", names, constant, x)
        x, logits, heatmap = self.run("cam", names, constant, x, rows)
        style = self.run("style", names, constant, x)
        x = self.run("decode", names, constant, x, content, style)
        for part in ("up1", "up2", "hourglass3", "hourglass4", "out"):
            x = self.run(part, names, constant, x)
        return Drawing(x, logits, heatmap)
