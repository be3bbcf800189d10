"""From a decoded frame to the pasted one in torch operations alone, on any device: one copy there and one back.

    I420 -> RGB -> crops -> network -> weights -> paste -> I420

The geometry of faces/align.py and faces/paste.py, which do it with OpenCV and agree within a grey level or two. What is
known without a look at pixels (matrices, how far a crop reaches out of the frame, the face's oval) is computed there;
nothing in between is read by the processor, so that a GPU never waits. Own colours and lines, and hiding, are OpenCV's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.torch_run import exact
from faces import paste
from faces.align import CROP, WHITE, edge_px, halvings, inverse
from livetoon.errors import DataError

# ITU-R BT.601 with studio levels, which I420 has. Rows: Y - 16, U - 128, V - 128, and R, G, B the other way round.
RGB_OF_YUV = ((1.164383, 1.164383, 1.164383), (0.0, -0.391762, 2.017232), (1.596027, -0.812968, 0.0))
YUV_OF_RGB = ((0.256788, -0.148223, 0.439216), (0.504129, -0.290993, -0.367788), (0.097906, 0.439216, -0.071427))
ZERO = (16.0, 128.0, 128.0)


@dataclass(frozen=True)
class Place:
    """A face to draw. matrix: (2, 3) frame -> crop; outline: (N, 2) px of the crop, the face's oval, (0, 2) for none;
    strength in [0, 1]: share of the cartoon."""

    matrix: np.ndarray
    outline: np.ndarray
    strength: float = 1.0


class FramePath:
    """Draws the faces of one frame after another on `device`.

    network: crops (N, S, S, 3) uint8 RGB -> (N, S, S, 4) uint8 RGBA, there already, as `engine.torch_graph` makes it of
    a graph with `pictures`; size: S, px.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], size: int = CROP, device: str | torch.device = "cpu"):
        self._network, self._size, self._device = network, size, torch.device(device)

    @torch.no_grad()
    @exact()
    def __call__(self, i420: np.ndarray, places: Sequence[Place]) -> np.ndarray:
        """(H * 3 / 2, W) uint8, the planes of a picture with even sides -> the same with every face drawn.

        The input is not changed. DataError for what is no such frame.
        """
        if i420.dtype != np.uint8 or i420.ndim != 2 or i420.shape[0] % 3 or i420.shape[1] % 2:
            raise DataError(f"expected an I420 frame (H * 3 / 2, W) uint8 of even sides, got {i420.dtype} {i420.shape}")
        soft = [paste.soft_oval(place.outline, self._size).reshape(-1) for place in places]
        there = torch.from_numpy(np.concatenate([i420.reshape(-1), *soft])).to(self._device)
        rgb = rgb_of(there[: i420.size].reshape(i420.shape))
        ovals = there[i420.size :].reshape(len(places), 1, 1, paste.SMALL, paste.SMALL).float()
        if places:
            crops = torch.stack([crop(rgb, place.matrix, self._size) for place in places])
            cartoons = self._network(crops.permute(0, 2, 3, 1).byte().contiguous()).permute(0, 3, 1, 2).float()
            for place, cartoon, oval in zip(places, cartoons, ovals, strict=True):
                lay(rgb, cartoon, place, oval)
        return i420_of(rgb).cpu().numpy()


