"""Follows faces from frame to frame, and never forgets one it has just seen.

Each frame is searched by the cheap detector before anything of it is shown, while the faces known so far are
fitted (468 points) in the squares where they were a moment ago. The wide search begins in about every fifth
frame and is read at the next one, so that no frame waits for it; it is waited for in the first second of a
picture, while nobody is there, when a face is missing, and where frames come slowly. A face that cannot be
fitted, or is one too many to draw, is still reported so that the caller hides it.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faces import weights
from faces.detect import BlazeFace, Detection, RetinaFace, Search, overlap
from faces.face import Face
from faces.landmarks import FaceMesh, Mesh, five, pose, square
from faces.smooth import OneEuro

WIDE_EVERY_S = 0.15  # a small or turned face stays unseen for this long and a frame at most
SLOW_S = 0.09  # between frames: from here on a result of the frame before comes too late
EARLY_S = 1.0  # in which every frame is searched widely: a camera's first pictures are dark, a video's first blurred
# Of 428 faces found in noisy rooms the mesh is present (over 0.5) in all but one of those with a score over 0.8 and
# in five of six of the others; 90 of 91 false finds score under 0.73, and no mesh on them is present over 0.97.
SURE = 0.8  # score from which a find is a face even if no mesh fits: it is hidden
CLEAR = 0.9  # score from which a mesh that is present at all is drawn; below, it must be certain
PRESENT = 0.5  # presence of the mesh below which the face counts as not fitted
CERTAIN = 0.98  # presence without which a find that is not sure is no face
RETRY_EVERY = 3  # frames between attempts to fit a face that is hidden
REFUTED_S = 0.5  # a place where an unsure find turned out to be no face is not asked about again for this long
KEEP_S = 0.5  # a lost face stays covered: about the time a head needs to turn away and back
FADE_S = 0.25  # and then its cover fades
COAST_S = 0.3  # a lost face moves on at its last speed, which falls to a third in this time
UNSUPPORTED_S = 1.5  # a mesh, not a certain one, that no search confirms for this long has settled on something else
SAME = 0.25  # overlap of boxes from which a detection belongs to a track
TWINS = 0.55  # overlap of two tracks' boxes from which they follow one face
JUMP = 0.5  # eye distances between fit and filter from which the filter starts anew
GROWTH = 1.7  # a face does not grow or shrink by more between two frames


_NO_DRIFT = np.zeros(2, np.float32)


@dataclass(frozen=True)
class Seen:
    """What `Tracker.update` found. faces: fitted ones first, oldest track first; search_ms, landmarks_ms: its times."""

    faces: list[Face]
    search_ms: float
    landmarks_ms: float


@dataclass
class _Track:
    number: int
    box: np.ndarray
    last_seen: float
    last_found: float  # by a search, not only by the fit
    score: float
    mesh: Mesh | None = None
    proved: bool = False  # the mesh was present at least once
    filter: OneEuro = field(default_factory=OneEuro)
    points: np.ndarray | None = None


class Tracker:
    """Owns the detectors, the mesh and the tracks of one video; one call at a time.

    >>> import numpy
    >>> Tracker().update(numpy.zeros((120, 160, 3), numpy.uint8), 0.0).faces
    []
    """

    def __init__(self, max_faces: int = 4, finders: "Finders | None" = None):
        self._max_faces = max_faces
        self._finders = finders or Finders()
        self.reset()

    def reset(self) -> None:
        """Forget every face, as for a new video; the networks stay open."""
        self._tracks: list[_Track] = []
        self._next_number = 0
        self._frames = 0
        self._last_t = self._began = self._searched = 0.0
        self._shape: tuple[int, int] | None = None
        self._refuted: list[tuple[np.ndarray, float]] = []
        self._wide: Search | None = None

    def update(self, frame: np.ndarray, t: float) -> Seen:
        """frame: (H, W, 3) uint8 RGB at `t` seconds -> every face in it, and those lost a moment ago."""
        watch = _Watch()
        self._follow_size(frame.shape[:2], t)
        with watch.search:
            near = self._finders.near.start(frame)
        missing = self._follow(frame, t, watch)
        with watch.search:
            found = near.found() + (self._wide.found() if self._wide else [])
            self._wide = None
        missing = self._recover(frame, t, found, missing, watch)
        # While nobody is there no generator runs either, so both searches look at every frame. A face lost in this very
        # frame is looked for at once, one lost before in every second frame.
        early = t - self._began < EARLY_S or not self._tracks or t - self._last_t > SLOW_S
        if early or any(track.last_seen == self._last_t or self._frames % 2 for track in missing):
            with watch.search:
                wide = self._finders.wide(frame)
            self._recover(frame, t, wide, missing, watch)
            found += wide
            self._searched = t
        elif t - self._searched >= WIDE_EVERY_S:
            with watch.search:
                self._wide = self._finders.wide.start(frame)
            self._searched = t
        self._confirm(t, found)
        self._add_new(frame, t, found, watch)
        self._drop(t)
        self._frames += 1
        self._last_t = t
        tracks = sorted(self._tracks, key=lambda track: (track.mesh is None, track.number))
        return Seen([_face(track, t) for track in tracks], watch.search.ms, watch.landmarks.ms)

    def _follow_size(self, shape: tuple[int, int], t: float) -> None:
        """A camera that changes size in the middle shows the same faces: scale what is known of them."""
        if self._shape and self._shape != shape:
            self._wide = None
            scale = np.array([shape[1] / self._shape[1], shape[0] / self._shape[0]], np.float32)
            for track in self._tracks:
                track.box = track.box * np.tile(scale, 2)
                track.filter.reset()
                if track.mesh is not None:
                    points = track.mesh.points * np.append(scale, scale.mean())
                    track.mesh = Mesh(points.astype(np.float32), track.mesh.presence, track.mesh.blur)
                    track.points = track.points * scale
        if self._shape != shape:
            self._began = t
            self._refuted.clear()
        self._shape = shape

    def _follow(self, frame: np.ndarray, t: float, watch: "_Watch") -> "list[_Track]":
        """Fit every drawn face where it was a moment ago; returns those that could not be fitted there."""
        missing = []
        for track in self._tracks:
            if track.mesh is not None:
                with watch.landmarks:
                    mesh = self._finders.follow(frame, track.mesh, _drift(track, t))
                if _plausible(mesh, track.mesh):
                    _take(track, mesh, t)
                else:
                    missing.append(track)
        return missing

    def _recover(
        self, frame: np.ndarray, t: float, found: list[Detection], missing: "list[_Track]", watch: "_Watch"
    ) -> "list[_Track]":
        """Fit missing faces where a search found them, or carry them there; returns those that are still missing."""
        lost = []
        for track in missing:
            match = _match(_moved_box(track, t), found)
            if match is None:
                lost.append(track)
                continue
            with watch.landmarks:
                mesh = self._finders.fit_detection(frame, match)
            if mesh.presence > PRESENT:
                _take(track, mesh, t)
            else:
                _carry(track, match, t)
        return lost

    def _confirm(self, t: float, found: list[Detection]) -> None:
        """Note which tracks the searches saw; a face that is only hidden moves to where it was found."""
        for track in self._tracks:
            match = _match(_moved_box(track, t), found)
            if match is not None and track.mesh is None:
                # What was found once and never fitted is believed again only when it is found as surely.
                if match.score >= SURE or track.proved:
                    _see(track, match, t)
            elif match is not None:
                track.last_found = t

    def _add_new(self, frame: np.ndarray, t: float, found: list[Detection], watch: "_Watch") -> None:
        """Detections that belong to no track become tracks; faces that could not be drawn so far get another try."""
        self._refuted = [(box, until) for box, until in self._refuted if t < until]
        for detection in found:
            known = [track for track in self._tracks if _belongs(_moved_box(track, t), detection)]
            track = known[0] if known else None
            if track and (track.mesh is not None or (self._frames + track.number) % RETRY_EVERY):
                continue
            room, smaller = self._room_for(detection)
            sure = detection.score >= SURE
            if not sure and any(_belongs(box, detection) for box, _ in self._refuted):
                continue
            mesh = None
            if room or track is None:
                with watch.landmarks:
                    mesh = self._finders.fit_detection(frame, detection)
            if track is None:
                if not sure and mesh.presence < CERTAIN:
                    self._refuted.append((detection.box, t + REFUTED_S))
                    continue
                track = _Track(self._next_number, detection.box, t, t, detection.score)
                track.proved = _fits(mesh, detection)
                self._next_number += 1
                self._tracks.append(track)
                _see(track, detection, t)
            if room and _fits(mesh, detection):
                _take(track, mesh, t)
                if smaller:
                    smaller.mesh = None
                    smaller.filter.reset()

    def _room_for(self, detection: Detection) -> "tuple[bool, _Track | None]":
        """Whether a face may be drawn, and the drawn face whose place it takes: it must be clearly larger."""
        drawn = [track for track in self._tracks if track.mesh is not None]
        if len(drawn) < self._max_faces:
            return True, None
        smallest = min(drawn, key=lambda track: _side(track.box))
        return (True, smallest) if _side(detection.box) > 1.5 * _side(smallest.box) else (False, None)

    def _drop(self, t: float) -> None:
        """Forget faces lost too long, meshes that no search confirms, and the younger of two tracks on one face."""
        kept: list[_Track] = []
        for track in sorted(self._tracks, key=lambda track: (t > track.last_seen, track.mesh is None, track.number)):
            limit = KEEP_S + FADE_S if track.mesh is not None else KEEP_S
            # A turned or dark face that no search finds, but that the mesh holds for certain, is still one.
            doubted = track.score < CERTAIN and t - track.last_found > UNSUPPORTED_S
            lost = t - track.last_seen > limit or doubted
            box = _moved_box(track, t)
            twin = any(overlap(box, _moved_box(other, t)) > TWINS for other in kept)
            if not lost and not twin:
                kept.append(track)
        self._tracks = kept


class Finders:
    """The three networks; several trackers may share them when they are called in turn. models: where they lie."""

    def __init__(
        self,
        near: BlazeFace | None = None,
        wide: "RetinaFace | BlazeFace | None" = None,
        models: Path = weights.FOLDER,
    ):
        self.near = near or BlazeFace(models=models)
        self.wide = wide or RetinaFace(models=models)
        self.fit = FaceMesh(models)

    def follow(self, frame: np.ndarray, before: Mesh, shift: np.ndarray) -> Mesh:
        """The mesh from the one of the frame before, moved by `shift` (2,) px."""
        (x, y), side = square(before.points)
        return self.fit(frame, five(before.points)[:2], (x + float(shift[0]), y + float(shift[1])), side)

    def fit_detection(self, frame: np.ndarray, detection: Detection) -> Mesh:
        """The mesh from a detection alone, for a face that has no previous frame."""
        left, top, right, bottom = (float(value) for value in detection.box)
        side = max(right - left, bottom - top) * 1.5
        return self.fit(frame, detection.points[:2], ((left + right) / 2, (top + bottom) / 2), side)


class _Watch:
    """Two stop watches for one update."""

    def __init__(self):
        self.search, self.landmarks = _Lap(), _Lap()


class _Lap:
    def __init__(self):
        self.ms = 0.0

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *_):
        self.ms += (time.perf_counter() - self._start) * 1000


def _fits(mesh: Mesh, detection: Detection) -> bool:
    """Whether a find is a face that may be drawn: a plant that looks like one has a mesh, but no certain one."""
    return mesh.presence > (PRESENT if detection.score >= CLEAR else CERTAIN)


def _see(track: _Track, detection: Detection, t: float) -> None:
    """A face known by its box alone was found again."""
    centres = detection.points.mean(axis=0, keepdims=True)
    track.filter(centres, t)
    track.box, track.points, track.score = detection.box, detection.points, detection.score
    track.last_seen = track.last_found = t


def _carry(track: _Track, detection: Detection, t: float) -> None:
    """A drawn face is found but cannot be fitted (a profile, a hand before it): its mesh goes where the face is."""
    before = five(track.mesh.points).mean(axis=0)
    scale = np.float32(np.clip(_side(detection.box) / max(_side(track.box), 1e-3), 0.8, 1.25))
    points = track.mesh.points * scale
    points[:, :2] += detection.points.mean(axis=0) - before * scale
    _take(track, Mesh(points, track.mesh.presence, track.mesh.blur), t)
    track.score = detection.score


def _take(track: _Track, mesh: Mesh, t: float) -> None:
    """A face was fitted."""
    points = five(mesh.points)
    if track.mesh is None or _jumped(track.points, points):
        track.filter.reset()
    track.mesh, track.points, track.proved = mesh, track.filter(points, t), True
    low, high = mesh.points[:, :2].min(axis=0), mesh.points[:, :2].max(axis=0)
    track.box = np.concatenate([low, high]).astype(np.float32)
    track.score, track.last_seen = mesh.presence, t


def _jumped(before: np.ndarray, now: np.ndarray) -> bool:
    eyes = float(np.linalg.norm(now[1] - now[0]))
    return float(np.linalg.norm(now.mean(axis=0) - before.mean(axis=0))) > JUMP * eyes


def _plausible(mesh: Mesh, before: Mesh) -> bool:
    """Whether a fit is a face, and one that the fit before can have become."""
    if mesh.presence <= PRESENT or not np.isfinite(mesh.points).all():
        return False
    growth = float(np.ptp(mesh.points[:, 1])) / max(float(np.ptp(before.points[:, 1])), 1e-3)
    return 1 / GROWTH < growth < GROWTH


def _drift(track: _Track, t: float) -> np.ndarray:
    """(2,) px: how far a face has moved since it was last seen, at its last speed, which dies away."""
    unseen = t - track.last_seen
    if unseen <= 0:
        return _NO_DRIFT
    return track.filter.velocity * np.float32(COAST_S * (1 - math.exp(-unseen / COAST_S)))


def _moved_box(track: _Track, t: float) -> np.ndarray:
    return track.box if t <= track.last_seen else track.box + np.tile(_drift(track, t), 2)


def _side(box: np.ndarray) -> float:
    return float(max(box[2] - box[0], box[3] - box[1]))


def _belongs(box: np.ndarray, detection: Detection) -> bool:
    """Overlapping, or its middle inside a box of about its size: search and mesh do not box a turned face alike."""
    if overlap(box, detection.box) > SAME:
        return True
    left, top, right, bottom = box.tolist()
    x, y = detection.points.mean(axis=0).tolist()
    inside = left < x < right and top < y < bottom
    return inside and 0.5 < _side(detection.box) / max(_side(box), 1e-3) < 2


def _match(box: np.ndarray, found: list[Detection]) -> Detection | None:
    near = [detection for detection in found if _belongs(box, detection)]
    return max(near, key=lambda detection: overlap(box, detection.box), default=None)


def _face(track: _Track, t: float) -> Face:
    shift = _drift(track, t)
    points = track.points + shift
    eyes = float(np.linalg.norm(points[1] - points[0]))
    fitted = track.mesh is not None
    return Face(
        box=track.box + np.tile(shift, 2),
        points=points,
        score=track.score,
        size=eyes * 2.2,
        track=track.number,
        landmarks=track.mesh.points[:, :2] + shift if fitted else np.zeros((0, 2), np.float32),
        pose=pose(track.mesh.points) if fitted else (0.0, 0.0, 0.0),
        blur=track.mesh.blur if fitted else 0.0,
        unseen_s=max(0.0, t - track.last_seen),
    )
