"""U-GAT-IT's generator (arXiv 1907.10830), light and full, any number of blocks; also with branches."""

from collections.abc import Collection, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks import network
from trainer.networks.branches import Branched, Drawing
from trainer.networks.layers import CAM, LIN, AdaLIN, InstanceNorm, ResidualBlock, padded


class Style(nn.Module):
    """Encoded face (N, C, H, W) -> gamma, beta (N, C), shared by all decoder blocks. No biases.

    light: of the pooled features; otherwise of all of them, which ties the network to one size.
    """

    def __init__(self, channels: int, light: bool, side: int):
        super().__init__()
        inputs = channels if light else channels * side * side
        self.light = light
        self.FC = nn.Sequential(
            nn.Linear(inputs, channels, bias=False),
            nn.ReLU(),
            nn.Linear(channels, channels, bias=False),
            nn.ReLU(),
        )
        self.gamma = nn.Linear(channels, channels, bias=False)
        self.beta = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.FC(x.mean(dim=(2, 3)) if self.light else x.flatten(1))
        return self.gamma(code), self.beta(code)


class AdaptiveBlock(nn.Module):
    """x + AdaLIN(conv(ReLU(AdaLIN(conv(x))))), 3x3, reflection pads."""

    def __init__(self, channels: int):
        super().__init__()
        self.pad1, self.conv1 = padded(channels, channels, 3)
        self.norm1 = AdaLIN(channels)
        self.pad2, self.conv2 = padded(channels, channels, 3)
        self.norm2 = AdaLIN(channels)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(self.pad1(x)), gamma, beta))
        return x + self.norm2(self.conv2(self.pad2(y)), gamma, beta)


class Decoder(nn.Module):
    def __init__(self, channels: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList(AdaptiveBlock(channels) for _ in range(blocks))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, gamma, beta)
        return x


def up(inputs: int, outputs: int, pad: int = 1) -> nn.Sequential:
    """Nearest x2, 3x3 convolution, LIN, ReLU."""
    return nn.Sequential(nn.Upsample(scale_factor=2), *padded(inputs, outputs, 3, pad=pad), LIN(outputs), nn.ReLU())


@network("ugatit")
class UGATIT(Branched):
    """photo (N, 3, S, S) in [-1, 1] -> Drawing.

    width: channels of the stem (published: 64); light: style from pooled features; keypoint_pads: the keypoint
    project's decoder, which pads once before the last convolution and so wants S = 4k + 2 (178).
    S: a multiple of 4; the full network takes its own `size` only. own: parts that each group has to itself.
    """

    def __init__(
        self,
        groups: Sequence[str],
        size: int = 256,
        width: int = 64,
        blocks: int = 4,
        light: bool = True,
        own: Sequence[str] = (),
        heads: int = 1,
        keypoint_pads: bool = False,
    ):
        deep = width * 4
        pad, last = (0, 5) if keypoint_pads else (1, 3)
        parts = {
            "stem": lambda: nn.Sequential(*padded(3, width, 7), InstanceNorm(), nn.ReLU()),
            "down": lambda: nn.Sequential(
                *padded(width, width * 2, 3, 2), InstanceNorm(), nn.ReLU(),
                *padded(width * 2, deep, 3, 2), InstanceNorm(), nn.ReLU(),
            ),
            "encode": lambda: nn.Sequential(*(ResidualBlock(deep) for _ in range(blocks))),
            "cam": lambda: CAM(deep, heads, bias=False),
            "style": lambda: Style(deep, light, size // 4),
            "decode": lambda: Decoder(deep, blocks),
            "up": lambda: nn.Sequential(up(deep, width * 2, pad), up(width * 2, width, pad)),
            "out": lambda: nn.Sequential(*padded(width, 3, 7, pad=last), nn.Tanh()),
        }  # fmt: skip
        super().__init__(groups, own, parts)
        self.settings = {
            "groups": list(groups), "size": size, "width": width, "blocks": blocks, "light": light,
            "own": list(own), "heads": heads, "keypoint_pads": keypoint_pads,
        }  # fmt: skip

    def forward(self, x: Tensor, group: str | Sequence[str], constant: Collection[str] = ()) -> Drawing:
        names = self.names_of(x, group)
        rows = self.rows(names, x.device)
        for part in ("stem", "down", "encode"):
            x = self.run(part, names, constant, x)
        x, logits, heatmap = self.run("cam", names, constant, x, rows)
        gamma, beta = self.run("style", names, constant, x)
        x = self.run("decode", names, constant, x, gamma, beta)
        for part in ("up", "out"):
            x = self.run(part, names, constant, x)
        return Drawing(x, logits, heatmap)
