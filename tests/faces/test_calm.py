"""Noise does not make a drawing shimmer, what moves takes its drawing along, and what is new is drawn at once."""

from itertools import pairwise

import cv2
import numpy as np

from faces.calm import FORGET_S, Calm

STEP = 1 / 25


def camera(random, level: float = 120.0, sd: float = 5.0) -> np.ndarray:
    return (np.full((256, 256, 3), level) + random.normal(0, sd, (256, 256, 3))).clip(0, 255).astype(np.uint8)


def drawing(random, level: float = 200.0, sd: float = 3.0) -> np.ndarray:
    return (np.full((256, 256, 4), level) + random.normal(0, sd, (256, 256, 4))).clip(0, 255).astype(np.uint8)


def change(pictures: list[np.ndarray]) -> float:
    steps = (np.abs(one.astype(int) - other).mean() for one, other in pairwise(pictures))
    return float(np.mean(list(steps)))


def test_a_still_face_in_noise_is_less_than_half_as_restless():
    random, calm = np.random.default_rng(3), Calm()
    drawn = [drawing(random) for _ in range(20)]
    shown = [calm(each, camera(random), index * STEP) for index, each in enumerate(drawn)]
    assert change(shown[8:]) < 0.4 * change(drawn[8:])
    assert abs(shown[-1].mean() - 200) < 1, "it drifts"


def test_what_moves_takes_its_drawing_along():
    """A textured face that goes to the right and up by 2 px a picture: less than half of the restlessness is left."""
    random, calm = np.random.default_rng(3), Calm()
    face = cv2.GaussianBlur(random.integers(0, 256, (400, 400), np.uint8), (0, 0), 6)
    face = cv2.normalize(face, None, 40, 210, cv2.NORM_MINMAX)
    drawn, shown = [], []
    for index in range(16):
        window = face[40 + 2 * index :, 100 - 2 * index :][:256, :256]
        crop = (window[..., None] + random.normal(0, 3, (256, 256, 3))).clip(0, 255).astype(np.uint8)
        new = (window[..., None] + random.normal(0, 6, (256, 256, 4))).clip(0, 255).astype(np.uint8)
        middle = np.s_[24:-24, 24:-24]
        drawn.append(np.abs(new[middle].astype(int) - window[middle][..., None]).mean())
        shown.append(np.abs(calm(new, crop, index * STEP)[middle].astype(int) - window[middle][..., None]).mean())
    assert np.mean(shown[8:]) < 0.5 * np.mean(drawn[8:])


def test_what_is_new_is_drawn_at_once_and_its_surroundings_are_held():
    random, calm = np.random.default_rng(3), Calm()
    calm(drawing(random, 200), camera(random), 0.0)
    moved, new = camera(random), drawing(random, 100)
    moved[64:192, 64:192] = 20
    shown = calm(new, moved, STEP)
    assert (shown[80:176, 80:176] == new[80:176, 80:176]).all()
    assert shown[:48].mean() > 160


def test_a_drawing_of_another_kind_is_shown_at_once():
    """Another group, another slider: nothing moves before the camera."""
    random, calm = np.random.default_rng(3), Calm()
    calm(drawing(random, 200), camera(random), 0.0, ("kids", 0.7))
    held = calm(drawing(random, 100), camera(random), STEP, ("kids", 0.7))
    assert 140 < held.mean() < 195
    new = drawing(random, 100)
    assert calm(new, camera(random), 2 * STEP, ("elderly", 0.7)) is new


def test_after_a_gap_or_another_size_all_is_new():
    random, calm = np.random.default_rng(3), Calm()
    calm(drawing(random, 200), camera(random), 0.0)
    new = drawing(random, 100)
    assert calm(new, camera(random), FORGET_S + 0.01) is new
    assert calm(new, camera(random), FORGET_S) is new, "time went back"
    small = new[:96, :96].copy()
    assert calm(small, camera(random)[:96, :96].copy(), FORGET_S + STEP).shape == (96, 96, 4)
