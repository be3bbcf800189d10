"""People for the scenes of matte_scenes.py: photos with their alpha, given a body and set into a frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from faces.matte import SIDE
from faces.regions import fill
from trainer.augment import background, compose

HEIGHT = (0.35, 1.05)  # of the frame, from the hair down to its lower edge
BODY = 1.3  # heights of a crop that a body may go on below it, as far as the hips
CLEAR = 0.02  # share of a row that a person may cover and still not be in it
SHRUNK = 0.4  # pixels of the scene per pixel of a photo below which it is averaged down first
COLLAR = 0.86  # of a photo's height, where clothes may begin


@dataclass(frozen=True)
class Photo:
    """picture: (H, W, 3) uint8 RGB; alpha: (H, W) uint8; points: (5, 2) px of a photo in the room where it was taken,
    None of an aligned crop before white; laid: (H, W) uint8, what is laid into a scene if that is more than the person.
    """

    picture: np.ndarray
    alpha: np.ndarray
    points: np.ndarray | None = None
    laid: np.ndarray | None = None

    @property
    def stands(self) -> bool:
        """Whether the whole head is in it, so that it may be set lower down in a frame."""
        return float((self.alpha[0] > 127).mean()) <= CLEAR


def dressed(photo: Photo, random: np.random.Generator, in_room: bool = False) -> Photo:
    """With a body: shoulders wider than the head, and clothes from them down.

    A photo ends at the neck, or cuts the shoulders at its sides; these are made round. in_room: a piece of the photo's
    own room stays around the head, so that the outline is the camera's and not one of ours.
    """
    height, width = photo.alpha.shape
    aside, below = width // 2, int(height * random.uniform(0.1, BODY))
    own = photo.alpha if in_room else _rounded(photo.alpha, random)
    alpha = cv2.copyMakeBorder(own, 0, below, aside, aside, cv2.BORDER_CONSTANT, value=0)
    picture = cv2.copyMakeBorder(photo.picture, 0, below, aside, aside, cv2.BORDER_REPLICATE)
    collar = int(COLLAR * height)
    seam = (height - np.arange(collar, height + below)).clip(0, None) / (height * random.uniform(0.02, 0.12))
    fading = (alpha[collar:] * seam.clip(0, 1)[:, None]).astype(np.uint8)
    picture[collar:] = compose(picture[collar:], fading, _clothes(photo, fading.shape, random))
    alpha = cv2.max(alpha, _body(photo, alpha.shape, aside, random))
    if not in_room:
        return Photo(picture, alpha)
    room = np.zeros_like(alpha)
    room[:collar, aside : aside + width] = 255
    feather = 2 * int(random.integers(1, 16)) + 1
    return Photo(picture, alpha, laid=cv2.max(alpha, cv2.blur(room, (feather, feather))))


def _body(photo: Photo, shape: tuple[int, int], aside: int, random: np.random.Generator) -> np.ndarray:
    """Alpha (H, W) uint8 of shoulders and chest below the photo, which lies `aside` px from the left edge."""
    height, width = photo.alpha.shape
    person = photo.alpha > 127
    rows = np.flatnonzero(person.mean(axis=1) > CLEAR)
    head = float(np.median(person[rows[: max(1, len(rows) // 2)]].sum(axis=1))) if len(rows) else width / 3
    low = person[-max(1, height // 12) :].any(axis=0)
    neck = aside + (float(np.flatnonzero(low).mean()) if low.any() else width / 2)
    half = max(head * random.uniform(0.95, 1.45), float(low.sum()) / 2)
    top, fall, waist = height * random.uniform(0.88, 1), head * random.uniform(0.2, 0.55), random.uniform(0.85, 1.1)
    outline = [(0.3 * head, top), (0.7 * half, top + 0.3 * fall), (0.93 * half, top + 0.6 * fall), (half, top + fall)]
    outline += [(half * waist, shape[0])]
    right, left = ([(neck + sign * x, y) for x, y in outline] for sign in (1, -1))
    body = np.zeros(shape, np.uint8)
    fill(body, np.array([*left, *right[::-1]]), 255)
    return body


def _rounded(alpha: np.ndarray, random: np.random.Generator) -> np.ndarray:
    height, width = alpha.shape
    reach, drop = width * random.uniform(0.04, 0.2), height * random.uniform(0.05, 0.3)
    inwards = (np.minimum(np.arange(width), np.arange(width)[::-1]) / reach).clip(0, 1)
    shoulder = height - drop * np.sqrt(1 - (1 - inwards) ** 2)  # row from which each column may show the body
    inside = (np.arange(height)[:, None] - shoulder).clip(0, 1)
    inside[:, inwards >= 1] = 1
    return (alpha * inside).astype(np.uint8)


def _clothes(photo: Photo, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: cloth of the colour that the photo ends in, or of any other, with folds."""
    last = photo.alpha[-1] > 127
    if random.random() < 0.5 and last.any():
        cloth = np.broadcast_to(photo.picture[-1][last].mean(axis=0), (16, 16, 3))
    else:
        cloth = background(64, (), random)
    folds = cv2.resize(np.exp(random.normal(0, 0.25, (6, 7))), cloth.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.resize((cloth * folds[..., None]).clip(0, 255).astype(np.uint8), shape[::-1])


def placed(photo: Photo, shape: float, random: np.random.Generator, side: int = SIDE) -> tuple[np.ndarray, ...]:
    """The person at the lower edge of a frame `shape` times as wide as high, squeezed into a square: picture, alpha,
    and how much of each pixel is laid into a scene."""
    height, width = photo.alpha.shape
    rows = np.flatnonzero((photo.alpha > 127).mean(axis=1) > CLEAR)
    hair = float(rows[0]) if len(rows) else 0.0
    seen = random.uniform(*HEIGHT)  # of the frame
    down = side * seen / (height - hair)  # px of the square per px of the photo
    across = down / shape
    middle = side * (0.5 + random.normal(0, 0.16))
    turn = np.radians(random.normal(0, 4))
    cos, sin = np.cos(turn), np.sin(turn)
    # Turned about the middle of the lower edge, so that no gap opens there; then squeezed, then moved.
    linear = np.diag([across, down]) @ np.array([[cos, -sin], [sin, cos]])
    foot = np.array([width / 2, height - 0.04 * (height - hair)])
    matrix = np.hstack([linear, (np.array([middle, side]) - linear @ foot)[:, None]])
    layers = [photo.picture, photo.alpha, *([] if photo.laid is None else [photo.laid])]
    while abs(np.linalg.det(matrix[:, :2])) < SHRUNK and min(layers[0].shape[:2]) >= 8:
        half = layers[0].shape[1] // 2, layers[0].shape[0] // 2
        layers = [cv2.resize(each[: half[1] * 2, : half[0] * 2], half, interpolation=cv2.INTER_AREA) for each in layers]
        matrix = np.hstack([matrix[:, :2] * 2, (matrix[:, 2] + matrix[:, :2] @ np.full(2, 0.5))[:, None]])
    picture = cv2.warpAffine(layers[0], matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    alpha, *laid = (cv2.warpAffine(each, matrix, (side, side)) for each in layers[1:])
    return picture, alpha, laid[0] if laid else alpha


def lit(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The person in other light than the room: brighter, darker, warmer."""
    gain = np.exp(random.normal(0, 0.2) + random.normal(0, 0.06, 3))
    return cv2.LUT(picture, (np.arange(256)[:, None] * gain).clip(0, 255).astype(np.uint8)[None])


def any_of(photos: Sequence[Photo], random: np.random.Generator) -> Photo:
    """One of them."""
    return photos[random.integers(len(photos))]
