"""Pictures to learn an alpha from: people set before rooms as a camera may see them, near and far.

    crop    the aligned crop, which head and shoulders fill, as the models draw it
    stand   a person at the bottom edge of a camera's frame, sometimes with another one behind
    whole   a photo as it was taken, or a part of it, with the alpha that a named network gives it
    empty   a room with nobody in it

Everything takes its random numbers as an argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from faces.align import align_matrix, crop
from faces.matte import SIDE, SQUEEZE
from faces.regions import fill
from trainer.augment import background, compose, degrade, random_motion

KINDS = {"crop": 0.3, "stand": 0.45, "whole": 0.2, "empty": 0.05}  # shares of the pictures
HEIGHT = (0.35, 1.05)  # of the frame, from the hair down to its lower edge
BODY = 1.3  # heights of a crop that a body may go on below it, as far as the hips
CLEAR = 0.02  # share of a photo's upper edge that a person may cover and still be set into a frame
FREE, NOBODY = 40, 13  # px of a photo, side of a piece of background that is worth keeping; alpha from which it is none


@dataclass(frozen=True)
class Photo:
    """picture: (H, W, 3) uint8 RGB; alpha: (H, W) uint8; points: (5, 2) px where the photo is not a crop already, None
    where it is one, before white."""

    picture: np.ndarray
    alpha: np.ndarray
    points: np.ndarray | None = None

    @property
    def stands(self) -> bool:
        """Whether the whole head is in it, so that it may be set lower down in a frame."""
        return float((self.alpha[0] > 127).mean()) <= CLEAR


class Scenes:
    """Draws pictures from `photos`, at least one; what stands free behind people in them is a background for others."""

    def __init__(self, photos: Sequence[Photo]):
        self._photos = list(photos)
        self._standing = [photo for photo in photos if photo.stands]
        taken = [photo for photo in photos if photo.points is not None]
        self._taken = taken
        self._rooms = [piece for photo in taken if (piece := room_of(photo)) is not None]
        possible = {"crop": True, "stand": bool(self._standing), "whole": bool(taken), "empty": True}
        self._kinds = [kind for kind in KINDS if possible[kind]]
        shares = np.array([KINDS[kind] for kind in self._kinds])
        self._shares = shares / shares.sum()

    def __call__(self, random: np.random.Generator, kind: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """-> picture (128, 128, 3) uint8 RGB, alpha (128, 128) uint8; `kind`: one of KINDS instead of any."""
        kind = kind or str(random.choice(self._kinds, p=self._shares))
        picture, alpha = getattr(self, f"_{kind}")(random)
        if random.random() < 0.5:
            picture, alpha = picture[:, ::-1], alpha[:, ::-1]
        return degrade(np.ascontiguousarray(picture), random), np.ascontiguousarray(alpha)

    def _crop(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        photo = _any(self._photos, random)
        if photo.points is None:
            side = photo.picture.shape[0]
            matrix = random_motion(side, random)
            zoom = cv2.getRotationMatrix2D((side / 2, side / 2), 0, float(np.exp(random.normal(0, 0.1))))
            matrix = zoom @ np.vstack([matrix, (0, 0, 1)])
            # What comes in from outside repeats the border: shoulders go on there.
            picture, alpha = (
                cv2.warpAffine(each, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE) for each in _both(photo)
            )
            picture, alpha = (cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for each in (picture, alpha))
        else:
            motion = np.vstack([random_motion(SIDE, random), (0, 0, 1)])
            matrix = (motion @ np.vstack([align_matrix(photo.points, SIDE), (0, 0, 1)]))[:2]
            picture = crop(photo.picture, matrix, SIDE)
            alpha = cv2.warpAffine(photo.alpha, matrix, (SIDE, SIDE))
            if random.random() < 0.4:
                return picture, alpha  # in the room where it was taken
        return compose(lit(picture, random), alpha, self._room(random)), alpha

    def _stand(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scene, seen = self._room(random), np.zeros((SIDE, SIDE), np.uint8)
        shape = float(np.exp(random.uniform(np.log(1 / SQUEEZE), np.log(SQUEEZE))))  # width of the frame per height
        for _ in range(2 if random.random() < 0.12 else 1):
            picture, alpha = placed(dressed(_any(self._standing, random), random), shape, random)
            scene = compose(lit(picture, random), alpha, scene)
            seen = cv2.max(seen, alpha)
        return scene, seen

    def _whole(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        photo = _any(self._taken, random)
        height, width = photo.alpha.shape
        rows, columns = (max(16, int(side * random.uniform(0.6, 1))) for side in (height, width))
        top, left = int(random.integers(0, height - rows + 1)), int(random.integers(0, width - columns + 1))
        part = np.s_[top : top + rows, left : left + columns]
        picture, alpha = (cv2.resize(each[part], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for each in _both(photo))
        return picture, alpha

    def _empty(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._room(random), np.zeros((SIDE, SIDE), np.uint8)

    def _room(self, random: np.random.Generator) -> np.ndarray:
        room = background(SIDE, self._rooms, random)
        return cluttered(room, self._rooms, random) if self._rooms and random.random() < 0.6 else room


def cluttered(room: np.ndarray, pieces: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Things in a room: parts of other rooms, square and round, more or less out of focus."""
    side = room.shape[0]
    for _ in range(random.integers(2, 14)):
        piece = pieces[random.integers(len(pieces))]
        part = int(random.integers(len(piece) // 5, len(piece)))
        top, left = random.integers(0, len(piece) - part + 1, 2)
        width, height = np.exp(random.uniform(np.log(side / 20), np.log(side / 2), 2)).astype(int)
        thing = cv2.resize(piece[top : top + part, left : left + part], (int(width), int(height)))
        x, y = int(random.integers(0, side - width)), int(random.integers(0, side - height))
        shape = np.full((height, width), 255, np.uint8)
        if random.random() < 0.5:
            shape[:] = 0
            cv2.ellipse(
                shape, (int(width) // 2, int(height) // 2), (int(width) // 2, int(height) // 2), 0, 0, 360, 255, -1
            )
        place = np.s_[y : y + height, x : x + width]
        room[place] = compose(lit(thing, random), shape, room[place])
    return cv2.GaussianBlur(room, (0, 0), float(np.exp(random.uniform(np.log(0.3), np.log(3)))))


def placed(photo: Photo, shape: float, random: np.random.Generator, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """The person at the lower edge of a frame `shape` times as wide as high, squeezed into a square: picture, alpha.

    Where the photo does not reach, alpha is 0.
    """
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
    turned = np.array([[cos, -sin], [sin, cos]])
    linear = np.diag([across, down]) @ turned
    foot = np.array([width / 2, height - 0.04 * (height - hair)])
    matrix = np.hstack([linear, (np.array([middle, side]) - linear @ foot)[:, None]])
    return _shrunk(photo, matrix, side)


def _shrunk(photo: Photo, matrix: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The photo through matrix (2, 3) -> (side, side), averaged down by halves first where it becomes much smaller."""
    picture, alpha = _both(photo)
    while abs(np.linalg.det(matrix[:, :2])) < 0.4 and min(alpha.shape) >= 8:
        half = alpha.shape[1] // 2, alpha.shape[0] // 2
        picture, alpha = (
            cv2.resize(each[: half[1] * 2, : half[0] * 2], half, interpolation=cv2.INTER_AREA)
            for each in (picture, alpha)
        )
        matrix = np.hstack([matrix[:, :2] * 2, (matrix[:, 2] + matrix[:, :2] @ np.full(2, 0.5))[:, None]])
    return (
        cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE),
        cv2.warpAffine(alpha, matrix, (side, side)),
    )


def dressed(photo: Photo, random: np.random.Generator) -> Photo:
    """With a body: shoulders wider than the head, and clothes from them down. A photo ends at the neck, or cuts the
    shoulders at its sides; these are made round."""
    height, width = photo.alpha.shape
    aside, below = width // 2, int(height * random.uniform(0.1, BODY))
    person = photo.alpha > 127
    rows = np.flatnonzero(person.mean(axis=1) > CLEAR)
    head = float(np.median(person[rows[: max(1, len(rows) // 2)]].sum(axis=1))) if len(rows) else width / 3
    low = person[-max(1, height // 12) :].any(axis=0)
    neck = aside + (float(np.flatnonzero(low).mean()) if low.any() else width / 2)
    alpha = cv2.copyMakeBorder(_rounded(photo.alpha, random), 0, below, aside, aside, cv2.BORDER_CONSTANT, value=0)
    picture = cv2.copyMakeBorder(photo.picture, 0, below, aside, aside, cv2.BORDER_REPLICATE)
    half = max(head * random.uniform(0.95, 1.45), float(low.sum()) / 2)
    top, fall, waist = height * random.uniform(0.88, 1), head * random.uniform(0.2, 0.55), random.uniform(0.85, 1.1)
    outline = [(0.3 * head, top), (0.7 * half, top + 0.3 * fall), (0.93 * half, top + 0.6 * fall), (half, top + fall)]
    outline += [(half * waist, height + below)]
    right, left = ([(neck + sign * x, y) for x, y in outline] for sign in (1, -1))
    body = np.zeros_like(alpha)
    fill(body, np.array([*left, *right[::-1]]), 255)
    seam = (height - np.arange(height + below)).clip(0, None)[:, None] / (height * random.uniform(0.02, 0.15))
    own = (alpha * seam.clip(0, 1)).astype(np.uint8)
    return Photo(compose(picture, own, _clothes(photo, body.shape, random)), cv2.max(alpha, body))


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
    size = shape[::-1]
    last = photo.alpha[-1] > 127
    if random.random() < 0.5 and last.any():
        cloth = np.broadcast_to(photo.picture[-1][last].mean(axis=0), (*shape, 3))
    else:
        cloth = cv2.resize(background(SIDE, (), random), size, interpolation=cv2.INTER_LINEAR)
    folds = cv2.resize(np.exp(random.normal(0, 0.25, (6, 7))).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return (cloth * folds[..., None]).clip(0, 255).astype(np.uint8)


def lit(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The person in other light than the room: brighter, darker, warmer."""
    gain = np.exp(random.normal(0, 0.2) + random.normal(0, 0.06, 3))
    return (picture * gain).clip(0, 255).astype(np.uint8)


def room_of(photo: Photo) -> np.ndarray | None:
    """The larger square in an upper corner of a photo in which nobody is seen, (S, S, 3) uint8; None below FREE px."""
    found = []
    for picture, alpha in (_both(photo), [each[:, ::-1] for each in _both(photo)]):
        side = min(alpha.shape)
        # Rows and columns up to here hold somebody: the nearest one ends the square.
        rows, columns = np.nonzero(alpha[:side, :side] >= NOBODY)
        side = int(np.maximum(rows, columns).min()) if len(rows) else side
        found.append(picture[:side, :side])
    largest = max(found, key=len)
    return np.ascontiguousarray(largest) if len(largest) >= FREE else None


def _both(photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    return photo.picture, photo.alpha


def _any(photos: Sequence[Photo], random: np.random.Generator) -> Photo:
    return photos[random.integers(len(photos))]
