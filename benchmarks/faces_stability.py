"""How still a still face lies, how well a moving one is followed: on clips, and on a scene whose motion is known."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from faces.align import TEMPLATE, align_matrix, crop, move
from faces.groups import Router
from faces.judge import GROUPS
from faces.looks import Looker
from faces.nets import open_net
from faces.track import Tracker
from livetoon.errors import DataError

FAST_HZ = 3.0  # what is faster than this is shaking, not the person
IBUG_EYES = (slice(36, 42), slice(42, 48))  # of 68 points
TIGHT = (46, 78, 164)  # left, top, side of the square around the face in a 256 px crop, px, for the 68-point net
FPS = 30
SCALE = 1.5  # frame px per px of the portrait
NOISE, JPEG = 5, 80  # of the scene: grey levels of sensor noise, quality


class EyesIn:
    """Where the eyes of a crop lie by a 68-point network that has no part in aligning it."""

    def __init__(self, network: Path):
        self._net = open_net(network, (1, 3, 112, 112))

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """(256, 256, 3) uint8 RGB, aligned -> (2, 2) px of it."""
        left, top, side = TIGHT
        small = cv2.resize(face[top : top + side, left : left + side], (112, 112), interpolation=cv2.INTER_AREA)
        (values,) = self._net(small.transpose(2, 0, 1)[None].astype(np.float32)).values()
        points = values.reshape(68, 2) * side + (left, top)
        return np.stack([points[eye].mean(axis=0) for eye in IBUG_EYES])


def frames_of(clip: Path) -> Iterator[tuple[np.ndarray, float]]:
    """(H, W, 3) uint8 RGB and its time in seconds."""
    import av

    with av.open(str(clip)) as file:
        for frame in file.decode(video=0):
            yield frame.to_ndarray(format="rgb24"), float(frame.time)


def clip_figures(clip: Path, eyes_in: EyesIn) -> dict[str, object]:
    """Of the largest face in each frame: eye_shake_px (RMS over 3 Hz, in the crop), groups that drew it, tracks, share
    of the frames in which there was one. DataError for a clip in which none is followed."""
    tracker, looker, router = Tracker(), Looker(), Router(GROUPS)
    eyes, times, groups, tracks, frames = [], [], [], set(), 0
    for frame, t in frames_of(clip):
        frames += 1
        faces = [face for face in tracker.update(frame, t).faces if face.fitted]
        tracks |= {face.track for face in faces}
        if not faces:
            continue
        face = max(faces, key=lambda each: each.size)
        picture = crop(frame, align_matrix(face.points))
        if face.unseen_s == 0 and router.wants_look(t, face.pose[0], face.blur):
            router.add(looker(picture), t)
        groups.append(router.group)
        eyes.append(eyes_in(picture))
        times.append(t)
    if len(times) < 2:
        raise DataError(f"{clip}: no face is followed in it; take it out of the folder")
    changes = sum(one != other for one, other in pairwise(groups))
    return {
        "clip": clip.name,
        "eye_shake_px": round(fast_rms(np.array(eyes), np.array(times)), 3),
        "groups": sorted(set(groups)),
        "group_changes": changes,
        "tracks": len(tracks),
        "fitted": round(len(times) / frames, 4),
    }


def fast_rms(positions: np.ndarray, times: np.ndarray) -> float:
    """RMS of what moves faster than 3 Hz: positions (T, N, 2) px at `times` (T,) seconds -> px."""
    steps = np.diff(times)
    rate = 1 / float(np.median(steps))
    spectrum = np.fft.rfft(positions - positions.mean(axis=0), axis=0)
    spectrum[np.fft.rfftfreq(len(positions), 1 / rate) < FAST_HZ] = 0
    fast = np.fft.irfft(spectrum, len(positions), axis=0)
    return float(np.sqrt((fast**2).sum(axis=2).mean()))


@dataclass(frozen=True)
class Moved:
    """A scene: frame (H, W, 3) uint8 RGB, its time, and the matrix (2, 3) portrait -> frame that made it."""

    frame: np.ndarray
    t: float
    matrix: np.ndarray


def still_scene(seconds: float = 4) -> Iterator[Moved]:
    """A face that stands still before a camera with noise."""
    yield from _scene(seconds, lambda t: (0.0, 0.0, 0.0))


def moving_scene(seconds: float = 4) -> Iterator[Moved]:
    """A face that sways, up to 280 px/s and 20 degrees a second."""
    yield from _scene(seconds, lambda t: (70 * np.sin(4 * t), 25 * np.sin(3 * t), 5 * np.sin(4 * t)))


def panned_scene(seconds: float = 1.6, speed: float = 200) -> Iterator[Moved]:
    """A face that goes to the right at `speed` px/s."""
    yield from _scene(seconds, lambda t: (-150 + speed * t, 0.0, 0.0))


def _scene(seconds: float, path) -> Iterator[Moved]:
    from skimage import data

    portrait = data.astronaut()
    random = np.random.default_rng(3)
    for number in range(round(seconds * FPS)):
        t = number / FPS
        x, y, turn = path(t)
        matrix = cv2.getRotationMatrix2D((226, 130), turn, SCALE)
        matrix[:, 2] += np.array([320 + x, 230 + y]) - (226, 130)
        frame = cv2.warpAffine(portrait, matrix, (640, 480), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        noisy = np.clip(frame + random.normal(0, NOISE, frame.shape), 0, 255).astype(np.uint8)
        _, coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, JPEG])
        yield Moved(cv2.imdecode(coded, cv2.IMREAD_COLOR), t, matrix)


def scene_figures() -> dict[str, float]:
    """still_px: mean distance of the crop's points from their mean place on a still face; moving_change_px: mean change
    of the error from frame to frame on a moving one; lag_frames: how far behind a pan they are.

    px of a frame in which the eyes lie 64 px apart.
    """
    still, moving, panned = (_placed(scene) for scene in (still_scene(), moving_scene(), panned_scene()))
    change = np.linalg.norm(np.diff(moving, axis=0), axis=2).mean()
    behind = still[..., 0].mean() - panned[..., 0].mean()
    return {
        "still_px": round(float(np.linalg.norm(still - still.mean(axis=0), axis=2).mean()), 3),
        "moving_change_px": round(float(change), 3),
        "lag_frames": round(float(behind) / (200 / FPS), 2),
    }


def _placed(scene: Iterator[Moved], settle: int = 15) -> np.ndarray:
    """(T, 5, 2) px of the frame: where the crop's template points lie, with the portrait's own motion taken out;
    without the first `settle` frames."""
    tracker, places = Tracker(), []
    for number, moved in enumerate(scene):
        faces = [face for face in tracker.update(moved.frame, moved.t).faces if face.fitted]
        if not faces or number < settle:
            continue
        points = move(cv2.invertAffineTransform(align_matrix(faces[0].points)), TEMPLATE)
        places.append(move(cv2.invertAffineTransform(moved.matrix), points) * SCALE)
    return np.array(places)