def rgb_of(i420: Tensor) -> Tensor:
    """(H * 3 / 2, W) uint8 -> (3, H, W) float, whole numbers from 0 to 255."""
    height, width = i420.shape[0] // 3 * 2, i420.shape[1]
    chroma = i420[height:].reshape(2, height // 2, width // 2).float()
    y, u, v = i420[:height].float(), *F.interpolate(chroma[None], scale_factor=2, mode="nearest")[0]
    return _whole(torch.stack(_times((y - ZERO[0], u - ZERO[1], v - ZERO[2]), RGB_OF_YUV)))


def i420_of(rgb: Tensor) -> Tensor:
    """(3, H, W) float in [0, 255] -> (H * 3 / 2, W) uint8; of four pixels the first gives the chroma, as in OpenCV."""
    y, u, v = (plane + zero for plane, zero in zip(_times(rgb, YUV_OF_RGB), ZERO, strict=True))
    width = rgb.shape[2]
    planes = [y, u[::2, ::2].reshape(-1, width), v[::2, ::2].reshape(-1, width)]
    return _whole(torch.cat(planes)).byte()


def crop(rgb: Tensor, matrix: np.ndarray, size: int = CROP) -> Tensor:
    """(3, H, W) float through matrix (2, 3) frame -> crop -> (3, size, size), as `faces.align.crop` cuts it."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    back, times = inverse(matrix), halvings(scale)
    picture = rgb[None]
    for _ in range(times):
        picture = _whole(F.avg_pool2d(picture, 2))
        back = (back - ((0, 0, 0.5), (0, 0, 0.5))) / 2
    edge = edge_px(scale * 2**times)
    picture = F.pad(F.pad(picture, [edge] * 4, mode="replicate"), [1] * 4, value=WHITE[0])
    back[:, 2] += edge + 1
    return _whole(_warped(picture, back, 0, 0, size, size, "border"))


def lay(rgb: Tensor, cartoon: Tensor, place: Place, oval: Tensor) -> None:
    """Blend the face into rgb (3, H, W), in place, as `faces.paste.paste` does.

    cartoon: (4, S, S) RGBA; oval: (1, 1, s, s) of the face, soft; all float in [0, 255].
    """
    shape, size = rgb.shape[1:], cartoon.shape[1]
    back = inverse(place.matrix)
    region = paste.rectangle(back, size, size, shape)
    if place.strength <= 0 or region is None:
        return
    weight = _whole(weights(cartoon[3], paste.outside(back, size, shape), oval) * place.strength)
    layer = torch.cat([_whole(cartoon[:3] * weight / 255), weight[None]])[None]
    matrix = np.asarray(place.matrix, np.float64)
    for _ in range(halvings(1 / float(np.hypot(matrix[0, 0], matrix[1, 0])))):
        layer = _whole(F.avg_pool2d(layer, 2))
        matrix = (matrix - ((0, 0, 0.5), (0, 0, 0.5))) / 2
    left, top, right, bottom = region
    layer = _whole(_warped(layer, matrix, left, top, right - left, bottom - top, "zeros"))
    under = rgb[:, top:bottom, left:right]
    under.copy_((_whole(under * (255 - layer[3]) / 255) + layer[:3]).clamp(max=255))


def weights(alpha: Tensor, beyond: Sequence[float], oval: Tensor) -> Tensor:
    """How much of each crop pixel is drawn, (S, S) in [0, 255]; alpha: likewise; beyond: how many px of the crop lie
    outside of the frame at its left, top, right and bottom; oval: (1, 1, s, s), soft, of the face."""
    side = alpha.shape[0]
    ramp = torch.arange(side, dtype=torch.float32, device=alpha.device)
    left, top, right, bottom = (
        paste.smooth((distance + out) / (feather * side / CROP))
        for distance, out, feather in zip((ramp, ramp, ramp.flip(0), ramp.flip(0)), beyond, paste.FEATHER, strict=True)
    )
    window = ((top * bottom * 255)[:, None] * (left * right)).floor()
    inside = _whole(_whole(F.interpolate(oval, size=(side, side), mode="bilinear", align_corners=False)[0, 0]) * 1.5)
    return torch.maximum(_whole(alpha * window / 255), inside)


def _warped(picture: Tensor, matrix: np.ndarray, left: int, top: int, width: int, height: int, border: str) -> Tensor:
    """(1, C, h, w) -> (C, height, width): pixel (x, y) is what `picture` shows at matrix @ (x + left, y + top)."""
    x = torch.arange(left, left + width, dtype=torch.float32, device=picture.device)
    y = torch.arange(top, top + height, dtype=torch.float32, device=picture.device)[:, None]
    places = (row[0] * x + row[1] * y + row[2] for row in matrix.tolist())
    # grid_sample counts from edge to edge of the picture, from -1 to 1
    grid = torch.stack([(2 * at + 1) / side - 1 for at, side in zip(places, picture.shape[:1:-1], strict=True)], dim=-1)
    return F.grid_sample(picture, grid[None], mode="bilinear", padding_mode=border, align_corners=False)[0]


def _times(planes: Sequence[Tensor], matrix: Sequence[Sequence[float]]) -> list[Tensor]:
    """Three planes, as one row, times the matrix: numbers are written into the kernels, no array has to be sent."""
    return [sum(plane * row[column] for plane, row in zip(planes, matrix, strict=True)) for column in range(3)]


def _whole(values: Tensor) -> Tensor:
    """As uint8 would hold it: the copies agree with OpenCV's to a level only if both round where it does."""
    return values.round().clamp(0, 255)
