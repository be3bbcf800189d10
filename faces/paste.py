"""Puts a cartoon back exactly where its crop was taken, without an edge and without a hole.

    weight = max(the generator's alpha x window, oval) x strength

window: 1 inside, falling smoothly to 0 at those sides of the crop that lie inside the picture, because hair,
neck and shoulders run out of the crop there. oval: 1 inside the face's outline, so that an uncertain
generator never lets skin through. All of it in uint8 and in the face's rectangle only: blending a whole
640x480 picture in float costs 22 ms, this costs about one.
"""

import functools
import math

import cv2
import numpy as np

from faces.align import CROP, corners, halvings, inverse, move
from faces.landmarks import OVAL

# px of a 256 px crop over which the cartoon gives way to the camera at each side: left, top, right, bottom.
# The bottom cuts through neck and shoulders, the sides through long hair, the top through high hair.
FEATHER = (40, 36, 40, 56)
# Blended at a time: what a large face needs then stays in the cache and in memory that the process has already, which
# took 1.8 times the usual size from 3.0 to 1.7 ms.
BAND_PX = 65536
SMALL = 64  # px, side on which soft masks are drawn
_NOWHERE = (0.0, 0.0, 0.0, 0.0)  # how far a crop that lies in the frame reaches out of it


def paste(
    frame: np.ndarray,
    cartoon: np.ndarray,
    matrix: np.ndarray,
    outline: np.ndarray,
    strength: float = 1.0,
    drawn: np.ndarray | None = None,
) -> None:
    """Blend `cartoon` into `frame`, in place.

    frame: (H, W, 3) uint8 RGB; cartoon: (S, S, 4) uint8 RGBA, S = 256, alpha 255 = drawn; matrix: (2, 3) frame ->
    crop, as the crop was made; outline: (N, 2) px in the crop, the face's oval (`outline`), or (0, 2) for none;
    strength in [0, 1]: 0 leaves the frame as it is; drawn: (H, W) uint8, raised to how much of each pixel is cartoon.
    """
    back = inverse(matrix)
    scale = float(np.hypot(back[0, 0], back[1, 0]))  # frame px for a crop px
    if strength <= 0 or scale == 0 or not np.isfinite(back).all():
        return
    weight = weights(cv2.extractChannel(cartoon, 3), back, frame.shape, outline)
    if strength < 1:
        weight = cv2.convertScaleAbs(weight, alpha=strength)
    times = halvings(scale)
    # From here on only what is drawn at all.
    x, y, width, height = _drawn(weight, 2**times)
    if not width:
        return
    back[:, 2] += back[:, :2] @ (x, y)
    place = rectangle(back, width, height, frame.shape)
    if place is None:
        return
    left, top, right, bottom = place
    layer = cartoon[y : y + height, x : x + width].copy()
    cv2.insertChannel(weight[y : y + height, x : x + width], layer, 3)
    # Colours times weight, so that one warp takes both and their edges agree.
    layer, back = _halved(cv2.cvtColor(layer, cv2.COLOR_RGBA2mRGBA), back, times)
    rows = max(1, BAND_PX // (right - left))
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        _blend(layer, back, frame[first:last, left:right], (left, first), drawn)


def _blend(
    layer: np.ndarray, back: np.ndarray, region: np.ndarray, corner: tuple[int, int], drawn: np.ndarray | None
) -> None:
    """Lay a layer (h, w, 4) uint8, colours times weight and weight, over `region` (H, W, 3), the part of the frame that
    begins at `corner` (x, y)."""
    (left, top), (height, width) = corner, region.shape[:2]
    layer = cv2.warpAffine(layer, back - ((0, 0, left), (0, 0, top)), (width, height), flags=cv2.INTER_LINEAR)
    share = cv2.extractChannel(layer, 3)
    if drawn is not None:
        place = drawn[top : top + height, left : left + width]
        cv2.max(place, share, dst=place)
    remaining = cv2.cvtColor(cv2.bitwise_not(share), cv2.COLOR_GRAY2RGB)
    cv2.add(cv2.multiply(region, remaining, scale=1 / 255), cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB), dst=region)


def weights(alpha: np.ndarray, back: np.ndarray, shape: tuple[int, ...], outline: np.ndarray) -> np.ndarray:
    """How much of each crop pixel is drawn: alpha (S, S) uint8 -> (S, S) uint8; back: (2, 3) crop -> frame."""
    window = _window(alpha.shape[0], outside(back, alpha.shape[0], shape))
    weight = cv2.multiply(alpha, window, scale=1 / 255)
    if len(outline):
        weight = cv2.max(weight, _oval(outline, alpha.shape[0]))
    return weight


