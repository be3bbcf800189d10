"""Real crops to measure accuracy on: one face moved, turned, zoomed, mirrored, in other light.

The face is the astronaut of scikit-image, a picture in the public domain.
"""

import cv2
import numpy as np

from livetoon.errors import UsageError

FACE = (224.0, 112.0)  # px in the astronaut's picture, between eyes and mouth
SIDE = 215.0  # px there that a crop shows: 4.64 eye distances, as in live video


def astronaut_crops(count: int, size: int, seed: int = 2026) -> np.ndarray:
    """(count, size, size, 3) uint8 RGB, the same for the same `seed`."""
    try:
        from skimage import data
    except ImportError:
        raise UsageError(
            "the astronaut's picture is missing: pip install scikit-image, or give --pictures DIR"
        ) from None
    picture = data.astronaut()
    random = np.random.default_rng(seed)
    return np.stack([_moved(picture, size, random) for _ in range(count)])


def _moved(picture: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D(FACE, random.uniform(-12, 12), size / SIDE * random.uniform(0.85, 1.2))
    matrix[:, 2] += size / 2 - np.array(FACE) + random.uniform(-0.06, 0.06, 2) * size
    crop = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    lit = 255 * (crop / 255.0) ** random.uniform(0.7, 1.5) * random.uniform(0.75, 1.1)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
