"""What stands between a clean photo and a webcam: background, movement, light, blur, noise.

Everything takes its random numbers as an argument and works on (S, S, 3) uint8 RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np


def random_motion(size: int, random: np.random.Generator) -> np.ndarray:
    """Matrix (2, 3) crop -> crop: turned by typically 6 deg, scaled by 8 %, shifted by 2.5 % of the side (standard
    deviations, without a limit), mirrored at even odds.

    That covers what a tracker leaves over: its crop is aligned to a few pixels, its roll to a few degrees.
    """
    centre = size / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), random.normal(0, 6), np.exp(random.normal(0.02, 0.08)))
    matrix[:, 2] += random.normal(0, 0.025, 2) * size
    if random.random() < 0.5:
        mirror = np.array([[-1, 0, size - 1], [0, 1, 0], [0, 0, 1]])
        matrix = matrix @ mirror
    return matrix


def move(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warp by `matrix`; what comes in from outside repeats the border, as hair and shoulders go on there."""
    size = picture.shape[0]
    return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def background(size: int, photos: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Something to stand in front of: white, a colour, a gradient, a room of planes, or a photo.

    The photo is anything from nearly sharp to far out of focus: a webcam's room is seldom soft.
    """
    kind = random.random()
    if kind < 0.1:
        return np.full((size, size, 3), 255, np.uint8)
    if kind < 0.2:
        return np.broadcast_to(random.integers(0, 256, 3, dtype=np.uint8), (size, size, 3)).copy()
    if kind < 0.35:
        corners = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    if kind < 0.6 or not photos:
        return _room(size, random)
    photo = photos[random.integers(len(photos))]
    side = photo.shape[0]
    part = random.integers(side // 4, side)
    x, y = random.integers(0, side - part + 1, 2)
    focus = np.exp(random.uniform(np.log(0.003), np.log(0.06)))
    blurred = cv2.GaussianBlur(photo[y : y + part, x : x + part], (0, 0), focus * part)
    if random.random() < 0.5:
        blurred = blurred[::-1, :]
    return cv2.resize(np.ascontiguousarray(blurred), (size, size), interpolation=cv2.INTER_CUBIC)


def _room(size: int, random: np.random.Generator) -> np.ndarray:
    """Walls, frames, shelves: overlapping rectangles and lines, some with grain, a little out of focus."""
    base = random.integers(30, 240, 3)
    room = np.broadcast_to(base.astype(np.uint8), (size, size, 3)).copy()
    for _ in range(random.integers(2, 14)):
        colour = np.clip(base + random.normal(0, 60, 3), 0, 255).tolist()
        a, b = random.integers(-size // 4, size * 5 // 4, (2, 2)).tolist()
        if random.random() < 0.6:
            cv2.rectangle(room, a, b, colour, -1)
        else:
            cv2.line(room, a, b, colour, int(random.integers(1, 16)), cv2.LINE_AA)
    if random.random() < 0.5:
        grain = random.normal(0, random.uniform(4, 30), (size // 4, size // 4, 1)).astype(np.float32)
        room = np.clip(room + cv2.resize(grain, (size, size))[..., None], 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(room, (0, 0), random.uniform(0.3, 6))


def compose(photo: np.ndarray, alpha: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """The person of `photo` (alpha (S, S) uint8) in front of `behind`."""
    weight = alpha.astype(np.float32)[..., None] * (1 / 255)
    return (behind + weight * (photo.astype(np.float32) - behind)).round().astype(np.uint8)


def degrade(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A clean picture as a webcam may see it; four in ten stay as they are."""
    if random.random() < 0.4:
        return picture
    size = picture.shape[0]
    x = picture.astype(np.float32) * (1 / 255)
    x = x ** np.exp(random.normal(0, 0.35)).astype(np.float32)  # gamma: deep shadows to washed-out
    x *= np.exp(random.normal(0, 0.12, 3)).astype(np.float32)  # white balance
    if random.random() < 0.5:
        grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
        x = grey[..., None] + (x - grey[..., None]) * random.uniform(0.1, 1.5)
    if random.random() < 0.35:  # light from one side, or from behind
        corners = np.exp(random.normal(0, 0.5, (2, 2))).astype(np.float32)
        x *= cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)[..., None]
    if random.random() < 0.25:
        x = (x - 0.5) * random.uniform(0.6, 1.4) + random.uniform(0.3, 0.6)  # contrast and haze
    dark = random.random() < 0.2
    if dark:
        x *= random.uniform(0.12, 0.6)
    if random.random() < 0.35:  # a small face, enlarged
        side = int(size * random.uniform(0.25, 0.9))
        x = cv2.resize(cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA), (size, size))
    if random.random() < 0.2:
        x = _blur(x, random)
    spread = random.uniform(0.01, 0.08) if dark else abs(random.normal(0, 0.015))
    x = x + random.standard_normal(x.shape, np.float32) * np.float32(spread)
    x = (np.clip(x, 0, 1) * 255).round().astype(np.uint8)
    if random.random() < 0.6:
        quality = int(random.uniform(25, 95))
        _, coded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])
        x = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return x


def _blur(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if random.random() < 0.5:
        return cv2.GaussianBlur(x, (0, 0), random.uniform(0.5, 2.2))
    length = int(random.integers(3, 12))  # a moving head
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), random.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(x, -1, kernel / max(kernel.sum(), 1e-6))
