"""One frame in, the same frame with cartoons out: search, fit, crop, group, generate, tone, paste.

No network and no clock of its own: the same frames at the same times give the same pictures. What is
returned was searched for faces; a face that cannot be drawn is made unrecognisable instead.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from faces.align import CROP, align_matrix, crop
from faces.face import Face
from faces.finish import Finish
from faces.groups import AUTO, Looker, Router
from faces.paste import hide, outline, paste
from faces.track import FADE_S, KEEP_S, Finders, Tracker
from livetoon.errors import DataError, UsageError

STAGES = ("search", "landmarks", "crop", "group", "generator", "tone", "paste")
SMALLEST, LARGEST = 16, 8192  # px, sides of a frame


@dataclass(frozen=True)
class Settings:
    """What the person at the page may change between two frames.

    group: "auto" or a group's name; strength in [0, 1]: 0 shows the camera, 1 the cartoon; tone in [0, 1]: share of
    the person's own skin and hair colour. UsageError for anything else.

    >>> Settings(group="kids", strength=0.5).tone
    0.7
    """

    group: str = AUTO
    strength: float = 1.0
    tone: float = 0.7

    def __post_init__(self):
        if not isinstance(self.group, str) or not self.group:
            raise UsageError(f"group must be a group's name or {AUTO!r}, got {self.group!r}")
        for name in ("strength", "tone"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UsageError(f"{name} must be a number from 0 to 1, got {value!r}")


@dataclass(frozen=True)
class Result:
    """frame: (H, W, 3) uint8 RGB; faces: those drawn, oldest first, then those hidden; groups: by track number;
    stages_ms: milliseconds by stage, in the order of `STAGES`."""

    frame: np.ndarray
    faces: tuple[Face, ...]
    groups: dict[int, str]
    stages_ms: dict[str, float]


class Pipeline:
    """What one video needs: a tracker, a choice of group and the colours of each face.

    runners: one for each group, or a function that opens one (crops (N, S, S, 3) uint8 RGB -> (N, S, S, 4) uint8 RGBA,
    S = `size`); all are opened here, so that no frame waits for it. groups: the first is the basic one, which draws a
    face whose group is unknown. Faces beyond `max_faces` are hidden. finders, looker: networks to share with another
    pipeline that is never used at the same time.
    """

    def __init__(
        self,
        runners: Mapping[str, Any] | Callable[[str], Any],
        groups: Sequence[str],
        max_faces: int = 4,
        finders: Finders | None = None,
        looker: Callable | None = None,
        size: int = CROP,
    ):
        if not groups or len(set(groups)) < len(groups):
            raise UsageError(f"expected group names that differ, got {list(groups)}")
        if max_faces < 1:
            raise UsageError(f"max_faces must be at least 1, got {max_faces}")
        # A face is too small to share out: beside a busy browser, waiting for OpenCV's second thread took the paste
        # from 5.8 to 7.7 ms and its p95 from 12 to 20.
        cv2.setNumThreads(1)
        self.groups = tuple(groups)
        self._size = size
        self._runners = {group: runners(group) if callable(runners) else runners[group] for group in self.groups}
        self._tracker = Tracker(max_faces, finders)
        self._looker = looker or Looker()
        self._routers: dict[int, Router] = {}
        self._finishes: dict[int, Finish] = {}

    def reset(self) -> None:
        """Forget every face, as before a new video; everything stays open."""
        self._tracker.reset()
        self._routers.clear()
        self._finishes.clear()

    def process(self, frame: np.ndarray, t: float, settings: Settings | None = None) -> Result:
        """Draw every face of `frame` (H, W, 3) uint8 RGB, seen at `t` seconds (rising from call to call).

        The input is not changed. DataError for what is not such a picture, UsageError for a group that the model lacks.
        """
        settings = settings or Settings()
        self._check(frame, settings)
        seen = self._tracker.update(frame, t)
        clock = _Clock({"search": seen.search_ms, "landmarks": seen.landmarks_ms})
        shown = frame.copy()
        for face in seen.faces:
            if not face.fitted:
                hide(shown, face.box, settings.strength)
        groups = {}
        clock.lap("paste")
        # Every crop is taken from the camera's frame, so that a face beside a drawn one is not drawn from paint.
        for face in seen.faces:
            if face.fitted:
                groups[face.track] = self._draw(frame, shown, face, t, settings, clock)
        self._forget(seen.faces)
        return Result(shown, tuple(seen.faces), groups, clock.stages)

    def __call__(self, frame: np.ndarray, t: float, settings: Settings) -> Result:
        """`process`, as the video track calls it."""
        return self.process(frame, t, settings)

    def _draw(
        self, frame: np.ndarray, shown: np.ndarray, face: Face, t: float, settings: Settings, clock: "_Clock"
    ) -> str:
        """Draw one face of `frame` into `shown`; returns the group it was drawn as."""
        matrix = align_matrix(face.points, self._size)
        picture = crop(frame, matrix, self._size)
        clock.lap("crop")
        group = self._group(face, picture, t, settings.group)
        clock.lap("group")
        cartoon = self._runners[group](picture[None])[0]
        clock.lap("generator")
        finish = self._finishes.setdefault(face.track, Finish())
        cartoon = finish(cartoon, picture, face.landmarks, matrix, t, settings.tone)
        clock.lap("tone")
        fade = 1 - min(1.0, max(0.0, (face.unseen_s - KEEP_S) / FADE_S))
        paste(shown, cartoon, matrix, outline(face.landmarks, matrix), settings.strength * fade)
        clock.lap("paste")
        return group

    def _group(self, face: Face, picture: np.ndarray, t: float, wanted: str) -> str:
        router = self._routers.setdefault(face.track, Router(self.groups))
        if wanted != AUTO:
            return wanted
        if face.unseen_s == 0 and router.wants_look(t, face.pose[0], face.blur):
            router.add(self._looker(picture), t)
        return router.group

    def _forget(self, faces: Sequence[Face]) -> None:
        known = {face.track for face in faces}
        for memory in (self._routers, self._finishes):
            for track in [track for track in memory if track not in known]:
                del memory[track]

    def _check(self, frame: np.ndarray, settings: Settings) -> None:
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            came = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise DataError(f"expected a frame (H, W, 3) uint8 RGB, got {came}; convert grey or RGBA pictures first")
        if not all(SMALLEST <= side <= LARGEST for side in frame.shape[:2]):
            raise DataError(
                f"expected a frame of {SMALLEST} to {LARGEST} px a side, got {frame.shape[1]}x{frame.shape[0]}"
            )
        if settings.group not in (AUTO, *self.groups):
            raise UsageError(f"group {settings.group!r} is not in this model; it has {', '.join(self.groups)}")


class _Clock:
    """Milliseconds by stage, from lap to lap."""

    def __init__(self, before: dict[str, float]):
        self.stages = {stage: before.get(stage, 0.0) for stage in STAGES}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last lap belongs to `stage`."""
        now = time.perf_counter()
        self.stages[stage] += (now - self._last) * 1000
        self._last = now
