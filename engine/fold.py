"""Exact folds of a translation network before it is traced: what only training needs apart becomes one operation.

    class activation maps   two weighted copies, joined by a 1x1 convolution -> one 1x1 convolution
    hourglass               1x1 + (1x1 to 3 channels and back) -> one 1x1 convolution
    Soft-AdaLIN             48 linear layers and 16 mixtures of a decoder -> three products for all of them

Products are taken in float64. Linear layers of a network of one group alone (drawing_graph.py) are what it needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.branches import Branched
from trainer.networks.layers import CAM, layer_instance
from trainer.networks.photo2cartoon import Decoder, HourGlass


def folded(network: Branched) -> Branched:
    """`network`, of one group alone, with every part that FOLDS names replaced, in place.

    It draws the same, tells nothing else and does not count its pictures, so that a trace leaves their number free.
    """
    network.names_of = lambda x, group: [group]
    for module in list(network.modules()):
        for name, child in module.named_children():
            if fold := FOLDS.get(type(child)):
                setattr(module, name, fold(child))
    return network


class FoldedCAM(nn.Module):
    """ReLU(conv(x w_gap, x w_gmp)) as one convolution of x. Logits and heat map are not made: x stands there."""

    def __init__(self, cam: CAM):
        super().__init__()
        weight = cam.conv1x1.weight.double()
        average, largest = weight.chunk(2, dim=1)
        heads = [head.weight.double()[0, None, :, None, None] for head in (cam.gap_fc, cam.gmp_fc)]
        self.conv1x1 = _convolution(average * heads[0] + largest * heads[1], cam.conv1x1.bias)

    def forward(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.relu(self.conv1x1(x)), x, x


class FoldedHourGlass(nn.Module):
    """x + conv2(seen) + conv3(conv1(seen)) = x + (conv2 + conv3 conv1)(seen)."""

    def __init__(self, hourglass: HourGlass):
        super().__init__()
        first, second, third = (
            (layer.weight.double()[:, :, 0, 0], layer.bias.double())
            for layer in (hourglass.Conv1, hourglass.Conv2, hourglass.Conv3)
        )
        self.HG = hourglass.HG
        self.merged = _convolution(
            (second[0] + third[0] @ first[0])[:, :, None, None], second[1] + third[1] + third[0] @ first[1]
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.merged(self.HG(x))


class FoldedDecoder(nn.Module):
    """All gamma and beta of the decoder at once.

    Each is (1 - w) style(s) + w content(c) with content = linear, ReLU, linear of one block's feature: the mixing
    weight w goes into the last linear of both, so that they add up. K = 4 of them in each of B blocks.
    """

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.blocks = decoder.blocks
        parts = [
            (norm.w_gamma, norm.s_gamma, norm.c_gamma) if scale else (norm.w_beta, norm.s_beta, norm.c_beta)
            for block in decoder.blocks
            for norm in (block.norm1, block.norm2)
            for scale in (True, False)
        ]
        w = torch.cat([each.double() for each, _, _ in parts])  # (B K, C)
        style, first, last = ([chosen(part) for part in parts] for chosen in (_style, _first, _last))
        self.channels, blocks = w.shape[1], len(decoder.blocks)
        self.style = nn.Parameter(torch.cat([(1 - w)[i, :, None] * m.weight for i, m in enumerate(style)]).float())
        bias = torch.stack([(1 - w)[i] * style[i].bias + w[i] * last[i].bias for i in range(len(w))])
        self.bias = nn.Parameter(bias.flatten().float())
        hidden = torch.stack([m.weight.T for m in first]).unflatten(0, (blocks, -1))  # (B, K, C, C)
        self.hidden = nn.Parameter(hidden.transpose(1, 2).flatten(2).contiguous())  # (B, C, K C)
        self.hidden_bias = nn.Parameter(torch.stack([m.bias for m in first]).view(blocks, 1, -1))
        self.content = nn.Parameter(torch.stack([(w[i, :, None] * m.weight).T for i, m in enumerate(last)]).float())

    def forward(self, x: Tensor, content: list[Tensor], style: Tensor) -> Tensor:
        features = torch.stack(list(reversed(content)), dim=1)[:, :, None]  # (N, B, 1, C)
        hidden = F.relu(features @ self.hidden + self.hidden_bias).flatten(1)
        mixed = hidden.unflatten(1, (-1, 1, self.channels)) @ self.content  # (N, B K, 1, C)
        values = mixed.flatten(1) + F.linear(style, self.style, self.bias)
        values = iter(values[:, :, None, None].split(self.channels, dim=1))
        for block in self.blocks:
            y = F.relu(layer_instance(block.conv1(block.pad1(x)), block.norm1.norm.rho, next(values), next(values)))
            x = x + layer_instance(block.conv2(block.pad2(y)), block.norm2.norm.rho, next(values), next(values))
        return x


FOLDS = {
    CAM: FoldedCAM,
    HourGlass: lambda hourglass: hourglass if hourglass.picture else FoldedHourGlass(hourglass),
    Decoder: FoldedDecoder,
}


def _style(part: tuple) -> nn.Linear:
    return part[1]


def _first(part: tuple) -> nn.Linear:
    return part[2][0]


def _last(part: tuple) -> nn.Linear:
    return part[2][2]


def _convolution(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    made.weight, made.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    return made
