"""Finds faces in a whole picture: BlazeFace (cheap, near faces) and RetinaFace (wide: small and turned ones).

Both give boxes around the face from brow to chin and five points in the order of `align.TEMPLATE`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from faces import weights
from faces.nets import Levels, Net, open_net

OVERLAP = 0.3  # boxes that share more than this part of their union are one face
SAME = 0.25  # overlap from which a find belongs to a box known from elsewhere


@dataclass(frozen=True)
class Detection:
    """box: (4,) float32 left, top, right, bottom px; points: (5, 2) float32 px; score in [0, 1]."""

    box: np.ndarray
    points: np.ndarray
    score: float


class Search:
    """A search that has begun; the networks wait for nobody, so the caller can do other work meanwhile."""

    def __init__(self, finish: Callable[[], list[Detection]]):
        self._finish = finish
        self._found: list[Detection] | None = None
        self._ended = False

    def found(self) -> list[Detection]:
        """The faces, best first; waits for them the first time."""
        self._ended = True
        if self._found is None:
            self._found = self._finish()
        return self._found

    def end(self) -> None:
        """Wait for the networks if nobody did; a search that has failed stands in the way of no other."""
        if not self._ended:
            self.found()


class Detector:
    """What both detectors share: one search at a time, begun by `start` or done at once by a call."""

    def __init__(self):
        self._last: Search | None = None

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """frame: (H, W, 3) uint8 RGB -> faces, best first."""
        return self.start(frame).found()

    def start(self, frame: np.ndarray) -> Search:
        """Begin to search `frame`, which may be changed afterwards. A search before it is finished first."""
        if self._last:
            self._last.end()
        self._last = Search(self._begin(frame))
        return self._last

    def _begin(self, frame: np.ndarray) -> Callable[[], list[Detection]]:
        """Start the network and return what waits for it and reads its outputs."""
        raise NotImplementedError


class BlazeFace(Detector):
    """The cheap search. `reach`: "short" (faces over about a sixth of the picture) or "full" (a tenth).

    >>> import numpy
    >>> BlazeFace()(numpy.zeros((120, 160, 3), numpy.uint8))
    []
    """

    def __init__(self, reach: str = "short", threshold: float = 0.45, models: Path = weights.FOLDER):
        super().__init__()
        name, self._side, strides = {
            "short": ("face_detection_short_range.tflite", 128, (8, 8, 16, 16, 16, 16, 16, 16)),
            "full": ("face_detection_full_range_sparse.tflite", 192, (4,)),
        }[reach]
        self._net = open_net(weights.path(name, models), levels=Levels(127.5, 127.5))
        self._anchors = _blaze_anchors(self._side, strides)
        self._logit = math.log(threshold / (1 - threshold))
        self._canvas = np.zeros((1, self._side, self._side, 3), np.uint8)

    def _begin(self, frame: np.ndarray) -> Callable[[], list[Detection]]:
        side = self._side
        small, scale = fit_into(frame, side, side)
        height, width = small.shape[:2]
        top, left = (side - height) // 2, (side - width) // 2
        self._canvas.fill(0)  # letter-boxed with black
        self._canvas[0, top : top + height, left : left + width] = small
        self._net.start(self._canvas)
        return lambda: self._read(scale, left, top)

    def _read(self, scale: float, left: int, top: int) -> list[Detection]:
        found = self._net.result()
        scores, values = sorted((array[0] for array in found.values()), key=lambda array: array.shape[1])
        keep = np.flatnonzero(scores[:, 0] > self._logit)
        if not len(keep):
            return []
        values, anchors = values[keep], self._anchors[keep]
        places = np.empty((len(keep), 14), np.float32)
        half = values[:, 2:4] * np.float32(0.5)
        places[:, :2], places[:, 2:4] = values[:, :2] - half, values[:, :2] + half
        # Published order: eye, eye, nose, middle of the mouth, two ears. The mouth's corners are set
        # beside its middle, half an eye distance apart along the eyes' line.
        places[:, 4:10] = values[:, 4:10]
        aside = (values[:, 6:8] - values[:, 4:6]) * np.float32(0.45)
        places[:, 10:12], places[:, 12:] = values[:, 10:12] - aside, values[:, 10:12] + aside
        places += np.tile(anchors, 7)
        return _best(places, 1 / (1 + np.exp(-scores[keep, 0])), scale, left, top)


class RetinaFace(Detector):
    """The wide search, at most 320x256 px (or 256x320 for upright pictures): faces from about 25 px of 640."""

    LONG, SHORT = 320, 256

    def __init__(self, threshold: float = 0.4, models: Path = weights.FOLDER):
        super().__init__()
        self._path = weights.path("retinaface_mobilenet025.onnx", models)
        self._threshold = threshold
        self._forms: dict[tuple[int, int], tuple] = {}
        self._form(self.SHORT, self.LONG)

    def _form(self, height: int, width: int) -> tuple:
        """The network compiled for one input size (about 0.3 s the first time), and its anchors."""
        if (height, width) not in self._forms:
            net = open_net(self._path, (1, 3, height, width))
            self._forms[height, width] = net, _retina_anchors(height, width)
        return self._forms[height, width]

    def _begin(self, frame: np.ndarray) -> Callable[[], list[Detection]]:
        upright = frame.shape[0] > frame.shape[1]
        height, width = (self.LONG, self.SHORT) if upright else (self.SHORT, self.LONG)
        net, anchors = self._form(height, width)
        small, scale = fit_into(frame, height, width)
        bordered = cv2.copyMakeBorder(
            small, 0, height - small.shape[0], 0, width - small.shape[1], cv2.BORDER_CONSTANT, value=_RETINA_MEAN
        )
        # The network was trained on BGR minus the mean colour.
        net.start(cv2.dnn.blobFromImage(bordered, 1.0, (width, height), _RETINA_MEAN, swapRB=True))
        return lambda: self._read(net, anchors, scale)

    def _read(self, net: Net, anchors: np.ndarray, scale: float) -> list[Detection]:
        found = net.result()
        scores = found["conf"][0, :, 1]
        keep = np.flatnonzero(scores > self._threshold)
        if not len(keep):
            return []
        centre, size = anchors[keep, :2], anchors[keep, 2:]
        offsets = found["loc"][0, keep]
        middle = centre + offsets[:, :2] * 0.1 * size
        extent = size * np.exp(offsets[:, 2:] * 0.2)
        points = np.tile(centre, 5) + found["landmarks"][0, keep] * 0.1 * np.tile(size, 5)
        return _best(np.hstack([middle - extent / 2, middle + extent / 2, points]), scores[keep], scale)


_RETINA_MEAN = (123, 117, 104)  # RGB, of ImageNet


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes (4,)."""
    return _overlap(one.tolist(), other.tolist())


