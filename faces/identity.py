"""Who is who when faces meet, part and come back: by the way they were going, their size and their colours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from faces.align import align_matrix
from faces.detect import Detection, longer_side, overlap
from faces.landmarks import Mesh
from faces.tracks import Course, Track, centre

CUT, LOOK = 64, 12  # px: sides of the crop that is looked at and of the small picture that is kept of it
LOOK_EVERY_S = 0.2
MEMORY = 0.3  # weight of the newest look
CROWDED = 0.05  # overlap of boxes from which another face may be taken for this one
CROWD_S = 0.6  # after so long beside another face the way from before they met says nothing any more
FOUND_AFTER_LOST = 0.3  # strangeness of a face that was not seen in the frame before: who was there, stays
UNKNOWN = 0.3  # strangeness of colours where there is nothing to compare
STRANGER = 1.1  # strangeness from which a face is another one
REACH, REACH_PER_S = 0.9, 2.0  # how far from where it should be a face may come back: sides, and sides a second


@dataclass(frozen=True)
class Sight:
    """A face whose track is not known yet. centre: (2,) px; side: longer one, px; colours: its `look`, or None."""

    centre: np.ndarray
    side: float
    colours: np.ndarray | None

    @classmethod
    def of_mesh(cls, mesh: Mesh, frame: np.ndarray) -> "Sight":
        points = mesh.five
        return cls(centre(points), longer_side(mesh.box), look(frame, points))

    @classmethod
    def of_find(cls, find: Detection) -> "Sight":
        return cls(centre(find.points), longer_side(find.box), None)


def look(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The colours of a face, brightness and contrast taken out.

    frame: (H, W, 3) uint8 RGB; points: (5, 2) px -> (432,) float32 of length 1.
    """
    cut = cv2.warpAffine(frame, align_matrix(points, CUT), (CUT, CUT), borderMode=cv2.BORDER_REPLICATE)
    edge = CUT // 8
    middle = np.ascontiguousarray(cut[edge:-edge, edge:-edge])
    small = cv2.resize(middle, (LOOK, LOOK), interpolation=cv2.INTER_AREA).ravel().astype(np.float32)
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-3)


def note(frame: np.ndarray, tracks: Sequence[Track], t: float) -> None:
    """Remember of every face that was fitted in this frame how it goes and looks, as long as no other is near."""
    seen = [track for track in tracks if track.last_seen == t]
    for track in seen:
        if track.mesh is None:
            continue
        crowded = any(other is not track and overlap(track.box, other.box) > CROWDED for other in seen)
        if not crowded:
            track.behind = None
        if crowded and track.course and t - track.course.t < CROWD_S:
            continue
        track.course = Course(centre(track.points), track.filter.velocity, longer_side(track.box), t)
        if not crowded and t - track.looked >= LOOK_EVERY_S:
            now = look(frame, track.points)
            track.look = now if track.look is None else track.look + np.float32(MEMORY) * (now - track.look)
            track.looked = t


def owner(one: Track, other: Track, sight: Sight, other_sight: Sight, t: float, before: float) -> Track:
    """Whose face it is that the fits of two tracks have come to lie on; before: time of the frame before."""

    def strangeness(track: Track, seen: Sight) -> float:
        if track.course is None:  # it never had a face to itself
            return math.inf
        away = float(np.linalg.norm(seen.centre - track.course.at(t))) / seen.side
        lost = FOUND_AFTER_LOST if track.last_seen < before else 0.0
        return min(1.0, away) + _growth(track, seen.side) + _difference(track, seen.colours) + lost

    first, second = strangeness(one, sight), strangeness(other, other_sight)
    return one if (first, one.number) < (second, other.number) else other


def is_like(track: Track, other: Track, seen: Sight) -> bool:
    """Whether a face has the colours of `track` rather than those of `other`."""
    return _difference(track, seen.colours) < _difference(other, seen.colours)


def known_again(lost: Sequence[Track], seen: Sight, t: float, others: Mapping[int, Track]) -> Track | None:
    """Which of the `lost` faces has come back; None for a new one. others: by number, those that may hide one."""

    def strangeness(track: Track) -> float:
        last = centre(track.points)
        places = [last, last + track.drift(t)]
        if track.course:
            places.append(track.course.at(t))
        if track.behind in others:  # it may come out on any side of the face that hides it
            places.append(centre(others[track.behind].points))
        away = min(float(np.linalg.norm(seen.centre - place)) for place in places) / seen.side
        reach = REACH + REACH_PER_S * (t - track.last_seen)
        if away > reach:
            return math.inf
        return 0.5 * away / reach + _growth(track, seen.side) + _difference(track, seen.colours)

    best = min(lost, key=lambda track: (strangeness(track), track.number), default=None)
    return best if best and strangeness(best) < STRANGER else None


def _growth(track: Track, side: float) -> float:
    return abs(math.log(side / max(longer_side(track.box), 1e-3)))


def _difference(track: Track, colours: np.ndarray | None) -> float:
    """0 for the same colours, 1 for unrelated ones."""
    if track.look is None or colours is None:
        return UNKNOWN
    return 1 - float(track.look @ colours) / max(float(np.linalg.norm(track.look)), 1e-6)
