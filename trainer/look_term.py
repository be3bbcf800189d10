"""What a drawing is taken for: the sex and the age that the network of faces/looks.py sees in its photo.

A few drawings say how a group is drawn, and little of what makes a man or an old person of a face: branches that learn
from them alone draw young women. What the network says of glasses teaches nothing: it judges them in drawings
(benchmarks/quality.py).
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faces import weights
from faces.align import CROP
from faces.looks import CUT, FILE, SIDE
from trainer.groups import restored

YEARS = 30.0  # of which ages are wrong on average: as dear as a nat of the sex


class LookTerm(nn.Module):
    """Frozen, and differentiable in what it looks at.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> faces = torch.rand(2, 3, 256, 256) * 2 - 1
    >>> bool(LookTerm()(faces, faces) < LookTerm()(-faces, faces))
    True
    """

    def __init__(self, file: Path | None = None):
        """file: a network as `trainer.groups` writes it; None: the shipped one."""
        super().__init__()
        self.network = restored(file or weights.path(FILE))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LookTerm":
        return super().train(False)

    def seen(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """faces: (N, 3, S, S) in [-1, 1], aligned crops -> logits of female (N, 1) and of ages (N, 91)."""
        cut = round(CUT * faces.shape[-1] / CROP)
        middle = faces[..., cut:-cut, cut:-cut]
        return self.network(F.interpolate(middle, size=(SIDE, SIDE), mode="area"))[:2]

    def forward(self, drawn: Tensor, photo: Tensor) -> Tensor:
        """Cross-entropy of the sex, and by how many years the ages are apart (the earth mover's distance of both
        distributions) over `YEARS`: of `drawn` against `photo`, both (N, 3, S, S) in [-1, 1]; their mean."""
        with torch.no_grad():
            female, ages = self.seen(photo)
        drawn_female, drawn_ages = self.seen(drawn)
        sex = F.binary_cross_entropy_with_logits(drawn_female, female.sigmoid())
        apart = (drawn_ages.softmax(dim=1) - ages.softmax(dim=1)).cumsum(dim=1).abs().sum(dim=1)
        return sex + apart.mean() / YEARS
