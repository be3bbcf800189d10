"""What is known of one face in one frame."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Face:
    """box: (4,) float32 left, top, right, bottom px; landmarks: (468, 2) float32 px, or (0, 2) for a face
    that was found but not fitted; points: (5, 2) float32 px, steadied, in the order of `align.TEMPLATE`.

    score: presence in [0, 1]; pose: yaw, pitch, roll in degrees (right, down and clockwise in the picture are
    positive); size: px between the eyes times 2.2, about the width of the face; blur: 0 sharp to 1 smeared;
    track: number that stays with a person; unseen_s: seconds since the face itself was last found.
    """

    box: np.ndarray
    points: np.ndarray
    score: float
    size: float
    track: int
    landmarks: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    blur: float = 0.0
    unseen_s: float = 0.0

    @property
    def fitted(self) -> bool:
        """Whether the face can be drawn; one that cannot must be hidden."""
        return len(self.landmarks) > 0
