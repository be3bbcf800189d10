"""How steady the output of the whole live pipeline is: before a still face with sensor noise, and on real clips.

still    the mean change of successive outputs inside the face, in grey levels, and as a multiple of the input's own
clips    the same after the frame before is warped by the optical flow of the input, around the head

A generator that is run picture by picture redraws the noise of its input: lines boil although nobody moves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks import faces_stability
from benchmarks.quality_figures import AT_MOST, UNDER, Figure
from benchmarks.quality_people import Model, Photo
from faces.face import Face
from faces.landmarks import OVAL
from faces.regions import fill, grown
from streamer.pipeline import Pipeline

SETTLE = 15  # frames of the still scene that are not counted: colours and the group are found in them
HEAD = (1.3, 1.7, 1.1)  # the face's outline grown sideways, upwards, downwards: hair and ears
GREY, TIMES, WARPED_TIMES = 1.0, 1.5, 1.3  # bars
FRAMES = 150  # of a clip and of the still scene: five seconds; their beginning holds every kind of motion
STRIP = 10  # moments of a clip that its strip shows
THUMB_PX = 144


@dataclass
class Change:
    """Sums over frames: how much the output and the input changed."""

    output: float = 0.0
    source: float = 0.0
    frames: int = 0
    drawn: int = 0
    strip: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, output: float, source: float) -> None:
        self.output, self.source, self.frames = self.output + output, self.source + source, self.frames + 1

    @property
    def grey_levels(self) -> float:
        return self.output / max(1, self.frames)

    @property
    def times(self) -> float:
        """Change of the output as a multiple of the input's."""
        return self.output / self.source if self.source else float("nan")


def still(model: Model, frames: int | None = None) -> Change:
    """The astronaut standing still before a camera with noise of sd 5 and JPEG quality 80."""
    scene = ((moved.frame, moved.t) for moved in faces_stability.still_scene())
    return changes(model, scene if frames is None else islice(scene, SETTLE + frames), _unwarped, settle=SETTLE)


def clip(model: Model, path: Path, frames: int | None = None) -> Change:
    """A clip's warped change, and thumbnails of its moments."""
    return changes(model, islice(faces_stability.frames_of(path), frames), warped, strip=True)


def changes(model: Model, scene: Iterable[tuple[np.ndarray, float]], compare, settle=0, strip=False) -> Change:
    """scene: frames (H, W, 3) uint8 RGB with their seconds; compare: (frames before and now, face) -> two changes."""
    live, found = Pipeline(model.runner, model.groups, own_lines=model.own_lines), Change()
    before: tuple[np.ndarray, np.ndarray] | None = None
    for number, (frame, t) in enumerate(scene):
        result = live.process(frame, t)
        shown = result.frame
        fitted = [face for face in result.faces if face.fitted]
        found.drawn += bool(fitted)
        if strip:
            found.strip.append((_thumb(frame), _thumb(shown)))
        if fitted and before is not None and number >= settle:
            face = max(fitted, key=lambda each: each.size)
            found.add(*compare(before, (frame, shown), face))
        before = (frame, shown) if fitted else None
    chosen = np.linspace(0, len(found.strip) - 1, STRIP).round().astype(int) if found.strip else []
    found.strip = [found.strip[index] for index in dict.fromkeys(chosen)]
    return found


def _unwarped(before, now, face: Face) -> tuple[float, float]:
    """Mean absolute change (output, input) inside the face's outline."""
    mask = np.zeros(now[0].shape[:2], np.uint8)
    fill(mask, face.landmarks[OVAL], 255)
    return tuple(_difference(before[place], now[place], mask > 128) for place in (1, 0))


def warped(before, now, face: Face) -> tuple[float, float]:
    """The same around the head, after the frame before is moved as the input's optical flow says."""
    outline = grown(face.landmarks, HEAD)
    height, width = now[0].shape[:2]
    left, top = np.floor(outline.min(axis=0)).clip(0, (width - 2, height - 2)).astype(int)
    right, bottom = np.ceil(outline.max(axis=0)).clip((left + 1, top + 1), (width, height)).astype(int)
    cut = (slice(top, bottom), slice(left, right))
    mask = np.zeros((bottom - top, right - left), np.uint8)
    fill(mask, outline - (left, top), 255)
    if min(mask.shape) < 32 or not (mask > 128).any():  # px: DIS needs patches to follow
        return 0.0, 0.0
    earlier, later = ([np.ascontiguousarray(picture[cut]) for picture in pair] for pair in (before, now))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(
        *(cv2.cvtColor(pair[0], cv2.COLOR_RGB2GRAY) for pair in (later, earlier)), None
    )
    y, x = np.indices(mask.shape, np.float32)
    places = x + flow[..., 0], y + flow[..., 1]
    moved = [cv2.remap(picture, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for picture in earlier]
    return tuple(_difference(moved[place], later[place], mask > 128) for place in (1, 0))


def _difference(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    return float(cv2.absdiff(one, other)[mask].mean()) if mask.any() else 0.0


def _thumb(frame: np.ndarray) -> np.ndarray:
    """The middle square of a frame, THUMB_PX a side."""
    side = min(frame.shape[:2])
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    return cv2.resize(frame[top : top + side, left : left + side], (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA)


def figures(name: str, model: str, change: Change) -> list[Figure]:
    """name: "noise" for the still scene, otherwise a clip; none where no face was drawn in two frames on end."""
    if not change.source:
        return []
    said = {"pictures": change.frames, "note": f"a face drawn in {change.drawn} frames"}
    if name == "noise":
        return [
            Figure("still face, grey levels", model, change.grey_levels, GREY, UNDER, **said),
            Figure("still face, times the input", model, change.times, TIMES, AT_MOST, **said),
            Figure(
                "still face, grey levels", Photo.name, change.source / max(1, change.frames), pictures=change.frames
            ),
        ]
    return [Figure(f"clip {name}, times", model, change.times, WARPED_TIMES, AT_MOST, **said)]
