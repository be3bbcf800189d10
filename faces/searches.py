"""Which search looks at what, and when: the near one at every frame, the wide one where it is time.

The wide search begins in one frame and is read in the next, so that no frame waits for it. Where something moved
beside the known faces it comes soon, else now and then; in between it looks at one half of the picture after the
other, where it finds smaller faces.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from faces.changes import Changes
from faces.detect import Detection, Search, belongs, merged, overlap
from faces.finders import Finders
from faces.tracks import Track

WIDE_EVERY_S = 0.15  # where something moves: a small or turned face that comes is unseen for this long at most
QUIET_S = 0.6  # where nothing moved: for a face that was there and not found
HALF_EVERY_S = 1.2  # a half, for faces that the search of the whole does not see


class Searches:
    """The searches of one video. For each frame: `begin`, `found`, and then `wide_now` or `wide_later`."""

    def __init__(self, finders: Finders):
        self._finders = finders
        self.restart()

    def restart(self) -> None:
        """The next frame is of another picture."""
        self._changes = Changes()
        self._near: Search | None = None
        self._late: tuple[Search, list[tuple[Track, np.ndarray]]] | None = None  # begun, and where the faces were
        self._wide_at = self._half_at = -math.inf
        self._second = False  # which half comes next

    def begin(self, frame: np.ndarray) -> None:
        """Begin the near search of a frame."""
        self._near = self._finders.near.start(frame)

    def found(self, t: float) -> list[Detection]:
        """What the near search found in this frame, and the wide one in the frame before: each face once."""
        return merged(self._near.found(), self._caught_up(t))

    def wide_now(self, frame: np.ndarray, t: float, halves: int) -> list[Detection]:
        """Search all of a frame widely, and one of its halves or two."""
        found = self._finders.wide(frame)
        for _ in range(halves):
            found = merged(found, self._half(frame).found())
        self._wide_at = self._half_at = t
        self._changes.note(frame)
        return found

    def wide_later(self, frame: np.ndarray, t: float, tracks: Sequence[Track]) -> None:
        """Begin a wide search for the next frame, when it is time for one."""
        places = [(track, track.moved_box(t)) for track in tracks]
        since = t - self._wide_at
        if since >= QUIET_S or (since >= WIDE_EVERY_S and self._is_soon(frame, places)):
            self._late = self._finders.wide.start(frame), places
            self._wide_at = t
            self._changes.note(frame)
        elif t - self._half_at >= HALF_EVERY_S:
            self._late = self._half(frame), places
            self._half_at = t

    def _is_soon(self, frame: np.ndarray, places: Sequence[tuple[Track, np.ndarray]]) -> bool:
        """Whether something moved, or somebody is hidden: where that face is, only a search knows."""
        hidden = any(track.mesh is None for track, _ in places)
        return hidden or self._changes.found(frame, [box for _, box in places])

    def _half(self, frame: np.ndarray) -> Search:
        self._second = not self._second
        return self._finders.search_half(frame, self._second)

    def _caught_up(self, t: float) -> list[Detection]:
        """What the wide search found in the frame before, each where the face that was there has gone since."""
        if self._late is None:
            return []
        (search, places), self._late = self._late, None
        moved = []
        for find in search.found():
            same = [(overlap(box, find.box), track, box) for track, box in places if belongs(box, find)]
            if same:
                _, track, box = max(same, key=lambda match: match[0])
                shift = (track.moved_box(t) - box).reshape(2, 2).mean(axis=0)
                find = replace(find, box=find.box + np.tile(shift, 2), points=find.points + shift)
            moved.append(find)
        return moved
