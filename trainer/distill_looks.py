"""What sets a pair's drawing apart from its teacher's: a drawing's proportions, the person's own colours, or the way
of animated films."""

import numpy as np

from faces.align import CROP, TEMPLATE
from faces.finish import Finish
from faces.landmarks import FaceMesh, Mesh
from faces.looks import Looker
from faces.pictures import resized
from trainer.cel import cel
from trainer.exaggerate import Proportions, exaggerate
from trainer.prepare_face import fitted

PRESENT = 0.5  # presence from which points are a face's
NEAR = 0.3  # mean distance of its five to an aligned crop's, in eye distances; 500 faces had 0.08, at most 0.19


class Looks:
    """proportions: of the face that the teacher sees; own_colours: share in [0, 1] of the person's; animated: drawn
    anew as animated films draw people (cel.py), which takes all of their colours."""

    def __init__(self, proportions: Proportions, own_colours: float, animated: bool = False):
        self._proportions, self._own_colours = proportions, 1.0 if animated else own_colours
        self._fit = FaceMesh() if proportions or self._own_colours else None
        self._looker = Looker() if animated else None

    def shaped(self, crop: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 RGB, an aligned crop -> the same with the drawing's proportions."""
        mesh = self._mesh(crop) if self._proportions else None
        return crop if mesh is None else exaggerate(crop, mesh.five, self._proportions)

    def coloured(self, drawing: np.ndarray, crop: np.ndarray) -> np.ndarray | None:
        """drawing: (S, S, 3) uint8 RGB of `crop` (any side) -> with the person's own skin and hair, and drawn anew
        where that is asked for; None where that needs a face and there is none."""
        if not self._own_colours:
            return drawing
        crop = resized(crop, drawing.shape[0])
        mesh = self._mesh(crop)
        if mesh is None:
            return drawing if self._looker is None else None
        opaque = np.dstack([drawing, np.full(drawing.shape[:2], 255, np.uint8)])
        points = mesh.points[:, :2]
        own = np.ascontiguousarray(Finish()(opaque, crop, points, np.eye(2, 3), 0.0, self._own_colours)[..., :3])
        return own if self._looker is None else cel(crop, own, points, self._looker(crop))

    def _mesh(self, crop: np.ndarray) -> Mesh | None:
        expected = TEMPLATE * (crop.shape[0] / CROP)
        mesh = fitted(self._fit, crop, expected)
        apart = float(np.linalg.norm(expected[1] - expected[0]))
        off = float(np.linalg.norm(mesh.five - expected, axis=1).mean())
        return mesh if mesh.presence >= PRESENT and off <= NEAR * apart else None
