"""What a drawing is taken for: the sex and the age that the network of faces/looks.py sees in its photo.

A few drawings say how a group is drawn, and little of what makes a man or an old person of a face: branches that learn
from them alone draw young women. What the network says of glasses teaches nothing: it judges them in drawings
(benchmarks/quality.py).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faces import weights
from faces.align import CROP
from faces.looks import CUT, FILE, SIDE
from trainer.groups import restored
from trainer.losses import luminance

DEGREES, SCALE, SHIFT = 8.0, 0.08, 0.03  # how far a view may differ: turned, scaled, moved by a share of the side
CONTRAST = 0.3  # share of it that a view may lose
YEARS = 30.0  # of which ages are wrong on average: as dear as a nat of the sex


class LookTerm(nn.Module):
    """Frozen, and differentiable in what it looks at.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> faces = torch.rand(2, 3, 256, 256) * 2 - 1
    >>> bool(LookTerm()(faces, faces) < LookTerm()(-faces, faces))
    True
    """

    def __init__(self, file: Path | None = None, coloured: bool = True):
        """file: a network as `trainer.groups` writes it; None: the shipped one. coloured: whether it sees a drawing's
        own colours; without them, lips stay as red as the group's drawings have them."""
        super().__init__()
        self.coloured = coloured
        self.network = restored(file or weights.path(FILE))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LookTerm":
        return super().train(False)

    def seen(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """faces: (N, 3, S, S) in [-1, 1], aligned crops -> logits of female (N, 1) and of ages (N, 91)."""
        cut = round(CUT * faces.shape[-1] / CROP)
        middle = faces[..., cut:-cut, cut:-cut]
        return self.network(F.interpolate(middle, size=(SIDE, SIDE), mode="area"))[:2]

    def forward(self, drawn: Tensor, photo: Tensor, random: np.random.Generator | None = None) -> Tensor:
        """Cross-entropy of the sex, and by how many years the ages are apart (the earth mover's distance of both
        distributions) over `YEARS`: of `drawn` against `photo`, both (N, 3, S, S) in [-1, 1]; their mean. The drawing
        is seen in a `view` of its own each time where there is a `random`."""
        with torch.no_grad():
            female, ages = self.seen(photo)
        drawn = drawn if self.coloured else recoloured(drawn, photo)
        drawn_female, drawn_ages = self.seen(drawn if random is None else view(drawn, random))
        sex = F.binary_cross_entropy_with_logits(drawn_female, female.sigmoid())
        apart = (drawn_ages.softmax(dim=1) - ages.softmax(dim=1)).cumsum(dim=1).abs().sum(dim=1)
        return sex + apart.mean() / YEARS


def recoloured(drawn: Tensor, photo: Tensor) -> Tensor:
    """The light and shade of the drawings in the mean colour of each photo, both (N, 3, S, S) in [-1, 1] -> alike."""
    mean = photo.mean(dim=(2, 3), keepdim=True)
    return luminance(drawn) + mean - luminance(mean)


def view(faces: Tensor, random: np.random.Generator) -> Tensor:
    """(N, 3, S, S) in [-1, 1] -> the same, each face a little turned, scaled, moved, paler, and half of them mirrored.

    What pleases the network in one view alone is a pattern that nobody else sees.
    """
    count = len(faces)
    angle = np.radians(random.uniform(-DEGREES, DEGREES, count))
    scale = 1 + random.uniform(-SCALE, SCALE, count)
    mirror = random.choice((-1.0, 1.0), count)
    across, down = random.uniform(-2 * SHIFT, 2 * SHIFT, (2, count))  # the side is 2 long
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    motion = np.stack([np.stack([cos * mirror, -sin, across], 1), np.stack([sin * mirror, cos, down], 1)], 1)
    grid = F.affine_grid(faces.new_tensor(motion), list(faces.shape), align_corners=False)
    kept = 1 - CONTRAST * random.uniform(size=(count, 1, 1, 1))
    grey = (1 - kept) * random.uniform(-1, 1, kept.shape)
    seen = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    return seen * faces.new_tensor(kept) + faces.new_tensor(grey)
