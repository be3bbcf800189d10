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


def layer_instance(x: Tensor, rho: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """gamma (rho IN(x) + (1 - rho) LN(x)) + beta, float32, with UNBIASED variances (U-GAT-IT, arXiv 1907.10830,
    equation 1).

    (x - m) / sqrt(v N / (N - 1) + eps), v biased over N values, is a norm with biased variance, eps (N - 1) / N in
    place of eps and sqrt((N - 1) / N) in front: so the library's kernels serve, here and after export.
    x: (N, C, H, W); rho: (1, C, 1, 1) in [0, 1]; gamma, beta: (1 or N, C, 1, 1).
    """
    _, c, h, w = x.shape
    x, rho, gamma, beta = x.float(), rho.float(), gamma.float(), beta.float()
    (scale, eps), (layer_scale, layer_eps) = (_unbiased(count) for count in (h * w, c * h * w))
    if _learns_on_cpu(x):
        return _LayerInstance.apply(x, rho * gamma * scale, (1 - rho) * gamma * layer_scale, beta, eps, layer_eps)
    instance = F.instance_norm(x, eps=eps) * (rho * scale)
    return (instance + F.layer_norm(x, (c, h, w), eps=layer_eps) * ((1 - rho) * layer_scale)) * gamma + beta


def _unbiased(count: int) -> tuple[float, float]:
    share = (count - 1) / count
    return math.sqrt(share), EPS * share


class _LayerInstance(torch.autograd.Function):
    """a IN(x) + b LN(x) + beta, biased variances, in two passes over the maps there and three back, with one map kept.

    With z = IN(x), channel means m_c and deviations s_c, and the layer's mean m and inverse deviation r, it is
    (a + b r s_c) z + beta + b r (m_c - m): only numbers for each channel remain. x: (N, C, H, W) float32; a, b, beta:
    (1 or N, C, 1, 1).
    """

    @staticmethod
    def forward(ctx, x: Tensor, a: Tensor, b: Tensor, beta: Tensor, eps: float, layer_eps: float) -> Tensor:
        ctx.shapes = [value.shape for value in (a, b, beta)]
        z, mean, inverse = torch.native_layer_norm(x.flatten(2), (x.shape[2] * x.shape[3],), None, None, eps)
        mean, deviation = mean.double(), 1 / inverse.double()
        apart = mean - mean.mean(dim=1, keepdim=True)
        variance = (deviation.square() - eps + apart.square()).mean(dim=1, keepdim=True)
        r = (variance + layer_eps).rsqrt()
        a, b, beta = (value.flatten(2).double() for value in (a, b, beta))
        factor = a + b * r * deviation
        ctx.save_for_backward(z, deviation, apart, r, b, factor)
        return torch.addcmul((beta + b * r * apart).float(), z, factor.float()).view(x.shape)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, ...]:
        z, deviation, apart, r, b, factor = ctx.saved_tensors
        (n, channels, pixels), g = z.shape, slope.flatten(2)
        total = g.sum(dim=2, keepdim=True).double()
        along = (g.reshape(-1, 1, pixels) @ z.view(-1, pixels, 1)).view(n, channels, 1).double()
        of_b = deviation * along + apart * total
        of_variance = -0.5 * r.pow(3) * (b * of_b).sum(dim=1, keepdim=True) / channels
        of_deviation = b * r * along + 2 * deviation * of_variance
        of_apart = b * r * total + 2 * apart * of_variance
        of_mean = of_apart - of_apart.mean(dim=1, keepdim=True)
        steep = factor / deviation
        found = torch.addcmul(((of_mean - steep * total) / pixels).float(), g, steep.float())
        found.addcmul_(z, ((of_deviation - steep * along) / pixels).float())
        slopes = (along, r * of_b, total)
        shaped = [value[..., None].sum_to_size(shape).float() for value, shape in zip(slopes, ctx.shapes, strict=True)]
        return found.view(slope.shape), *shaped, None, None


class AdaLIN(nn.Module):
    """Adaptive layer-instance normalization: gamma and beta (N, C) come from outside."""

    def __init__(self, channels: int):
        super().__init__()
        self.rho = nn.Parameter(torch.full((1, channels, 1, 1), 0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return layer_instance(x, self.rho, gamma[:, :, None, None], beta[:, :, None, None]).to(x.dtype)

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
        return layer_instance(x, self.rho, self.gamma, self.beta).to(x.dtype)

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
