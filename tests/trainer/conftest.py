"""A tiny data folder: disks on white with a drawing of them, enough to learn from in seconds."""

import cv2
import numpy as np
import pytest


def draw(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    photo = np.full((size, size, 3), 255, np.uint8)
    cartoon = photo.copy()
    centre = tuple(int(v) for v in random.integers(size // 3, size * 2 // 3, 2))
    radius = size // 4
    cv2.circle(photo, centre, radius, random.integers(40, 200, 3).tolist(), -1)
    cv2.circle(cartoon, centre, radius, (240, 230, 235), -1)
    cv2.circle(cartoon, centre, radius, (30, 30, 40), 2)
    return photo, cartoon


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """DATA/<group>/photo and cartoon, 64 px, two groups: `many` (6 pairs) and `few` (2 pairs)."""
    root = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(3)
    for group, count in (("many", 6), ("few", 2)):
        for side in ("photo", "cartoon"):
            (root / group / side).mkdir(parents=True)
        for index in range(count):
            photo, cartoon = draw(random, 64)
            cv2.imwrite(str(root / group / "photo" / f"{index}.png"), photo)
            cv2.imwrite(str(root / group / "cartoon" / f"{index}.png"), cartoon)
    return root
