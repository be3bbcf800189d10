"""The networks that find and fit faces, opened together: two searches and the mesh."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from faces import weights
from faces.detect import BlazeFace, Detection, Detector, RetinaFace, Search
from faces.detectors import SHIPPED, wide_search
from faces.landmarks import FaceMesh, Mesh, square

HALF = 0.6  # of the longer side; the halves overlap, so that a face on the middle line is whole in one of them
CUT = 0.01  # of the longer side: a face that reaches so near to the middle line's cut is not whole


class Finders:
    """Three networks; several trackers may share them when they are called in turn. models: where they lie.

    near: searches every frame; wide: searches now and then and finds more. ModelError for a file that was altered.
    """

    def __init__(self, near: Detector | None = None, wide: Detector | None = None, models: Path = weights.FOLDER):
        self.near = near or BlazeFace(models=models)
        self.wide = wide or RetinaFace(models=models)
        self.fit = FaceMesh(models)

    def search_half(self, frame: np.ndarray, second: bool) -> Search:
        """Begin the wide search in one half of the frame, where it sees faces of two thirds of the size.

        Of 100 faces of 40 px in 640x480 it finds 95, the search of the whole 76.
        """
        axis = int(frame.shape[1] >= frame.shape[0])  # the axis that is halved
        length = frame.shape[axis]
        size = max(1, round(length * HALF))
        start = length - size if second else 0
        view = frame[:, start : start + size] if axis else frame[start : start + size]
        begun = self.wide.start(view)
        shift = np.array([start, 0] if axis else [0, start], np.float32)
        edge = 1 - axis + (0 if second else 2)  # of the box, that may lie on the cut

        def found() -> list[Detection]:
            near = CUT * length
            whole = [
                find
                for find in begun.found()
                if (find.box[edge] > near if second else find.box[edge] < size - near) or size == length
            ]
            return [replace(find, box=find.box + np.tile(shift, 2), points=find.points + shift) for find in whole]

        return Search(found)

    def follow(self, frame: np.ndarray, before: Mesh, shift: np.ndarray) -> Mesh:
        """The mesh from the one of the frame before, moved by `shift` (2,) px."""
        (x, y), side = square(before.points)
        return self.fit(frame, before.five[:2], (x + float(shift[0]), y + float(shift[1])), side)

    def fit_detection(self, frame: np.ndarray, detection: Detection) -> Mesh:
        """The mesh from a detection alone, for a face that has no previous frame."""
        left, top, right, bottom = (float(value) for value in detection.box)
        side = max(right - left, bottom - top) * 1.5
        return self.fit(frame, detection.points[:2], ((left + right) / 2, (top + bottom) / 2), side)


def opened(name: str = SHIPPED, models: Path = weights.FOLDER) -> Finders:
    """Finders whose wide search is the detector `name`, as `--detector` takes it; the others are the shipped ones.

    >>> type(opened("shipped").wide).__name__
    'RetinaFace'

    Raises what `detectors.check` raises, and ModelError when a file cannot be read.
    """
    return Finders(wide=wide_search(name), models=models)
