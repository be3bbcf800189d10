"""Shapes and strokes with smooth edges on a picture, at a quarter of a pixel."""

import cv2
import numpy as np

from faces.regions import fill

FINER = 4  # the sheet's pixels per pixel of the picture
ALONG = 60  # points on a stroke
_SMOOTH = np.hanning(11)[1:-1] / np.hanning(11).sum()


class Pen:
    """Draws on a copy of `picture`, (H, W, 3) uint8 RGB; places and widths are px of it, colours RGB."""

    def __init__(self, picture: np.ndarray):
        self._size = picture.shape[1::-1]
        self._sheet = cv2.resize(picture, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_CUBIC)

    def shape(
        self, outline: np.ndarray, colour: np.ndarray, share: float = 1.0, inside: np.ndarray | None = None
    ) -> None:
        """Fill `outline`, (N, 2). colour: (3,), or (N, 3) from the top of the outline to its lowest point; share: of
        1, how much it covers; inside: (M, 2), another outline beyond which nothing is drawn."""
        outline = _finer(outline)
        low = np.floor(outline.min(axis=0)).astype(int) - 1
        high = np.ceil(outline.max(axis=0)).astype(int) + 2
        top, bottom = low[1], high[1]  # of the colours, also beside the sheet
        low, high = low.clip(0), np.minimum(high, self._sheet.shape[1::-1])
        if (low >= high).any():
            return
        part = self._sheet[low[1] : high[1], low[0] : high[0]]
        cover = _filled(part.shape[:2], outline - low)
        if inside is not None:
            cover *= _filled(part.shape[:2], _finer(inside) - low)
        colour = np.atleast_2d(np.asarray(colour, np.float32))
        rows = np.linspace(0, len(colour) - 1, bottom - top)[low[1] - top : high[1] - top]
        column = np.stack([np.interp(rows, np.arange(len(colour)), channel) for channel in colour.T], axis=1)
        mixed = part + (column[:, None] - part) * (cover * share)[..., None]
        part[:] = mixed.clip(0, 255).round()

    def stroke(self, line: np.ndarray, widths: np.ndarray, colour: np.ndarray, share: float = 1.0) -> None:
        """A brush along `line`, (N, 2), of a width at each of its points, (N,)."""
        line, steps = np.asarray(line, np.float32), np.arange(len(line))
        at = np.linspace(0, len(line) - 1, ALONG)
        x, y = (_smooth(np.interp(at, steps, values)) for values in line.T)
        along = np.stack([np.gradient(x), np.gradient(y)], axis=1)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-6)
        half = across * np.interp(at, steps, np.broadcast_to(widths, steps.shape))[:, None] / 2
        middle = np.stack([x, y], axis=1)
        self.shape(np.vstack([middle + half, (middle - half)[::-1]]), colour, share)

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, what is drawn so far."""
        return cv2.resize(self._sheet, self._size, interpolation=cv2.INTER_AREA)


def ellipse(centre: np.ndarray, across: np.ndarray, down: np.ndarray, power: float = 1.0) -> np.ndarray:
    """(40, 2) outline about `centre`; across, down: its half axes as vectors, px; power under 1: squarer.

    >>> ellipse(np.array([5, 5]), np.array([2, 0]), np.array([0, 1])).max(axis=0).round(3).tolist()
    [7.0, 6.0]
    """
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cos, sin = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(turn), np.sin(turn)))
    return np.asarray(centre) + np.outer(cos, across) + np.outer(sin, down)


def _finer(places: np.ndarray) -> np.ndarray:
    """Places on the sheet, of which a pixel's middle is a whole number, as the picture's is."""
    return (places + 0.5) * FINER - 0.5


def _filled(shape: tuple[int, int], outline: np.ndarray) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    fill(mask, outline, 255)
    return mask.astype(np.float32) / 255


def _smooth(values: np.ndarray) -> np.ndarray:
    reach = len(_SMOOTH) // 2
    return np.convolve(np.pad(values, reach, mode="reflect", reflect_type="odd"), _SMOOTH, "valid")
