"""One frame in, the same frame with cartoons out: search, fit, crop, group, generate, tone, paste, background.

No network and no clock of its own: the same frames at the same times give the same pictures. What is
returned was searched for faces; a face that cannot be drawn is made unrecognisable instead.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from faces.align import CROP, crops
from faces.background import CAMERA, COLOUR, KINDS, Background, rgb_of
from faces.calm import Calm
from faces.face import Face
from faces.finders import Finders
from faces.finish import Finish
from faces.groups import AUTO, RULES, Router, Rule
from faces.looks import Looker
from faces.matte import Matte, Steady, on_white
from faces.paste import hide, outline, paste
from faces.public_crop import LIVETOON, Framing, framing
from faces.track import FADE_S, KEEP_S, Tracker
from livetoon.errors import DataError, UsageError

STAGES = ("search", "landmarks", "crop", "group", "generator", "tone", "paste", "background")
SMALLEST, LARGEST = 16, 8192  # px, sides of a frame
MOST_CHOICES = 100  # groups chosen for single faces; a picture never holds so many
_TRACK = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Settings:
    """What the person at the page may change between two frames.

    group: "auto" or a group's name; strength in [0, 1]: 0 shows the camera, 1 the cartoon; tone in [0, 1]: share of
    the person's own skin and hair colour; detail in [0, 1]: share of their own lines; background: behind the
    people, "camera", "plain" (of the colour background_colour, "#rrggbb") or "blur"; faces: {track: group or "auto"},
    for single faces instead of `group`, keys may be texts as JSON has them; style: one of `streamer.styles`, "" for the
    first. UsageError for anything else.

    >>> Settings(group="kids", strength=0.5).tone
    1.0
    """

    group: str = AUTO
    strength: float = 1.0
    tone: float = 1.0
    detail: float = 0.8
    background: str = CAMERA
    background_colour: str = COLOUR
    faces: Mapping[int, str] = field(default_factory=dict)
    style: str = ""

    def __post_init__(self):
        if not isinstance(self.group, str) or not self.group:
            raise UsageError(f"group must be a group's name or {AUTO!r}, got {self.group!r}")
        if not isinstance(self.style, str):
            raise UsageError(f"style must be the name of a style, got {self.style!r}")
        for name in ("strength", "tone", "detail"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UsageError(f"{name} must be a number from 0 to 1, got {value!r}")
        if self.background not in KINDS:
            raise UsageError(f"background must be one of {', '.join(KINDS)}, got {str(self.background)[:40]!r}")
        rgb_of(self.background_colour)
        object.__setattr__(self, "faces", _by_track(self.faces))

    def group_of(self, track: int) -> str:
        """The group that this face shall be drawn as, or "auto"."""
        return self.faces.get(track, self.group)


def _by_track(said: Any) -> dict[int, str]:
    """{"3": "kids"} -> {3: "kids"}; UsageError for anything else."""
    if isinstance(said, Mapping) and len(said) <= MOST_CHOICES:
        tracks = [int(track) if _TRACK.fullmatch(str(track)) else -1 for track in said]
        if min(tracks, default=0) >= 0 and all(isinstance(group, str) and group for group in said.values()):
            return dict(zip(tracks, said.values(), strict=True))
    raise UsageError(f'faces must name a group for each track, as {{"3": "kids"}}, got {str(said)[:40]!r}')


@dataclass(frozen=True)
class Result:
    """frame: (H, W, 3) uint8 RGB; faces: those drawn, oldest first, then those hidden; groups: by track number;
    stages_ms: milliseconds by stage, in the order of `STAGES`; by_hand: tracks whose group was chosen for them alone;
    notice: a sentence for the page, "" for none.
    """

    frame: np.ndarray
    faces: tuple[Face, ...]
    groups: dict[int, str]
    stages_ms: dict[str, float]
    by_hand: frozenset[int] = frozenset()
    notice: str = ""

    @property
    def tracks(self) -> list[dict[str, Any]]:
        """What a page may know of each face: `track`, `box` (left, top, right, bottom in shares of the frame, also
        beyond 0 and 1), `group` it is drawn as (None: hidden) and `by_hand`."""
        height, width = self.frame.shape[:2]
        sides = np.array([width, height, width, height])
        return [
            {
                "track": face.track,
                "box": (face.box / sides).round(4).tolist(),
                "group": self.groups.get(face.track),
                "by_hand": face.track in self.by_hand,
            }
            for face in self.faces
        ]


class Pipeline:
    """What one video needs: a tracker, a choice of group and the colours of each face.

    runners: one for each group, or a function that opens one (crops (N, S, S, 3) uint8 RGB -> (N, S, S, 4) uint8 RGBA,
    S = `size`); all are opened here, so that no frame waits for it. groups: the first is the basic one, which draws a
    face whose group is unknown. Faces beyond `max_faces` are hidden. finders, looker, matte: networks to share with
    another pipeline that is never used at the same time. white: the runners want a person before white and give no
    alpha, so both are made here. crop: how a face is framed, one of `faces.public_crop.FRAMINGS`. rules: who belongs to
    a group, by its name. own_lines: whether drawings lie on the photo line on line and may take the person's own.
    """

    def __init__(
        self,
        runners: Mapping[str, Any] | Callable[[str], Any],
        groups: Sequence[str],
        max_faces: int = 4,
        finders: Finders | None = None,
        looker: Callable | None = None,
        size: int = CROP,
        matte: Matte | None = None,
        white: bool = False,
        crop: str = LIVETOON,
        rules: Mapping[str, Rule] = RULES,
        own_lines: bool = True,
    ):
        if not groups or len(set(groups)) < len(groups):
            raise UsageError(f"expected group names that differ, got {list(groups)}")
        if max_faces < 1:
            raise UsageError(f"max_faces must be at least 1, got {max_faces}")
        framing(crop)
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
        self._calms: dict[int, Calm] = {}
        self._matte = matte or Matte()
        self._background = Background(self._matte)
        self._white = white
        self._alphas: dict[int, Steady] = {}
        self._crop, self._framings = crop, dict[int, Framing]()
        self._rules = rules
        self._own_lines = own_lines

    def reset(self) -> None:
        """Forget every face, as before a new video; everything stays open."""
        self._tracker.reset()
        self._routers.clear()
        self._finishes.clear()
        self._calms.clear()
        self._alphas.clear()
        self._framings.clear()
        self._background.reset()

    def process(self, frame: np.ndarray, t: float, settings: Settings | None = None) -> Result:
        """Draw every face of `frame` (H, W, 3) uint8 RGB, seen at `t` seconds (rising from call to call).

        The input is not changed. DataError for what is not such a picture, UsageError for a group that the model lacks.
        """
        settings = settings or Settings()
        self._check(frame, settings)
        seen = self._tracker.update(frame, t)
        clock = _Clock({"search": seen.search_ms, "landmarks": seen.landmarks_ms})
        shown = frame.copy()
        drawn = np.zeros(frame.shape[:2], np.uint8)
        for face in seen.faces:
            if not face.fitted:
                hide(shown, face.box, settings.strength, drawn)
        groups = {}
        clock.lap("paste")
        # Every crop is taken from the camera's frame, so that a face beside a drawn one is not drawn from paint.
        fitted = [face for face in seen.faces if face.fitted]
        matrices = [self._matrix(face, t) for face in fitted]
        pictures = crops(frame, matrices, self._size)
        clock.lap("crop")
        for face, matrix, picture in zip(fitted, matrices, pictures, strict=True):
            groups[face.track] = self._draw(picture, matrix, shown, drawn, face, t, settings, clock)
        self._forget(seen.remembered)
        if settings.background != CAMERA:
            shown = self._background(frame, shown, drawn, t, settings.background, settings.background_colour)
        clock.lap("background")
        by_hand = frozenset(settings.faces).intersection(groups)
        return Result(shown, tuple(seen.faces), groups, clock.stages, by_hand, self._notice())

    def __call__(self, frame: np.ndarray, t: float, settings: Settings) -> Result:
        """`process`, as the video track calls it."""
        return self.process(frame, t, settings)

    def _draw(
        self,
        picture: np.ndarray,
        matrix: np.ndarray,
        shown: np.ndarray,
        drawn: np.ndarray,
        face: Face,
        t: float,
        settings: Settings,
        clock: "_Clock",
    ) -> str:
        """Draw one face, whose crop is `picture`, into `shown`, and where it is into `drawn`; returns its group."""
        group = self._group(face, picture, t, settings.group_of(face.track))
        clock.lap("group")
        cartoon = self._cartoon(group, picture, face.track, t)
        clock.lap("generator")
        finish = self._finishes.setdefault(face.track, Finish())
        own = settings.detail if self._own_lines else 0.0
        cartoon = finish(cartoon, picture, face.landmarks, matrix, t, settings.tone, own)
        kind = group, settings.tone, own
        cartoon = self._calms.setdefault(face.track, Calm())(cartoon, picture, t, kind)
        clock.lap("tone")
        fade = 1 - min(1.0, max(0.0, (face.unseen_s - KEEP_S) / FADE_S))
        paste(shown, cartoon, matrix, outline(face.landmarks, matrix), settings.strength * fade, drawn)
        clock.lap("paste")
        return group

    def _notice(self) -> str:
        """What a runner has to say, see `streamer.fallback`."""
        return next((said for runner in self._runners.values() if (said := getattr(runner, "notice", ""))), "")

    def _matrix(self, face: Face, t: float) -> np.ndarray:
        """(2, 3) frame -> crop."""
        if face.track not in self._framings:
            self._framings[face.track] = framing(self._crop)
        return self._framings[face.track](face.points, face.landmarks, t, self._size)

    def _cartoon(self, group: str, picture: np.ndarray, track: int, t: float) -> np.ndarray:
        """(S, S, 3) uint8 RGB -> (S, S, 4) uint8 RGBA."""
        if not self._white:
            return self._runners[group](picture[None])[0]
        alpha = self._matte(picture, self._alphas.setdefault(track, Steady()), t)
        cartoon = self._runners[group](on_white(picture, alpha)[None])[0]
        cv2.mixChannels([alpha], [cartoon], [0, 3])
        return cartoon

    def _group(self, face: Face, picture: np.ndarray, t: float, wanted: str) -> str:
        router = self._routers.setdefault(face.track, Router(self.groups, self._rules))
        if wanted != AUTO:
            return wanted
        if face.unseen_s == 0 and router.wants_look(t, face.pose[0], face.blur):
            router.add(self._looker(picture), t)
        return router.group

    def _forget(self, known: frozenset[int]) -> None:
        for memory in (self._routers, self._finishes, self._calms, self._alphas, self._framings):
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
        for group in (settings.group, *settings.faces.values()):
            if group not in (AUTO, *self.groups):
                raise UsageError(f"group {group!r} is not in this model; it has {', '.join(self.groups)}")


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
