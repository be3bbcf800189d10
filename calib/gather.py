"""The faces of a picture or a clip, cut out as live video cuts them, each with the cell that it belongs to.

frame -> searched, fitted, followed (faces.track) -> aligned crop (faces.align) -> group, yaw, luma -> cell
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calib.cells import GROUPS, Cell, cell_of, order_of
from calib.crops import ENDINGS
from faces.align import CROP, TEMPLATE, align_matrix, corners, crop, inverse
from faces.groups import shares
from faces.landmarks import pose
from faces.looks import Looker
from faces.track import PRESENT, Finders, Tracker
from livetoon.errors import DataError

CLIP_ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
EVERY_S = 1.0  # of a clip: frames nearer to each other show nearly the same
FRAMES_PER_S = 25.0  # of a clip that does not say
LONGEST_SIDE = 1280  # px, as large as cameras are asked for; a larger picture is made smaller first
FRAME_S = 0.04  # a picture is shown to the tracker twice, because live video crops what it followed from a frame before
FACE = (slice(88, 192), slice(72, 184))  # rows and columns of a 256 px crop: brows to mouth, no background
WHOLE = 0.75  # share of a crop that lies in its picture; with less, as in portraits cut close, white outweighs the face
HOLDS_MESH = (128.0, 142.0), 225.0  # px of an aligned crop: middle and side of the square that FaceMesh looks at
# 95 without thinned colours: no coarser than what a camera sends
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


@dataclass(frozen=True)
class Portrait:
    """One face. jpeg: its crop, encoded; source: name of its file; second: place in a clip; yaw in degrees; luma: mean
    of the face, of 255; order: what portraits of one cell are sorted by, whole ones first, then by chance."""

    jpeg: bytes
    cell: Cell
    source: str
    second: float | None
    yaw: float
    luma: float
    order: tuple[bool, str]


@dataclass(frozen=True)
class _Cut:
    """picture: (size, size, 3) uint8 RGB; yaw in degrees; inside: share of it that lies in the frame."""

    picture: np.ndarray
    yaw: float
    inside: float = 1.0


class Gatherer:
    """Cuts crops of `size` px. aligned: what it is given are such crops already, square and of any size."""

    def __init__(self, size: int = CROP, aligned: bool = False):
        self._size, self._aligned = size, aligned
        self._finders, self._look = Finders(), Looker()
        self._tracker = Tracker(finders=self._finders)

    def __call__(self, path: Path) -> list[Portrait]:
        """Every face that live video would draw; DataError for a file that cannot be read or used."""
        return [
            self._portrait(cut, path.name, second, place)
            for frame, second in _frames(path)
            for place, cut in enumerate(self._given(path, frame) if self._aligned else self._found(frame))
        ]

    def _found(self, frame: np.ndarray) -> list[_Cut]:
        self._tracker.reset()
        self._tracker.update(frame, 0.0)
        faces = [face for face in self._tracker.update(frame, FRAME_S).faces if face.fitted and not face.unseen_s]
        cuts = []
        for face in faces:
            matrix = align_matrix(face.points, self._size)
            inside = _inside(matrix, self._size, frame)
            cuts.append(_Cut(crop(frame, matrix, self._size), face.pose[0], inside))
        return cuts

    def _given(self, path: Path, frame: np.ndarray) -> list[_Cut]:
        """What `_found` gives, of a frame that is a crop."""
        height, width = frame.shape[:2]
        if height != width:
            raise DataError(f"{path}: {width}x{height} px, no aligned crop; leave --aligned out")
        shrinks = height > self._size
        face = cv2.resize(frame, (self._size,) * 2, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        scale, (middle, side) = self._size / CROP, HOLDS_MESH
        mesh = self._finders.fit(face, TEMPLATE[:2] * scale, (middle[0] * scale, middle[1] * scale), side * scale)
        mesh = self._finders.follow(face, mesh, np.zeros(2, np.float32))
        return [_Cut(face, pose(mesh.points)[0])] if mesh.presence > PRESENT else []

    def _portrait(self, cut: _Cut, name: str, second: float | None, place: int) -> Portrait:
        group = GROUPS[int(shares(self._look(cut.picture), GROUPS).argmax())]
        light = luma(cut.picture)
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(cut.picture, cv2.COLOR_RGB2BGR), JPEG)
        order = cut.inside < WHOLE, order_of(f"{name} {second or 0:g} {place}")
        return Portrait(jpeg.tobytes(), cell_of(group, cut.yaw, light), name, second, cut.yaw, light, order)


def _inside(matrix: np.ndarray, size: int, frame: np.ndarray) -> float:
    """Share of the crop of `size` px by matrix (2, 3) frame -> crop that lies in the frame."""
    cut = np.stack(corners(inverse(matrix), size, size), axis=1).astype(np.float32)
    height, width = frame.shape[:2]
    whole = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    return cv2.intersectConvexConvex(cut, whole)[0] / max(cv2.contourArea(cut), 1e-6)


def luma(face: np.ndarray) -> float:
    """(S, S, 3) uint8 RGB, aligned -> mean of the face's luma, of 255."""
    scale = face.shape[0] / CROP
    rows, columns = (slice(round(part.start * scale), round(part.stop * scale)) for part in FACE)
    return float(cv2.cvtColor(face[rows, columns], cv2.COLOR_RGB2GRAY).mean())


def files(folder: Path) -> list[Path]:
    """Pictures and clips in `folder` and its folders, hidden ones left out."""
    wanted = (*ENDINGS, *CLIP_ENDINGS)
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in wanted and not path.name.startswith(".") and path.is_file()
    )


def _frames(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    """(H, W, 3) uint8 RGB and its second in a clip; a picture has one frame."""
    if path.suffix.lower() in CLIP_ENDINGS:
        yield from _clip(path)
        return
    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if picture is None:
        raise DataError(f"{path}: not a picture that can be read")
    yield _as_camera(picture), None


def _clip(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    video = cv2.VideoCapture(str(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        rate = rate if 1 <= rate <= 1000 else FRAMES_PER_S
        step, number = max(1, round(EVERY_S * rate)), 0
        while video.grab():
            if number % step == 0:
                decoded, frame = video.retrieve()
                if decoded:
                    yield _as_camera(frame), round(number / rate, 2)
            number += 1
    finally:
        video.release()
    if not number:
        raise DataError(f"{path}: not a video that can be read")


def _as_camera(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR of any size -> RGB, as large as a camera's at most."""
    height, width = picture.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
