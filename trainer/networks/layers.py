"""What the U-GAT-IT family is made of: padded convolutions, instance and layer-instance normalization, CAM.

Statistics are taken in float32 whatever the precision of the rest. They are written as InstanceNorm and as LayerNorm
over C, H, W (never as a group norm with one group), which is what the export keeps.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5


def instance_norm(x: Tensor) -> Tensor:
    """(x - mean) / sqrt(biased variance + 1e-5) per picture and channel; x: (N, C, H, W) float32.

    On CPUs it learns as a layer norm over each channel's pixels: the same formula in half the library's time.
    """
    if _learns_on_cpu(x):
        return F.layer_norm(x.flatten(2), (x.shape[2] * x.shape[3],), eps=EPS).view(x.shape)
    return F.instance_norm(x, eps=EPS)


def _learns_on_cpu(x: Tensor) -> bool:
    """Elsewhere, and in an exported graph, the library's norms are the better ones."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_exporting()


class InstanceNorm(nn.Module):
    """(x - mean) / sqrt(biased variance + 1e-5) per picture and channel."""

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x.float()).to(x.dtype)


def layer_instance(x: Tensor, rho: Tensor) -> Tensor:
    """rho * IN(x) + (1 - rho) * LN(x), float32, with UNBIASED variances (U-GAT-IT, arXiv 1907.10830, equation 1).

    (x - m) / sqrt(v N / (N - 1) + eps), v biased over N values, is a norm with biased variance, eps (N - 1) / N in
    place of eps and sqrt((N - 1) / N) in front: so the library's kernels serve, here and after export.
    x: (N, C, H, W); rho: (1, C, 1, 1) in [0, 1].
    """
    _, c, h, w = x.shape
    x, rho = x.float(), rho.float()

    def factors(count: int) -> tuple[float, float]:
        share = (count - 1) / count
        return math.sqrt(share), EPS * share

    scale, eps = factors(h * w)
    instance = F.instance_norm(x, eps=eps) * (rho * scale)
    scale, eps = factors(c * h * w)
    return instance + F.layer_norm(x, (c, h, w), eps=eps) * ((1 - rho) * scale)


class AdaLIN(nn.Module):
    """Adaptive layer-instance normalization: gamma and beta (N, C) come from outside."""

    def __init__(self, channels: int):
        super().__init__()
        self.rho = nn.Parameter(torch.full((1, channels, 1, 1), 0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y = layer_instance(x, self.rho)
        return (y * gamma.float()[:, :, None, None] + beta.float()[:, :, None, None]).to(x.dtype)

    @torch.no_grad()
    def clamp(self) -> None:
        """Hold rho in [0, 1]: called after every step."""
        self.rho.clamp_(0, 1)


class LIN(nn.Module):
    """Layer-instance normalization with its own gamma and beta."""

    def __init__(self, channels: int):
        super().__init__()
        self.rho = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (layer_instance(x, self.rho) * self.gamma.float() + self.beta.float()).to(x.dtype)

    @torch.no_grad()
    def clamp(self) -> None:
        """Hold rho in [0, 1]: called after every step."""
        self.rho.clamp_(0, 1)


def clamp(network: nn.Module) -> None:
    """Hold every mixing weight of `network` in [0, 1]."""
    for module in network.modules():
        if hasattr(module, "clamp"):
            module.clamp()


def padded(inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int | None = None, bias=False) -> list:
    """Reflection pad and convolution."""
    return [
        nn.ReflectionPad2d(kernel // 2 if pad is None else pad),
        nn.Conv2d(inputs, outputs, kernel, stride, bias=bias),
    ]


class ResidualBlock(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x))))), 3x3, reflection pads."""

    def __init__(self, channels: int, bias: bool = False):
        super().__init__()
        first, second = padded(channels, channels, 3, bias=bias), padded(channels, channels, 3, bias=bias)
        self.conv_block = nn.Sequential(*first, InstanceNorm(), nn.ReLU(), *second, InstanceNorm())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class CAM(nn.Module):
    """Class activation maps as attention: two pooled heads weigh the features, a 1x1 convolution joins them.

    heads: rows of each head; with more than one, a picture's features are weighed by the row of its group.
    """

    def __init__(self, channels: int, heads: int, bias: bool):
        super().__init__()
        self.gap_fc = nn.Linear(channels, heads, bias=bias)
        self.gmp_fc = nn.Linear(channels, heads, bias=bias)
        self.conv1x1 = nn.Conv2d(channels * 2, channels, 1)

    def forward(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (N, C, H, W), rows (N,) int -> features (N, C, H, W), logits (N, 2) or (N, 2, heads), heatmap
        (N, 1, H, W). Column 0 of the logits is the average-pool head, column 1 the max-pool head."""
        logits, weighed = [], []
        for head, pooled in ((self.gap_fc, x.mean(dim=(2, 3))), (self.gmp_fc, x.amax(dim=(2, 3)))):
            logits.append(head(pooled))
            weight = head.weight[rows] if head.out_features > 1 else head.weight
            weighed.append(x * weight[:, :, None, None].to(x.dtype))
        features = F.relu(self.conv1x1(torch.cat(weighed, dim=1)))
        stacked = torch.stack(logits, dim=1)
        return features, stacked.flatten(1) if stacked.shape[2] == 1 else stacked, features.sum(dim=1, keepdim=True)
