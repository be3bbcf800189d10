"""One face from frame to frame: where it was, where it goes, and what it becomes when it is fitted or found."""

import math
from dataclasses import dataclass, field

import numpy as np

from faces.align import TEMPLATE
from faces.detect import Detection, longer_side
from faces.face import Face
from faces.landmarks import Mesh, pose
from faces.smooth import OneEuro

COAST_S = 0.3  # a lost face moves on at its last speed, which falls to a third in this time
STRAIGHT_S = 0.5  # for so long a face that passes another one is expected to go straight on
CROP_EYES = float(np.ptp(TEMPLATE[:2, 0]))  # px between the eyes of a crop
JUMP = 0.5  # eye distances between fit and filter from which the filter starts anew


@dataclass(frozen=True)
class Course:
    """Where a face was when nobody was near it: centre (2,) px, velocity (2,) px/s, longer side px, time s."""

    centre: np.ndarray
    velocity: np.ndarray
    side: float
    t: float

    def at(self, t: float) -> np.ndarray:
        """(2,) px: where it should be by now."""
        return self.centre + self.velocity * np.float32(min(t - self.t, STRAIGHT_S))


@dataclass(eq=False)
class Track:
    """One face. box: (4,) float32 px; mesh: None for a face that is only hidden; points: (5, 2) float32 px, steadied;
    look: its colours, see `identity.look`; behind: number of the face that hides it, or did until it stood
    free again."""

    number: int
    box: np.ndarray
    last_seen: float
    last_found: float  # by a search, not only by the fit
    score: float
    mesh: Mesh | None = None
    proved: bool = False  # the mesh was present at least once
    tried: float = -math.inf  # when a fit was tried last
    filter: OneEuro = field(default_factory=OneEuro)
    points: np.ndarray | None = None
    course: Course | None = None
    look: np.ndarray | None = None
    looked: float = -math.inf  # when
    behind: int | None = None

    def see(self, detection: Detection, t: float) -> None:
        """A face known by its box alone was found again."""
        self.filter(centre(detection.points)[None], t)
        self.box, self.points, self.score = detection.box, detection.points, detection.score
        self.last_seen = self.last_found = t

    def carry(self, detection: Detection, t: float) -> None:
        """A drawn face is found but cannot be fitted (a profile, a hand before it): its mesh goes where the face is."""
        before = centre(self.mesh.five)
        scale = np.float32(np.clip(longer_side(detection.box) / max(longer_side(self.box), 1e-3), 0.8, 1.25))
        points = self.mesh.points * scale
        points[:, :2] += centre(detection.points) - before * scale
        self.take(Mesh(points, self.mesh.presence, self.mesh.blur), t)
        self.score = detection.score

    def take(self, mesh: Mesh, t: float) -> None:
        """The face was fitted."""
        points = mesh.five
        if self.mesh is None or self._jumped(points):
            self.filter.reset()
        unit = _between(points) / CROP_EYES
        self.mesh, self.points, self.proved = mesh, self.filter(points, t, max(unit, 1e-3)), True
        self.box, self.score, self.last_seen = mesh.box, mesh.presence, t

    def hide(self) -> None:
        """Draw it no more: it is known by its box alone from now on."""
        self.mesh = None
        self.filter.reset()

    def scale(self, scale: np.ndarray) -> None:
        """The same picture comes in another size; scale: (2,) float32, new px per old px."""
        self.box = self.box * np.tile(scale, 2)
        self.points = self.points * scale
        self.filter.reset()
        self.course = None
        if self.mesh is not None:
            points = self.mesh.points * np.append(scale, scale.mean())
            self.mesh = Mesh(points.astype(np.float32), self.mesh.presence, self.mesh.blur)

    def drift(self, t: float) -> np.ndarray:
        """(2,) px: how far the face has moved since it was last seen, at its last speed, which dies away."""
        unseen = t - self.last_seen
        if unseen <= 0:
            return _NO_DRIFT
        # Beside another face the fit may slip over to that one: the speed from before they met is the better one.
        velocity = self.course.velocity if self.course and self.mesh is not None else self.filter.velocity
        return velocity * np.float32(COAST_S * (1 - math.exp(-unseen / COAST_S)))

    def moved_box(self, t: float) -> np.ndarray:
        """(4,) float32 px: the box where the face should be at `t`."""
        return self.box if t <= self.last_seen else self.box + np.tile(self.drift(t), 2)

    def face(self, t: float) -> Face:
        """What is reported of it."""
        box, points, landmarks = self.box, self.points, np.zeros((0, 2), np.float32)
        fitted, lost = self.mesh is not None, t > self.last_seen
        if fitted:
            landmarks = np.ascontiguousarray(self.mesh.points[:, :2])
        if lost:
            shift = self.drift(t)
            box, points, landmarks = box + np.tile(shift, 2), points + shift, landmarks + shift
        return Face(
            box=box,
            points=points,
            score=self.score,
            size=_between(points) * 2.2,
            track=self.number,
            landmarks=landmarks,
            pose=pose(self.mesh.points) if fitted else (0.0, 0.0, 0.0),
            blur=self.mesh.blur if fitted else 0.0,
            unseen_s=max(0.0, t - self.last_seen),
        )

    def _jumped(self, now: np.ndarray) -> bool:
        (x, y), (x_before, y_before) = centre(now).tolist(), centre(self.points).tolist()
        return math.hypot(x - x_before, y - y_before) > JUMP * _between(now)


_NO_DRIFT = np.zeros(2, np.float32)


def centre(points: np.ndarray) -> np.ndarray:
    """(N, 2) -> (2,): their mean, by a sum, which takes a third of numpy's mean."""
    return points.sum(axis=0) / np.float32(len(points))


def _between(points: np.ndarray) -> float:
    """Px between the eyes, the first two points."""
    (x, y), (x2, y2) = points[:2].tolist()
    return math.hypot(x2 - x, y2 - y)