def outline(landmarks: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """landmarks: (468, 2) px of the frame -> the face's oval (36, 2) float32 px of the crop; (0, 2) stays empty."""
    return move(matrix, landmarks[OVAL]) if len(landmarks) else np.zeros((0, 2), np.float32)


def hide(frame: np.ndarray, box: np.ndarray, strength: float = 1.0, drawn: np.ndarray | None = None) -> None:
    """Make a face unrecognisable, in place: the box (4,) px and half of it around become six blocks across.

    drawn: as `paste` has it; an alpha that mixes the blocks with a background would draw the face's own edges there.
    """
    grow = 0.25 * float(max(box[2] - box[0], box[3] - box[1]))
    left, top = max(0, int(box[0] - grow)), max(0, int(box[1] - grow))
    right, bottom = min(frame.shape[1], int(box[2] + grow) + 1), min(frame.shape[0], int(box[3] + grow) + 1)
    if right <= left or bottom <= top or strength <= 0:
        return
    region = frame[top:bottom, left:right]
    block = max(1.0, max(right - left, bottom - top) / 6)
    size = max(1, round((right - left) / block)), max(1, round((bottom - top) / block))
    blocks = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(blocks, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
    cv2.addWeighted(blocks, strength, region, 1 - strength, 0, dst=region)
    if drawn is not None:
        place = drawn[top:bottom, left:right]
        np.maximum(place, round(255 * strength), out=place)


def rectangle(back: np.ndarray, width: int, height: int, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """The frame's pixels that a picture reaches, and one around: left, top, right, bottom (exclusive), or None."""
    across, down = corners(back, width, height)
    left, top = max(0, math.floor(min(across)) - 1), max(0, math.floor(min(down)) - 1)
    right, bottom = min(shape[1], math.ceil(max(across)) + 2), min(shape[0], math.ceil(max(down)) + 2)
    return (left, top, right, bottom) if left < right and top < bottom else None


def outside(back: np.ndarray, side: int, shape: tuple[int, ...]) -> tuple[float, ...]:
    """For each side of the crop (left, top, right, bottom): how many crop px lie between it and the frame's pixels."""
    height, width = shape[:2]
    across, down = corners(back, side, side)
    if min(across + down) >= 0 and max(across) < width and max(down) < height:
        return _NOWHERE
    frame = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float32)
    area, shared = cv2.intersectConvexConvex(np.array([across, down], np.float32).T.copy(), frame)
    if area <= 0 or shared is None:
        return _NOWHERE
    inside = move(inverse(back), shared[:, 0])
    low, high = inside.min(axis=0).clip(0, side - 1), inside.max(axis=0).clip(0, side - 1)
    return float(low[0]), float(low[1]), float(side - 1 - high[0]), float(side - 1 - high[1])


@functools.lru_cache(maxsize=8)  # nearly always the same one
def _window(side: int, outside: tuple[float, ...]) -> np.ndarray:
    """(S, S) uint8: 255 inside, 0 at the border, as far as the border is inside the frame."""
    ramp = np.arange(side, dtype=np.float32)
    left, top, right, bottom = (
        smooth((distance + beyond) / (feather * side / CROP))
        for distance, beyond, feather in zip((ramp, ramp, ramp[::-1], ramp[::-1]), outside, FEATHER, strict=True)
    )
    return np.outer(top * bottom * 255, left * right).astype(np.uint8)


def smooth(x: np.ndarray) -> np.ndarray:
    """0 at 0, 1 from 1 on, with no bend that an eye could find at either end; of numpy or torch."""
    x = x.clip(0, 1)
    return x * x * x * (x * (6 * x - 15) + 10)


def soft_oval(outline: np.ndarray, side: int) -> np.ndarray:
    """(N, 2) px of a crop of `side` px -> (SMALL, SMALL) uint8: the face, with a soft edge; empty for no outline."""
    small = np.zeros((SMALL, SMALL), np.uint8)
    if not len(outline):
        return small
    # Sub-pixel drawing: rounding to whole small pixels would make the edge jump by four.
    centre = outline.mean(axis=0)
    shrunk = (centre + (outline - centre) * 0.96) * (SMALL / side)
    cv2.fillPoly(small, [np.round(shrunk * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(small, (5, 5), 0)


def _oval(outline: np.ndarray, side: int) -> np.ndarray:
    """(S, S) uint8: 255 inside the outline, falling to 0 at it; what is drawn beyond is white and would be a halo."""
    soft = cv2.resize(soft_oval(outline, side), (side, side), interpolation=cv2.INTER_LINEAR)
    return cv2.convertScaleAbs(soft, alpha=1.5)


def _drawn(weight: np.ndarray, step: int) -> tuple[int, int, int, int]:
    """x, y, width, height of the part of a crop that has any weight, in whole squares of `step` px."""
    x, y, width, height = cv2.boundingRect(weight)
    left, top = x // step * step, y // step * step
    right, bottom = (-(-last // step) * step for last in (x + width, y + height))
    return left, top, min(right, weight.shape[1]) - left, min(bottom, weight.shape[0]) - top


def _halved(layer: np.ndarray, back: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
    """The layer and its matrix at half the size, so often; a last odd row or column, which the window empties, goes."""
    for _ in range(times):
        height, width = layer.shape[0] // 2, layer.shape[1] // 2
        if not (height and width):
            break
        layer = cv2.resize(layer[: height * 2, : width * 2], (width, height), interpolation=cv2.INTER_AREA)
        # The middle of a large pixel lies half a small one further.
        back = np.hstack([back[:, :2] * 2, (back[:, 2] + back[:, :2] @ (0.5, 0.5))[:, None]])
    return layer, back