def _overlap(one: list[float], other: list[float]) -> float:
    """In plain numbers, which are quicker than arrays of four."""
    left, top, right, bottom = one
    left2, top2, right2, bottom2 = other
    shared = max(0.0, min(right, right2) - max(left, left2)) * max(0.0, min(bottom, bottom2) - max(top, top2))
    areas = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2)
    return shared / max(areas - shared, 1e-6)


def belongs(box: np.ndarray, detection: Detection) -> bool:
    """Overlapping, or its middle inside a box of about its size: search and mesh do not box a turned face alike."""
    if overlap(box, detection.box) > SAME:
        return True
    left, top, right, bottom = box.tolist()
    x, y = detection.points.mean(axis=0).tolist()
    inside = left < x < right and top < y < bottom
    return inside and 0.5 < longer_side(detection.box) / max(longer_side(box), 1e-3) < 2


def merged(found: list[Detection], more: list[Detection]) -> list[Detection]:
    """What two searches of one frame found, each face once: with the box of the first and the better score.

    Those that overlap most are paired first: of two heads side by side the surer find may touch the other's box.
    """
    faces, alone = list(found), dict(enumerate(more))
    pairs = sorted(
        (-overlap(face.box, other.box), index, number)
        for index, face in enumerate(found)
        for number, other in alone.items()
        if belongs(face.box, other)
    )
    paired = set()
    for _, index, number in pairs:
        if index not in paired and number in alone:
            paired.add(index)
            faces[index] = replace(faces[index], score=max(faces[index].score, alone.pop(number).score))
    return faces + list(alone.values())


def longer_side(box: np.ndarray) -> float:
    """Of a box (4,), px."""
    return float(max(box[2] - box[0], box[3] - box[1]))


def _best(places: np.ndarray, scores: np.ndarray, scale: float, left: int = 0, top: int = 0) -> list[Detection]:
    """One detection per face: the best box of each heap, averaged over the heap by score (as BlazeFace does).

    places: (N, 14) px of the small picture, box and five points; scores: (N,); scale, left, top: see `to_frame`.
    """
    found = []
    boxes = places[:, :4].tolist()
    rest = np.argsort(-scores).tolist()
    while rest:
        best = boxes[rest[0]]
        heap = [rest[0]] + [index for index in rest[1:] if _overlap(best, boxes[index]) > OVERLAP]
        share = (scores[heap] / scores[heap].sum()).astype(np.float32)
        place = to_frame(share @ places[heap], scale, left, top)
        found.append(Detection(place[:4], place[4:].reshape(5, 2), float(scores[rest[0]])))
        rest = [index for index in rest if index not in heap]
    return found


def fit_into(frame: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float]:
    """The picture made to fit into height x width, and small pixels per picture pixel."""
    scale = min(height / frame.shape[0], width / frame.shape[1])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    if scale < 0.5:
        # By way of twice the size: averaging all of a large picture costs as much as the network.
        frame = cv2.resize(frame, (size[0] * 2, size[1] * 2), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale


def to_frame(points: np.ndarray, scale: float, left: int = 0, top: int = 0) -> np.ndarray:
    """Coordinates x, y, x, y.. (.., 2 N) of the small picture -> picture px."""
    shift = np.array([left, top] * (points.shape[-1] // 2), np.float32)
    return ((points - shift) / scale).astype(np.float32)


def _blaze_anchors(side: int, strides: tuple[int, ...]) -> np.ndarray:
    """(A, 2) float32: cell centres in px, `strides.count(s)` at each cell of stride s."""
    rows = []
    for stride in dict.fromkeys(strides):
        cells = (np.arange(side // stride) + 0.5) * stride
        y, x = np.meshgrid(cells, cells, indexing="ij")
        rows.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), strides.count(stride), axis=0))
    return np.concatenate(rows).astype(np.float32)


def _retina_anchors(height: int, width: int) -> np.ndarray:
    """(A, 4) float32: centre x, y and width, height in px; two sizes at each cell of strides 8, 16, 32."""
    rows = []
    for stride, sizes in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        y, x = np.meshgrid(
            (np.arange(math.ceil(height / stride)) + 0.5) * stride,
            (np.arange(math.ceil(width / stride)) + 0.5) * stride,
            indexing="ij",
        )
        for_cell = [np.stack([x.ravel(), y.ravel(), *np.full((2, x.size), size)], axis=1) for size in sizes]
        rows.append(np.stack(for_cell, axis=1).reshape(-1, 4))
    return np.concatenate(rows).astype(np.float32)
