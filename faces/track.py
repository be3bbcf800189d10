"""Follows faces from frame to frame, and never forgets one it has just seen.

Each frame is searched by the cheap detector before anything of it is shown, while the faces known so far are fitted
(468 points) in the squares where they were a moment ago. The wide search is read a frame later (searches.py); it is
waited for in the first second of a picture, while nobody is there, when a face is missing, and where frames come
slowly. A face that cannot be fitted, or is one too many to draw, is still reported so that the caller hides it. Where
two fits come to lie on one face, it belongs to the track that was on its way there; the other waits behind it
(identity.py).
"""

import math
import time
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from faces import identity
from faces.detect import Detection, belongs, longer_side, merged, overlap
from faces.face import Face
from faces.finders import Finders
from faces.landmarks import Mesh
from faces.searches import Searches
from faces.tracks import Track
from livetoon.errors import DataError

MAX_FACES = 8  # drawn; more are found and reported to be hidden
SLOW_S = 0.09  # between frames: from here on a result of the frame before comes too late
EARLY_S = 1.0  # in which every frame is searched widely: a camera's first pictures are dark, a video's first blurred
# Of 428 faces found in noisy rooms the mesh is present (over 0.5) in all but one of those with a score over 0.8 and
# in five of six of the others; 90 of 91 false finds score under 0.73, and no mesh on them is present over 0.97.
SURE = 0.8  # score from which a find is a face even if no mesh fits: it is hidden
CLEAR = 0.9  # score from which a mesh that is present at all is drawn; below, it must be certain
PRESENT = 0.5  # presence of the mesh below which the face counts as not fitted
CERTAIN = 0.98  # presence without which a find that is not sure is no face
RETRY_S = 0.1  # between attempts to fit a face that is hidden
REFUTED_S = 0.5  # a place where an unsure find turned out to be no face is not asked about again for this long
KEEP_S = 0.5  # a lost face stays covered: about the time a head needs to turn away and back
FADE_S = 0.25  # and then its cover fades
REMEMBER_S = 1.0  # so long its number waits for it: ten frames of a slow camera
HIDDEN_S = 3.0  # so long that of a face behind another one
UNSUPPORTED_S = 1.5  # a mesh, not a certain one, that no search confirms for this long has settled on something else
TWINS = 0.55  # overlap of two tracks' boxes from which they follow one face
REFITS, SLIP = 3, 0.08  # a fit whose overlap with another face has grown by this after so many more slips over to it
COVERED = 0.4  # overlap with the face before it from which a hidden face is not fitted: the fit would slip over
GROWTH = 1.7  # a face does not grow or shrink by more between two frames

_NOWHERE = np.zeros(2, np.float32)


@dataclass(frozen=True)
class Seen:
    """What `Tracker.update` found. faces: fitted ones first, those lost a moment ago before those that are seen (which
    are to be drawn over them), the oldest track first; search_ms, landmarks_ms: its times; remembered: the numbers of
    these faces and of those that may still come back."""

    faces: list[Face]
    search_ms: float
    landmarks_ms: float
    remembered: frozenset[int] = frozenset()


