"""Discriminators of the U-GAT-IT family: 5 layers see patches ("local"), 7 the whole face ("global")."""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from trainer.networks import network


class Verdict(NamedTuple):
    """logit (N, 1, h, w): one value for each place; cam (N, 2); heatmap (N, 1, H, W); groups (N, number of groups)."""

    logit: Tensor
    cam: Tensor | None = None
    heatmap: Tensor | None = None
    groups: Tensor | None = None


@network("discriminator")
class Discriminator(nn.Module):
    """picture (N, 3, S, S) in [-1, 1] -> Verdict. S: at least 24 with 5 layers, 96 with 7.

    head: what tells the groups apart: `none`, `linear` (Face2Webtoon) or `convolution` (the few-shot release); it
    has one value for each of `groups` groups. Every training call advances the spectral norms by one iteration.
    """

    def __init__(self, layers: int = 5, width: int = 64, head: str = "none", groups: int = 4):
        super().__init__()
        widths = [3, *(width * 2**index for index in range(layers - 1))]
        body: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            stride = 2 if index < layers - 2 else 1
            body += [nn.ReflectionPad2d(1), spectral_norm(nn.Conv2d(inputs, outputs, 4, stride)), nn.LeakyReLU(0.2)]
        deep = widths[-1]
        self.model = nn.Sequential(*body)
        self.gap_fc = spectral_norm(nn.Linear(deep, 1, bias=False))
        self.gmp_fc = spectral_norm(nn.Linear(deep, 1, bias=False))
        self.conv1x1 = nn.Conv2d(deep * 2, deep, 1)
        if head == "linear":
            self.group_classfier = spectral_norm(nn.Linear(deep, groups))  # spelt so in the published files
        elif head == "convolution":
            self.conv_cls = spectral_norm(nn.Conv2d(deep, groups, 1, bias=False))
        self.pad = nn.ReflectionPad2d(1)
        self.conv = spectral_norm(nn.Conv2d(deep, 1, 4, bias=False))
        self.head = head
        self.settings = {"layers": layers, "width": width, "head": head, "groups": groups}

    def forward(self, x: Tensor) -> Verdict:
        x = self.model(x)
        logits = [self.gap_fc(x.mean(dim=(2, 3))), self.gmp_fc(x.amax(dim=(2, 3)))]
        # The attention takes the weights as they are, the logits take them normalized: so it was published.
        weights = [layer.weight_orig[:, :, None, None].to(x.dtype) for layer in (self.gap_fc, self.gmp_fc)]
        x = F.leaky_relu(self.conv1x1(torch.cat([x * weight for weight in weights], dim=1)), 0.2)
        wide = self.pad(x)
        groups = None
        if self.head == "linear":
            groups = self.group_classfier(x.mean(dim=(2, 3)))
        elif self.head == "convolution":
            groups = self.conv_cls(wide.mean(dim=(2, 3), keepdim=True)).flatten(1)
        return Verdict(self.conv(wide), torch.cat(logits, dim=1), x.sum(dim=1, keepdim=True), groups)
