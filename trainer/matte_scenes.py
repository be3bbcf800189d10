"""Pictures to learn an alpha from: people set before rooms as a camera may see them, near and far.

    crop    the aligned crop, which head and shoulders fill, as the models draw it
    stand   a person at the bottom edge of a camera's frame, sometimes with another one behind
    whole   a photo as it was taken, or a part of it, with the alpha that a named network gives it
    empty   a room with nobody in it

Everything takes its random numbers as an argument.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from faces.align import align_matrix, crop
from faces.matte import SIDE, SQUEEZE
from trainer.augment import background, compose, degrade, random_motion
from trainer.matte_people import Photo, any_of, dressed, lit, placed

KINDS = {"crop": 0.25, "stand": 0.5, "whole": 0.2, "empty": 0.05}  # shares of the pictures
TWO = 0.12  # share of the frames in which two people stand
CLUTTERED = 0.6  # share of the rooms with things in them
DEGRADED = 0.5  # share of the pictures that go through trainer.augment.degrade, which spares four in ten of them
FREE, NOBODY = 40, 13  # px of a photo, side of a piece of background that is worth keeping; alpha from which it is none


class Scenes:
    """Draws pictures from `photos`, at least one; what stands free behind people in them is a background for others."""

    def __init__(self, photos: Sequence[Photo]):
        self._photos = list(photos)
        self._standing = [photo for photo in photos if photo.stands]
        self._taken = [photo for photo in photos if photo.points is not None]
        self._rooms = [piece for photo in self._taken if (piece := room_of(photo)) is not None]
        possible = {"crop": True, "stand": bool(self._standing), "whole": bool(self._taken), "empty": True}
        self._kinds = [kind for kind in KINDS if possible[kind]]
        shares = np.array([KINDS[kind] for kind in self._kinds])
        self._shares = shares / shares.sum()

    def __call__(self, random: np.random.Generator, kind: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """-> picture (128, 128, 3) uint8 RGB, alpha (128, 128) uint8; `kind`: one of KINDS instead of any."""
        kind = kind or str(random.choice(self._kinds, p=self._shares))
        picture, alpha = getattr(self, f"_{kind}")(random)
        if random.random() < 0.5:
            picture, alpha = np.ascontiguousarray(picture[:, ::-1]), np.ascontiguousarray(alpha[:, ::-1])
        return degrade(picture, random) if random.random() < DEGRADED else picture, alpha

    def _crop(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        photo = any_of(self._photos, random)
        motion = np.vstack([random_motion(SIDE, random), (0, 0, 1)])
        if photo.points is None:
            scale = SIDE / photo.alpha.shape[0]
            zoom = random.normal(0, 0.1)
            # From outside comes the border once more: right where shoulders go on, but hair would grow into a tower.
            zoom = float(np.exp(zoom if photo.stands else abs(zoom) + 0.06))
            zoomed = np.vstack([cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 0, zoom), (0, 0, 1)])
            matrix = (zoomed @ motion @ np.diag([scale, scale, 1]))[:2]
            picture, alpha = (
                cv2.warpAffine(each, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
                for each in (photo.picture, photo.alpha)
            )
        else:
            matrix = (motion @ np.vstack([align_matrix(photo.points, SIDE), (0, 0, 1)]))[:2]
            picture = crop(photo.picture, matrix, SIDE)
            alpha = cv2.warpAffine(photo.alpha, matrix, (SIDE, SIDE))
            if random.random() < 0.5:
                return picture, alpha  # in the room where it was taken
        return compose(lit(picture, random), alpha, self._room(random)), alpha

    def _stand(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scene, seen = self._room(random), np.zeros((SIDE, SIDE), np.uint8)
        shape = float(np.exp(random.uniform(np.log(1 / SQUEEZE), np.log(SQUEEZE))))  # width of the frame per height
        for _ in range(2 if random.random() < TWO else 1):
            photo = any_of(self._standing, random)
            in_room = photo.points is not None and random.random() < 0.5
            picture, alpha, laid = placed(dressed(photo, random, in_room), shape, random)
            scene = compose(lit(picture, random), laid, scene)
            # The room that came with the nearer one may hide the other.
            seen = cv2.max(cv2.min(seen, cv2.bitwise_not(laid)), alpha)
        return scene, seen

    def _whole(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        photo = any_of(self._taken, random)
        height, width = photo.alpha.shape
        rows, columns = (max(16, int(side * random.uniform(0.6, 1))) for side in (height, width))
        top, left = int(random.integers(0, height - rows + 1)), int(random.integers(0, width - columns + 1))
        part = np.s_[top : top + rows, left : left + columns]
        picture, alpha = (
            cv2.resize(each[part], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for each in (photo.picture, photo.alpha)
        )
        return picture, alpha

    def _empty(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._room(random), np.zeros((SIDE, SIDE), np.uint8)

    def _room(self, random: np.random.Generator) -> np.ndarray:
        room = background(SIDE, self._rooms, random)
        return cluttered(room, self._rooms, random) if self._rooms and random.random() < CLUTTERED else room


def cluttered(room: np.ndarray, pieces: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Things in a room: parts of other rooms, square and round, more or less out of focus."""
    side = room.shape[0]
    for _ in range(random.integers(2, 14)):
        piece = pieces[random.integers(len(pieces))]
        part = int(random.integers(len(piece) // 5, len(piece)))
        top, left = random.integers(0, len(piece) - part + 1, 2)
        size = np.exp(random.uniform(np.log(side / 20), np.log(side / 2), 2))
        width, height = (int(each) for each in size)
        thing = lit(cv2.resize(piece[top : top + part, left : left + part], (width, height)), random)
        x, y = int(random.integers(0, side - width)), int(random.integers(0, side - height))
        place = room[y : y + height, x : x + width]
        if random.random() < 0.5:
            place[:] = thing
        else:
            round_one = np.zeros((height, width), np.uint8)
            cv2.ellipse(round_one, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 255, -1)
            cv2.copyTo(thing, round_one, place)
    return cv2.GaussianBlur(room, (0, 0), float(np.exp(random.uniform(np.log(0.3), np.log(3)))))


def room_of(photo: Photo) -> np.ndarray | None:
    """The larger square in an upper corner of a photo in which nobody is seen, (S, S, 3) uint8; None below FREE px."""
    found = []
    for turned in (1, -1):
        picture, alpha = photo.picture[:, ::turned], photo.alpha[:, ::turned]
        side = min(alpha.shape)
        # Rows and columns up to here hold somebody: the nearest one ends the square.
        rows, columns = np.nonzero(alpha[:side, :side] >= NOBODY)
        side = int(np.maximum(rows, columns).min()) if len(rows) else side
        found.append(picture[:side, :side])
    largest = max(found, key=len)
    return np.ascontiguousarray(largest) if len(largest) >= FREE else None