class Tracker:
    """Owns the tracks of one video; one call at a time.

    >>> import numpy
    >>> Tracker().update(numpy.zeros((120, 160, 3), numpy.uint8), 0.0).faces
    []
    """

    def __init__(self, max_faces: int = MAX_FACES, finders: Finders | None = None):
        self._max_faces = max_faces
        self._finders = finders or Finders()
        self._searches = Searches(self._finders)
        self.reset()

    def reset(self) -> None:
        """Forget every face, as for a new video; the networks stay open."""
        self._tracks: list[Track] = []
        self._gone: list[Track] = []  # not reported any more, but they may come back
        self._next_number = 0
        self._frames = 0
        self._last_t = self._began = 0.0
        self._searches.restart()
        self._shape: tuple[int, int] | None = None
        self._refuted: list[tuple[np.ndarray, float]] = []

    def update(self, frame: np.ndarray, t: float) -> Seen:
        """frame: (H, W, 3) uint8 RGB at `t` seconds -> every face in it, and those lost a moment ago.

        DataError for what is not such a picture.
        """
        _check(frame)
        watch = _Watch()
        self._follow_size(frame.shape[:2], t)
        with watch.search:
            self._searches.begin(frame)
        fits, missing = self._follow(frame, t, watch)
        missing += self._settle(frame, t, fits)
        with watch.search:
            found = self._searches.found(t)
        given = self._given(t, found)
        missing = self._recover(frame, t, given, missing, watch)
        # While nobody is there no generator runs either, so all searches look at every frame. A face lost in this very
        # frame is looked for at once, one lost before in every second frame.
        early = t - self._began < EARLY_S or not self._tracks or t - self._last_t > SLOW_S
        if early or any(track.last_seen == self._last_t or self._frames % 2 for track in missing):
            with watch.search:
                halves = 2 if t == self._began else int(early)
                found = merged(found, self._searches.wide_now(frame, t, halves))
            given = self._given(t, found)
            self._recover(frame, t, given, missing, watch)
        else:
            with watch.search:
                self._searches.wide_later(frame, t, self._tracks)
        self._confirm(t, given)
        self._add_new(frame, t, found, given, watch)
        self._drop(t)
        identity.note(frame, self._tracks, t)
        self._frames += 1
        self._last_t = t
        tracks = sorted(self._tracks, key=lambda track: (track.mesh is None, track.last_seen == t, track.number))
        remembered = frozenset(track.number for track in (*self._tracks, *self._gone))
        return Seen([track.face(t) for track in tracks], watch.search.ms, watch.landmarks.ms, remembered)

    def _follow_size(self, shape: tuple[int, int], t: float) -> None:
        """A camera that changes size in the middle shows the same faces: scale what is known of them."""
        if self._shape and self._shape != shape:
            self._gone.clear()
            scale = np.array([shape[1] / self._shape[1], shape[0] / self._shape[0]], np.float32)
            for track in self._tracks:
                track.scale(scale)
        if self._shape != shape:
            self._began = t
            self._searches.restart()
            self._refuted.clear()
        self._shape = shape

    def _follow(self, frame: np.ndarray, t: float, watch: "_Watch") -> tuple[list[tuple[Track, Mesh]], list[Track]]:
        """Fit every drawn face where it was a moment ago: the fits, and the faces that could not be fitted there."""
        fits, missing = [], []
        for track in self._tracks:
            if track.mesh is None:
                continue
            mesh = None
            if not self._is_covered(track, t):
                with watch.landmarks:
                    mesh = self._finders.follow(frame, track.mesh, track.drift(t))
            if mesh and _plausible(mesh, track.mesh) and self._is_own(track, mesh, frame):
                fits.append((track, mesh))
            else:
                missing.append(track)
        return fits, missing

    def _before(self, track: Track) -> Track | None:
        """The face that hides `track`, or did a moment ago."""
        return next((other for other in self._tracks if other.number == track.behind), None)

    def _is_covered(self, track: Track, t: float) -> bool:
        before = self._before(track)
        return before is not None and overlap(track.moved_box(t), before.box) > COVERED

    def _is_own(self, track: Track, mesh: Mesh, frame: np.ndarray) -> bool:
        """Whether a fit is the track's own face and not a part of the one before it."""
        before = self._before(track)
        if before is None or overlap(mesh.box, before.box) < identity.CROWDED:
            return True
        return identity.is_like(track, before, identity.Sight.of_mesh(mesh, frame))

    def _settle(self, frame: np.ndarray, t: float, fits: list[tuple[Track, Mesh]]) -> list[Track]:
        """Give every fit to its track, and one that two tracks have made to the one whose face it is; the losers."""
        losers: list[Track] = []
        for one, other in combinations(fits, 2):
            if one[0] in losers or other[0] in losers or overlap(one[1].box, other[1].box) <= TWINS:
                continue
            sights = [identity.Sight.of_mesh(mesh, frame) for _, mesh in (one, other)]
            keeper = identity.owner(one[0], other[0], *sights, t, self._last_t)
            loser = other[0] if keeper is one[0] else one[0]
            loser.behind = keeper.number
            losers.append(loser)
        for track, mesh in fits:
            if track not in losers:
                track.take(mesh, t)
        # One that never had a face to itself is the same face found twice.
        self._tracks = [track for track in self._tracks if track not in losers or track.course]
        return [track for track in losers if track.course]

    def _given(self, t: float, found: list[Detection]) -> dict[int, Detection]:
        """Track number -> its find. One each: faces fitted in this frame choose first, then those that fit best."""
        pairs = []
        for track in self._tracks:
            box = track.moved_box(t)
            pairs += [
                (track.last_seen < t, -overlap(box, detection.box), track.number, index)
                for index, detection in enumerate(found)
                if belongs(box, detection)
            ]
        given: dict[int, int] = {}
        for _, _, number, index in sorted(pairs):
            if number not in given and index not in given.values():
                given[number] = index
        return {number: found[index] for number, index in given.items()}

    def _recover(
        self, frame: np.ndarray, t: float, given: dict[int, Detection], missing: list[Track], watch: "_Watch"
    ) -> list[Track]:
        """Fit missing faces where a search found them, or carry them there; returns those that are still missing."""
        lost = []
        for track in missing:
            detection = given.get(track.number)
            if detection is None or self._overlap(detection.box, t) > COVERED:
                lost.append(track)
                continue
            with watch.landmarks:
                mesh = self._finders.fit_detection(frame, detection)
            here = mesh.presence > PRESENT and _is_sound(mesh) and self._overlap(mesh.box, t) <= TWINS
            if here and self._is_own(track, mesh, frame):
                track.take(mesh, t)
            else:
                track.carry(detection, t)
        return lost

    def _overlap(self, box: np.ndarray, t: float) -> float:
        """How much a fit or find lies on another face that was fitted in this frame; a fit over TWINS has slipped."""
        fitted = [track for track in self._tracks if track.mesh is not None and track.last_seen == t]
        return max((overlap(box, track.box) for track in fitted), default=0.0)

    def _confirm(self, t: float, given: dict[int, Detection]) -> None:
        """Note which tracks the searches saw; a face that is only hidden moves to where it was found."""
        for track in self._tracks:
            detection = given.get(track.number)
            if detection is None:
                continue
            if track.mesh is not None:
                track.last_found = t
            # What was found once and never fitted is believed again only when it is found as surely.
            elif detection.score >= SURE or track.proved:
                track.see(detection, t)

    def _add_new(
        self, frame: np.ndarray, t: float, found: list[Detection], given: dict[int, Detection], watch: "_Watch"
    ) -> None:
        """Finds that are no track's become tracks; faces that could not be drawn so far get another try."""
        self._refuted = [(box, until) for box, until in self._refuted if t < until]
        owners = {id(detection): number for number, detection in given.items()}
        tracks = {track.number: track for track in self._tracks}
        for detection in found:
            track = tracks.get(owners.get(id(detection)))
            if track is None:
                self._add(frame, t, detection, watch)
            elif track.mesh is None and t - track.tried >= RETRY_S and self._has_room(detection):
                track.tried = t
                if mesh := self._proof(frame, t, detection, watch):
                    self._draw(t, track, detection, mesh)

    def _add(self, frame: np.ndarray, t: float, detection: Detection, watch: "_Watch") -> None:
        """A find that is no track's: a face that was lost, a new one, or no face at all."""
        # Two finds on one known face may be two faces, but the second must be proved by a fit of its own.
        doubtful = detection.score < SURE or any(belongs(other.moved_box(t), detection) for other in self._tracks)
        if doubtful and any(belongs(box, detection) for box, _ in self._refuted):
            return
        mesh = self._proof(frame, t, detection, watch)
        if doubtful and mesh is None:
            self._refuted.append((detection.box, t + REFUTED_S))
            return
        track = self._known_again(frame, t, detection, mesh) or self._begun(t, detection, mesh is not None)
        if track.mesh is None and mesh:
            self._draw(t, track, detection, mesh)
        elif track.mesh is not None:
            track.take(mesh, t) if mesh else track.carry(detection, t)
            track.last_found = t

    def _proof(self, frame: np.ndarray, t: float, detection: Detection, watch: "_Watch") -> Mesh | None:
        """The mesh of a find that no track has, or None when it is no face that may be drawn."""
        with watch.landmarks:
            mesh = self._finders.fit_detection(frame, detection)
            onto = self._overlap(mesh.box, t)
            if _fits(mesh, detection) and onto > 0:
                # It may be on its way over to a known face: a few more fits tell.
                for _ in range(REFITS):
                    mesh = self._finders.follow(frame, mesh, _NOWHERE)
        after = self._overlap(mesh.box, t)
        return mesh if _fits(mesh, detection) and after <= min(TWINS, onto + SLIP) else None

    def _begun(self, t: float, detection: Detection, proved: bool) -> Track:
        """A new track, hidden so far."""
        track = Track(self._next_number, detection.box, t, t, detection.score, proved=proved, tried=t)
        track.see(detection, t)
        self._next_number += 1
        self._tracks.append(track)
        return track

    def _known_again(self, frame: np.ndarray, t: float, detection: Detection, mesh: Mesh | None) -> Track | None:
        """The lost face that a find is; mesh: None when nothing could be fitted to it."""
        lost = [track for track in self._tracks if track.mesh is not None and track.last_seen < t] + self._gone
        if not lost:
            return None
        seen = identity.Sight.of_find(detection) if mesh is None else identity.Sight.of_mesh(mesh, frame)
        others = {track.number: track for track in self._tracks}
        track = identity.known_again(lost, seen, t, others)
        if track in self._gone:
            self._gone.remove(track)
            self._tracks.append(track)
            track.see(detection, t)
        return track

    def _draw(self, t: float, track: Track, detection: Detection, mesh: Mesh) -> None:
        """Draw a face that was only hidden, if there is room: a clearly larger one takes the place of the smallest."""
        if not self._has_room(detection):
            return
        drawn = self._drawn()
        if len(drawn) >= self._max_faces:
            min(drawn, key=lambda other: longer_side(other.box)).hide()
        track.take(mesh, t)

    def _has_room(self, detection: Detection) -> bool:
        drawn = self._drawn()
        smallest = min((longer_side(other.box) for other in drawn), default=0.0)
        return len(drawn) < self._max_faces or longer_side(detection.box) > 1.5 * smallest

    def _drawn(self) -> list[Track]:
        return [track for track in self._tracks if track.mesh is not None]

    def _drop(self, t: float) -> None:
        """Forget faces lost too long, meshes that no search confirms, and the younger of two tracks on one face."""
        kept: list[Track] = []
        for track in sorted(self._tracks, key=lambda track: (t > track.last_seen, track.mesh is None, track.number)):
            drawn, lost = track.mesh is not None, t > track.last_seen
            # A turned or dark face that no search finds, but that the mesh holds for certain, is still one.
            doubted = track.score < CERTAIN and t - track.last_found > UNSUPPORTED_S
            over = t - track.last_seen > (KEEP_S + FADE_S if drawn else KEEP_S)
            box = track.moved_box(t)
            behind = drawn and (lost or track.course)  # a face that waits behind another one is not its twin
            twin = not behind and any(overlap(box, other.moved_box(t)) > TWINS for other in kept)
            if drawn and over and not doubted:
                track.hide()
                self._gone.append(track)
            elif not (over or doubted or twin):
                kept.append(track)
        self._tracks = kept
        self._gone = [track for track in self._gone if t - track.last_seen <= _remembered_s(track)]


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


def _check(frame: np.ndarray) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        came = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise DataError(f"expected a frame (H, W, 3) uint8 RGB, got {came}; convert grey or RGBA pictures first")


def _remembered_s(track: Track) -> float:
    return REMEMBER_S if track.behind is None else HIDDEN_S


def _fits(mesh: Mesh, detection: Detection) -> bool:
    """Whether a find is a face that may be drawn: a plant that looks like one has a mesh, but no certain one."""
    return _is_sound(mesh) and mesh.presence > (PRESENT if detection.score >= CLEAR else CERTAIN)


def _plausible(mesh: Mesh, before: Mesh) -> bool:
    """Whether a fit is a face, and one that the fit before can have become."""
    if mesh.presence <= PRESENT or not _is_sound(mesh):
        return False
    growth = _height(mesh) / max(_height(before), 1e-3)
    return 1 / GROWTH < growth < GROWTH


def _is_sound(mesh: Mesh) -> bool:
    """Whether the points are numbers and lie apart."""
    return math.isfinite(sum(mesh.box.tolist())) and _height(mesh) > 1


def _height(mesh: Mesh) -> float:
    return float(mesh.box[3] - mesh.box[1])
