"""What a headless browser saw of livetoon: which camera frame came back when, and whether a raw face ever did."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks import clips
from benchmarks.browser import Page
from benchmarks.clips import Person
from faces.detect import RetinaFace

# Grey levels. A raw face that went through two video encoders differs by 1 to 4 from its source, a drawn one by 10 and
# more even where the skin has the person's own tone.
RAW_BELOW = 6.0


@dataclass(frozen=True)
class Seen:
    """Everything of one run; times in ms of the page's clock.

    camera, shown: (N, 2) float64, time and number of frames on the screen. decoded: (N, 2 + people) float64, time,
    number and the difference of each face from the raw one; number and differences are NaN where the number could not
    be read. statistics: time and message of the server's reports. sizes: of the frames that came back.
    """

    clicked: float
    first_shown: float
    camera: np.ndarray
    shown: np.ndarray
    decoded: np.ndarray
    statistics: list[tuple[float, dict[str, Any]]]
    sizes: set[str]
    frames_decoded: int

    @classmethod
    async def of(cls, page: Page) -> Self:
        """Fetch from the page what measure.js gathered so far."""
        got = await page.run("({...livetoonMeasured, sizes: [...livetoonMeasured.sizes]})")
        decoded = await page.run(
            "livetoonPeer.getStats().then((all) => [...all.values()]"
            ".find(({type, kind}) => type === 'inbound-rtp' && kind === 'video')?.framesDecoded ?? 0)"
        )
        return cls(
            clicked=got["clicked"],
            first_shown=got["firstShown"],
            camera=_table(got["camera"], 2),
            shown=_table(got["shown"], 2),
            decoded=_table(got["decoded"], 3),
            statistics=[(when, message) for when, message in got["statistics"]],
            sizes=set(got["sizes"]),
            frames_decoded=decoded,
        )

    def delays(self) -> np.ndarray:
        """(N, 2) float64: when a cartoon was shown, and its delay in ms behind the same frame of the camera.

        The camera's clip begins again at its end: a number belongs to its latest appearance before the cartoon's,
        and to none when that is half a clip ago, because then the camera's own view was late for this round.
        """
        camera, shown = _first_seen(self.camera), _first_seen(self.shown)
        numbers = [number for _, number in camera]
        again = any(later < earlier for earlier, later in pairwise(numbers))
        longest = max(numbers) / clips.FPS * 1000 / 2 if again else np.inf
        when_taken: dict[float, list[float]] = {}
        for when, number in camera:
            when_taken.setdefault(number, []).append(when)
        found = []
        for when, number in shown:
            taken = max((one for one in when_taken.get(number, ()) if one <= when), default=None)
            if taken is not None and when - taken <= longest:
                found.append((when, when - taken))
        return np.array(found, np.float64).reshape(-1, 2)

    def raw_frames(self) -> int:
        """Decoded frames in which at least one face was as the camera gave it; see `unreadable_frames`."""
        return int((self.decoded[:, 2:] < RAW_BELOW).any(axis=1).sum())

    def unreadable_frames(self) -> int:
        """Decoded frames whose number could not be read, so that their faces were compared with nothing."""
        return int(np.isnan(self.decoded[:, 1]).sum())


def script(shown: Sequence[Person], width: int, height: int) -> str:
    """measure.js with what it needs of the clip: where each face is in each frame, and how it looks raw."""
    find = RetinaFace()
    alone = [_reference(find, shown, place, width, height) for place in range(len(shown))]
    reference = {
        "width": width,
        "bits": clips.BITS,
        "checkBits": clips.CHECK_BITS,
        "columns": clips.COLUMNS,
        "blocksAcross": clips.BLOCKS_ACROSS,
        "grid": clips.GRID,
        "people": alone,
    }
    return f"const reference = {json.dumps(reference)};\n" + Path(__file__).with_suffix(".js").read_text()


def _reference(find: RetinaFace, shown: Sequence[Person], place: int, width: int, height: int) -> dict[str, Any]:
    count = len(shown[place].frames)
    left, right = (round(width * column / len(shown)) for column in (place, place + 1))
    boxes, grids = [], []
    for _, frame in zip(range(count), clips.compose([shown[place]], right - left, height), strict=False):
        found = find(frame)
        box = clips.middle_of(found[0].box, frame.shape[1], height) if found else boxes[-1]
        boxes.append(box)
        grids.append(clips.grey_grid(frame, box).round(1).ravel().tolist())
    shift = np.array([left, 0, left, 0])
    return {"boxes": [(box + shift).tolist() for box in boxes], "grids": grids}


def _table(rows: list[list[float | None]], columns: int) -> np.ndarray:
    return np.array(rows, np.float64).reshape(len(rows), -1) if rows else np.empty((0, columns))


def _first_seen(table: np.ndarray) -> list[tuple[float, float]]:
    """Time and number of each frame as it came onto the screen; what stays there is not counted again."""
    readable = table[~np.isnan(table[:, 1]), :2]
    fresh = np.diff(readable[:, 1], prepend=np.nan) != 0
    return [(float(when), float(number)) for when, number in readable[fresh]]
