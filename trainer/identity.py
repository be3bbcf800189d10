"""Who is in a picture: a frozen face-ID network behind the cut that it was made for.

    picture (N, 3, S, S) -> cut out the face -> MobileFaceNet -> unit vectors (N, D)

A run measures by it whether a drawing still shows the same person (photo2cartoon's face-ID loss, weight 1): the
photo's vector is made under no_grad, and the gradient flows through the drawing alone.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from livetoon.errors import ModelError
from trainer.networks.mobilefacenet import MobileFaceNet, MobileFaceNet128

CROPS = ("published", "livetoon")  # where the face lies in a picture: photo2cartoon's head crops or our 256 px crop
# The 256 px crop -> the 112 px face of ArcFace's five points (arXiv 1801.07698): both templates are fixed.
TO_FACE = ((0.6463, 0.0036, -27.24), (-0.0036, 0.6463, -24.07))
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class FaceIdentity(nn.Module):
    """pictures (N, 3, S, S) float32 RGB in [-1, 1] -> (N, D) float32 unit vectors.

    Always in eval mode; its weights take no gradient, the pictures do. `crop`: one of CROPS.
    """

    def __init__(self, network: MobileFaceNet | MobileFaceNet128, crop: str):
        super().__init__()
        if crop not in CROPS:
            raise ModelError(f"face crop {crop!r}: expected one of {', '.join(CROPS)}")
        self.network, self.crop = network.requires_grad_(False), crop
        imagenet = isinstance(network, MobileFaceNet128)
        scale = [0.5 / deviation if imagenet else 1.0 for deviation in IMAGENET_DEVIATION]
        shift = [(0.5 - m) / d if imagenet else 0.0 for m, d in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)]
        self.register_buffer("scale", torch.tensor(scale)[:, None, None], persistent=False)
        self.register_buffer("shift", torch.tensor(shift)[:, None, None], persistent=False)
        self.eval()

    @property
    def size(self) -> int:
        """Side of the face that the network is fed, px."""
        return self.network.size

    def train(self, mode: bool = True) -> "FaceIdentity":
        """Stays in eval mode: a module that holds this one may be put into training mode."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.embed(cut_face(pictures, self.crop, self.size))

    def embed(self, faces: Tensor) -> Tensor:
        """Faces already cut out, (N, 3, size, size) RGB in [-1, 1] -> (N, D) unit vectors."""
        return functional.normalize(self.network(faces * self.scale + self.shift).float(), eps=1e-12)


def cut_face(pictures: Tensor, crop: str, size: int) -> Tensor:
    """The face in heads (N, 3, S, S): (N, 3, size, size), bilinear, differentiable.

    published: photo2cartoon's box. livetoon: the crop's five points onto those of ArcFace's template.
    """
    height, width = pictures.shape[2:]
    if crop == "published":
        top, bottom = int(height / 2.1 * (0.8 - 0.33)), int(height - height / 2.1 * 0.3)
        side = bottom - top
        left = int(width / 2 - side / 2)
        box = pictures[:, :, top:bottom, left : left + side]
        return functional.interpolate(box, size=(size, size), mode="bilinear", align_corners=True)
    # affine_grid counts from -1 at the first pixel's middle to 1 at the last one's; the template is in pixels.
    to_face = torch.tensor([*TO_FACE, (0, 0, 1)], dtype=torch.float64)
    face, head = _pixels(112), _pixels(256)
    back = (head.inverse() @ to_face.inverse() @ face)[:2].to(pictures.device, pictures.dtype)
    grid = functional.affine_grid(back.expand(len(pictures), 2, 3), [len(pictures), 3, size, size], align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _pixels(side: int) -> Tensor:
    """(3, 3): places in [-1, 1], edge to edge, -> pixels of a picture of that side."""
    half = side / 2
    return torch.tensor([[half, 0, half - 0.5], [0, half, half - 0.5], [0, 0, 1]], dtype=torch.float64)
