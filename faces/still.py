"""The largest face of a still picture, photo or drawing: where it is.

    picture -> searched with room around it -> 468 points fitted -> five points

A drawing often fails to convince the network of the points that it shows a face (of 330 anime faces, 28 %). But where
fits that begin from two different finds, repeated from themselves, end in one place, that place is the face: so in 93 %
of these drawings, and on no picture without a face that was tried (the closest ended 0.25 eye distances apart).
"""

from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from faces.detect import BlazeFace, Detection, RetinaFace
from faces.finders import Finders
from faces.landmarks import Mesh, five
from faces.track import CERTAIN, CLEAR, PRESENT

SEARCHED_PX = 1280  # longer side at which a picture is searched; the crop is cut from all of its pixels
ROOM = 3  # a third of the longer side is added on each side: a face that fills the picture is found better
REFITS = 3  # after which a fit no longer moves
AGREE = 0.1  # mean distance of five points, in eye distances, below which two fits found the same
DRAWN_WIDE, DRAWN_NEAR = 0.25, 0.3  # scores from which a find in a drawing is worth a fit
FACE_PER_EYES = 2.2  # width of a face per distance of its eyes, as `Face.size` has it


@dataclass(frozen=True)
class Found:
    """points: (5, 2) float32 px of the picture in the order of `align.TEMPLATE`; faces: how many were seen."""

    points: np.ndarray
    faces: int

    @property
    def side(self) -> float:
        """Width of the face in px of the picture."""
        return float(np.linalg.norm(self.points[1] - self.points[0])) * FACE_PER_EYES


class FaceFinder:
    """Finds the largest face of a still picture; one call at a time.

    >>> import numpy
    >>> FaceFinder("photo")(numpy.zeros((120, 160, 3), numpy.uint8)) is None
    True
    """

    def __init__(self, domain: str):
        self._drawn = domain == "cartoon"
        if self._drawn:
            self._finders = Finders(BlazeFace("short", DRAWN_NEAR), RetinaFace(DRAWN_WIDE))
            self._searches = (self._finders.wide, self._finders.near, BlazeFace("full", DRAWN_NEAR))
        else:
            self._finders = Finders()
            self._searches = (self._finders.wide, self._finders.near)

    def __call__(self, picture: np.ndarray) -> Found | None:
        """picture: (H, W, 3) uint8 RGB -> its largest face, or None."""
        small, longest = picture, max(picture.shape[:2])
        if longest > SEARCHED_PX:
            size = [max(1, round(side * SEARCHED_PX / longest)) for side in picture.shape[1::-1]]
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        room = max(small.shape[:2]) // ROOM
        roomy = cv2.copyMakeBorder(small, *[room] * 4, cv2.BORDER_REPLICATE)
        found = self._drawing(roomy) if self._drawn else self._photo(roomy, room)
        if found is None or not _within(found.points, roomy, room):
            return None
        # Pixel p of the small picture is the middle of several of the large one.
        ratio = np.array(picture.shape[1::-1]) / small.shape[1::-1]
        points = (found.points - room + 0.5) * ratio - 0.5
        return Found(points.astype(np.float32), found.faces)

    def _photo(self, roomy: np.ndarray, room: int) -> Found | None:
        """The largest find that can be fitted and lies in the picture."""
        for search in self._searches:
            found = search(roomy)
            for find in sorted(found, key=_width, reverse=True):
                mesh = self._finders.fit_detection(roomy, find)
                if not _believed(mesh, find):
                    continue
                # Fitted once more from itself, which is how live video, where a frame follows another, sees it.
                again = self._refitted(roomy, mesh, 1)
                points = five((again if again.presence > PRESENT else mesh).points)
                if _within(points, roomy, room):
                    return Found(points, len(found))
        return None

    def _drawing(self, roomy: np.ndarray) -> Found | None:
        """Two fits that ended in one place, or else one that the network believes."""
        believed, ends, most = [], [], 0
        for search in self._searches:
            if not (found := search(roomy)):
                continue
            find = max(found, key=_width)
            mesh = self._finders.fit_detection(roomy, find)
            if _believed(mesh, find):
                believed.append((mesh.presence, five(mesh.points)))
            ends.append(five(self._refitted(roomy, mesh, REFITS).points))
            most = max(most, len(found))
        apart = [(_distance(one, other), (one + other) / 2) for one, other in combinations(ends, 2)]
        distance, middle = min(apart, key=lambda pair: pair[0], default=(np.inf, None))
        if distance < AGREE:
            return Found(middle, most)
        return Found(max(believed, key=lambda pair: pair[0])[1], most) if believed else None

    def _refitted(self, roomy: np.ndarray, mesh: Mesh, times: int) -> Mesh:
        for _ in range(times):
            mesh = self._finders.follow(roomy, mesh, np.zeros(2, np.float32))
        return mesh


def _within(points: np.ndarray, roomy: np.ndarray, room: int) -> bool:
    """Whether all points lie in the picture itself: beside it the edge goes on, and may look like half a face."""
    return bool((points >= room).all() and (points < np.array(roomy.shape[1::-1]) - room).all())


def _width(find: Detection) -> float:
    return float(find.box[2] - find.box[0])


def _believed(mesh: Mesh, find: Detection) -> bool:
    """The rule of faces/track.py: a mesh on an unclear find must be certain."""
    return mesh.presence > (PRESENT if find.score >= CLEAR else CERTAIN)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Between two times five points, in eye distances."""
    eyes = float(np.linalg.norm(one[1] - one[0]))
    return float(np.linalg.norm(one - other, axis=1).mean()) / max(eyes, 1e-6)
