"""Camera clips for a headless browser: real faces, sensor noise, and the frame's number painted as blocks.

The number says which camera frame an answer belongs to. It stands in the top left corner as 20 black or white blocks
in two rows: 16 bits, most significant first, and 4 bits of check sum, so that a number is read right or not at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

import cv2
import numpy as np

from faces.detect import RetinaFace
from livetoon.errors import DataError
from livetoon.files import replacing

FPS = 30  # what Chromium plays a .mjpeg camera at
BITS, CHECK_BITS, COLUMNS = 16, 4, 10
BLOCKS_ACROSS = 40  # blocks in the width of a frame: 16 px of 640, 4 px of 160
BLACK, WHITE = 16, 235
NOISE = 2.5  # standard deviation in grey levels, that of a webcam indoors
NOISE_FIELDS = 8
FACE_SHARE = 0.3  # of the height of the picture, as before a laptop
GRID = 12  # cells of a face a side, for comparing it
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Person:
    """frames: (H, W, 3) uint8 RGB each, played to and fro; box: the face in the first one, px."""

    frames: Sequence[np.ndarray]
    box: np.ndarray

    def at(self, number: int) -> np.ndarray:
        return self.frames[self.index(number)]

    def index(self, number: int) -> int:
        """The frame that is shown as this number of an endless clip."""
        last = len(self.frames) - 1
        step = number % (2 * last) if last else 0
        return step if step <= last else 2 * last - step


def people(folder: Path | None, number: int) -> list[Person]:
    """`number` people from the clips in `folder`, or the astronaut of scikit-image moved about where there is none."""
    clips = clips_in(folder)
    if not clips:
        return [_person(_moved_astronaut())] * number
    return [_person(_frames(clips[place % len(clips)])) for place in range(number)]


CLIPS = ("woman_1280x720.mp4", "man_glasses_selfie_720x1280.mp4", "young_woman_512.mp4", "man_glasses_480.mp4")


def clips_in(folder: Path | None) -> list[Path]:
    """The clips of people that lie in `folder`."""
    return [folder / name for name in CLIPS if (folder / name).is_file()] if folder else []


def compose(shown: Sequence[Person], width: int, height: int) -> Iterator[np.ndarray]:
    """Endless clean frames (height, width, 3) uint8 RGB: the people side by side, nothing painted yet."""
    sides = [round(width * column / len(shown)) for column in range(len(shown) + 1)]
    widths = [right - left for left, right in pairwise(sides)]
    windows = [_window(person, column, height) for person, column in zip(shown, widths, strict=True)]
    for number in count():
        columns = [
            cv2.warpAffine(
                person.at(number), window, (column, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
            )
            for person, window, column in zip(shown, windows, widths, strict=True)
        ]
        yield np.hstack(columns)


def camera_frames(shown: Sequence[Person], width: int, height: int, length: int) -> Iterator[np.ndarray]:
    """`length` frames as a camera gives them: with noise, and with their number painted."""
    random = np.random.default_rng(1)
    noise = [random.normal(0, NOISE, (height, width, 3)).astype(np.int16) for _ in range(NOISE_FIELDS)]
    for number, clean in zip(range(length), compose(shown, width, height), strict=False):
        noisy = np.clip(clean + noise[number % NOISE_FIELDS], 0, 255).astype(np.uint8)
        paint(noisy, number)
        yield noisy


def write(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Write frames (H, W, 3) uint8 RGB as a .mjpeg clip: JPEG pictures one after the other.

    Chromium takes the full range of a JPEG's levels for video levels (16 to 235), which would add 16 % of contrast: the
    pictures are written with video levels, so that the page's camera shows the colours that came in here.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for frame in frames:
            levels = cv2.convertScaleAbs(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), alpha=219 / 255, beta=16)
            _, encoded = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            file.write(encoded.tobytes())


def paint(frame: np.ndarray, number: int) -> None:
    """Paint `number` (0 to 65535) into the top left corner of `frame` (H, W, 3)."""
    side = frame.shape[1] // BLOCKS_ACROSS
    for place, bit in enumerate(_bits(number)):
        row, column = divmod(place, COLUMNS)
        frame[row * side : (row + 1) * side, column * side : (column + 1) * side] = WHITE if bit else BLACK


def read(frame: np.ndarray) -> int | None:
    """The number painted into `frame` (H, W, 3), or None when it cannot be read."""
    side = frame.shape[1] / BLOCKS_ACROSS
    bits = []
    for place in range(BITS + CHECK_BITS):
        row, column = divmod(place, COLUMNS)
        y, x = int((row + 0.5) * side), int((column + 0.5) * side)
        bits.append(int(frame[y - 1 : y + 1, x - 1 : x + 1].mean() > 128))
    number = int("".join(map(str, bits[:BITS])), 2)
    return number if bits == _bits(number) else None


def grey_grid(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The face in `box` (whole px, sides a multiple of GRID) as (GRID, GRID) float: for telling drawn from raw."""
    left, top, right, bottom = box
    face = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    rows, columns = ((bottom - top) // GRID, (right - left) // GRID)
    return face.reshape(GRID, rows, GRID, columns).mean(axis=(1, 3))


def middle_of(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """(4,) int: the middle of a face's box within the frame, brows to mouth, where no drawn face is like the raw one.

    Its corner is even and its sides are multiples of 2 GRID, so that a decoder's memory can be read cell by cell.
    """
    cell = 2 * GRID
    centre, sides = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * 0.75
    sides = np.maximum(1, np.round(sides / cell)).astype(int) * cell
    corner = np.round((centre - sides / 2) / 2).astype(int) * 2
    corner = np.clip(corner, 0, np.array([width, height]) - sides)
    return np.concatenate([corner, corner + sides])


def _bits(number: int) -> list[int]:
    check = sum((number >> shift) & 15 for shift in (0, 4, 8, 12)) * 7 + 5 & 15
    return [(number >> (BITS - 1 - place)) & 1 for place in range(BITS)] + [
        (check >> (CHECK_BITS - 1 - place)) & 1 for place in range(CHECK_BITS)
    ]


def _frames(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read_frame := video.read())[0]:
        frames.append(cv2.cvtColor(read_frame[1], cv2.COLOR_BGR2RGB))
    if not frames:
        raise DataError(f"{path} is not a video that can be read.")
    return frames


def _moved_astronaut() -> list[np.ndarray]:
    from skimage import data

    picture, frames = data.astronaut(), []
    for number in range(150):
        turn = 2 * np.pi * number / 150
        matrix = cv2.getRotationMatrix2D((225, 120), 4 * np.sin(turn), 1 + 0.06 * np.sin(2 * turn))
        matrix[:, 2] += (14 * np.sin(turn), 8 * np.cos(turn))
        frames.append(cv2.warpAffine(picture, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE))
    return frames


def _person(frames: list[np.ndarray]) -> Person:
    found = RetinaFace()(frames[0])
    if not found:
        raise DataError("no face in the first frame of a clip.")
    return Person(frames, found[0].box)


def _window(person: Person, width: int, height: int) -> np.ndarray:
    """(2, 3) matrix from a person's frame into width x height: the face upright in the middle, FACE_SHARE high."""
    scale = min(FACE_SHARE * height, 0.45 * width) / (person.box[3] - person.box[1])
    x, y = (person.box[:2] + person.box[2:]) / 2
    return np.array([[scale, 0, width / 2 - scale * x], [0, scale, 0.48 * height - scale * y]], np.float32)
