"""What stands behind the people of a video: a colour instead of the room, or the room out of focus.

    shown = drawn picture x alpha + background x (1 - alpha)

alpha: the person's (matte.py), and all that was drawn or hidden. Only the drawn picture is used, and where a face is
hidden in it all of it: an alpha between follows the camera's edges, which would show the face again.
"""

import cv2
import numpy as np

from faces.matte import Matte, Steady, shrunk
from livetoon.errors import UsageError

CAMERA, PLAIN, BLUR = "camera", "plain", "blur"
KINDS = (CAMERA, PLAIN, BLUR)
COLOUR = "#c3d2d6"  # a pale grey blue: skin and hair of every colour stand out from it

SMALL_PX = 128  # longer side at which the room is blurred
REACH = 0.04  # of that side, over which the room is averaged, twice: writing and faces cannot be read
LEAST = 4  # of 255, share of room around a point below which there is nothing to blur: it lies deep inside a person


class Background:
    """The background of one video; remembers the person's alpha from frame to frame."""

    def __init__(self, matte: Matte):
        self._matte, self._steady = matte, Steady()
        self._plain: np.ndarray | None = None  # a frame of the colour, which seldom changes

    def reset(self) -> None:
        """Forget the video."""
        self._steady.reset()

    def __call__(
        self, camera: np.ndarray, shown: np.ndarray, drawn: np.ndarray, t: float, kind: str, colour: str
    ) -> np.ndarray:
        """camera: (H, W, 3) uint8 RGB, in which people are looked for; shown: alike, what was made of it; drawn: (H, W)
        uint8, 255 where that is a drawing or hidden; t: seconds; kind: PLAIN or BLUR -> (H, W, 3) uint8 RGB."""
        alpha = cv2.max(self._matte(camera, self._steady, t), drawn)
        behind = blurred(shown, alpha) if kind == BLUR else self._of(colour, shown.shape).copy()
        x, y, width, height = cv2.boundingRect(alpha)
        part = np.s_[y : y + height, x : x + width]
        if width:
            weight = cv2.cvtColor(alpha[part], cv2.COLOR_GRAY2RGB)
            # In uint8, which takes half the time of cv2.blendLinear.
            people = cv2.multiply(shown[part], weight, scale=1 / 255)
            room = cv2.multiply(behind[part], cv2.bitwise_not(weight), scale=1 / 255)
            cv2.add(people, room, dst=behind[part])
        return behind

    def _of(self, colour: str, shape: tuple[int, ...]) -> np.ndarray:
        wanted = rgb_of(colour)
        if self._plain is None or self._plain.shape != shape or tuple(self._plain[0, 0].tolist()) != wanted:
            self._plain = np.full(shape, wanted, np.uint8)
        return self._plain


def blurred(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> alike, out of focus, as if the people (alpha (H, W) uint8) were not there: blurred with the
    room, they would glow around themselves."""
    height, width = alpha.shape
    scale = min(1.0, SMALL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    room, share = cv2.cvtColor(shrunk(picture, *size), cv2.COLOR_RGB2RGBA), cv2.bitwise_not(shrunk(alpha, *size))
    # The fourth channel is 255 x share: what is blurred with the room says how much room there was.
    soft = cv2.multiply(room, cv2.cvtColor(share, cv2.COLOR_GRAY2RGBA), scale=1 / 255, dtype=cv2.CV_32F)
    reach = 2 * round(REACH * max(size)) + 1
    for _ in range(2):  # as soft as a Gaussian to the eye, in a tenth of the time
        soft = cv2.blur(soft, (reach, reach), borderType=cv2.BORDER_REPLICATE)
    there = 255 / np.maximum(cv2.extractChannel(soft, 3), LEAST)
    soft = cv2.multiply(cv2.cvtColor(soft, cv2.COLOR_RGBA2RGB), cv2.merge([there] * 3), dtype=cv2.CV_8U)
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Red, green, blue of "#rrggbb"; UsageError for anything else.

    >>> rgb_of("#ff8000")
    (255, 128, 0)
    """
    said = colour[1:] if isinstance(colour, str) and len(colour) == 7 and colour[0] == "#" else ""
    if not said or not all(digit in "0123456789abcdefABCDEF" for digit in said):
        raise UsageError(f"a colour is written as #rrggbb, for example {COLOUR}; got {str(colour)[:40]!r}")
    return tuple(bytes.fromhex(said))
