"""The person in a picture: an alpha for any crop and any whole picture, by a small network of our own.

    picture -> squeezed into 128 px -> network -> alpha -> steadied (video) -> laid on the picture's own edges

The network (trainer/matte.py) saw squeezed pictures too, so a wide frame uses all of the square. `python -m faces.matte
IN OUT` writes pictures with their alpha as PNG.
"""

import argparse
import math
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from faces import weights
from faces.calm import Moved
from faces.nets import open_brought, open_net
from livetoon import cli
from livetoon.errors import DataError, UsageError
from livetoon.files import replacing

FILE = "matte.onnx"
SIDE = 128  # px, input and output of the network
SQUEEZE = 16 / 9  # sides of a picture may differ by this; in a longer frame the square's rest repeats its border

MOST_PARTS = 16  # that a still picture which is longer is looked at in
NEAR = 2  # px of 128 around a pixel in which the picture's edges are looked for
FLAT = 5e-4  # variance of grey in [0, 1] below which there is no edge to follow
NOTHING, EVERYTHING = 40, 215  # of 255: what is nearly background or nearly person is made so, or a haze would stay
REFINED_PX = 2048  # longer side at which edges are found; a larger alpha is enlarged from there

SURELY_ROOM = 0.1  # alpha up to which a hole in a person is one
LEVELS = (0.5, 0.7, 0.9)  # alphas that surround holes
STILL_S = 0.3  # where the picture does not change its alpha follows as slowly as this: a flicker is averaged away


class Matte:
    """The network; one call at a time.

    >>> import numpy
    >>> Matte()(numpy.zeros((48, 64, 3), numpy.uint8)).shape
    (48, 64)
    """

    def __init__(self, models: Path = weights.FOLDER, file: Path | None = None):
        """file: another network than the shipped one, whose hash is not checked."""
        self._net = open_brought(file, (1, 3, SIDE, SIDE), ["alpha"]) if file else open_net(weights.path(FILE, models))

    def __call__(self, picture: np.ndarray, steady: "Steady | None" = None, t: float = 0.0) -> np.ndarray:
        """picture: (H, W, 3) uint8 RGB -> (H, W) uint8, 255 = person.

        Of a video, `steady` is the memory and `t` the time in seconds. DataError for what is not such a picture.
        """
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            came = f"{picture.shape} {picture.dtype}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise DataError(f"expected a picture (H, W, 3) uint8 RGB, got {came}; convert grey or RGBA pictures first")
        if not picture.size:
            raise DataError(f"expected a picture with pixels, got {picture.shape[1]}x{picture.shape[0]}")
        if steady is None and len(parts := _parts(*picture.shape[:2])) > 1:
            return self._joined(picture, parts)
        square, inside = squeezed(picture)
        alpha = self._net(network_input(square)[None])["alpha"][0, 0]
        grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
        if steady is not None:
            alpha = steady(alpha, grey, t)
        found = refined(whole(alpha[inside]), grey[inside], picture)
        return found if steady is None else steady.held(found, inside)

    def _joined(self, picture: np.ndarray, parts: list[slice]) -> np.ndarray:
        """The alpha of a long picture, whose parts go over into each other where they overlap."""
        lying, length = picture.shape[1] > picture.shape[0], max(picture.shape[:2])
        joined = np.zeros(picture.shape[:2], np.float32)
        for part in parts:
            place = np.s_[:, part] if lying else np.s_[part]
            # Towards a cut a part sees less and less of whoever stands there: the next part knows better.
            at = np.arange(part.start, part.stop, dtype=np.float32)
            first = at - part.start if part.start else np.float32(np.inf)
            last = part.stop - 1 - at if part.stop < length else np.float32(np.inf)
            weight = (np.minimum(first, last) * np.float32(4 / len(at))).clip(0, 1) * np.ones_like(at)
            alpha = self(np.ascontiguousarray(picture[place]))
            np.maximum(joined[place], alpha * (weight if lying else weight[:, None]), out=joined[place])
        return np.rint(joined).astype(np.uint8)


class Steady:
    """Alpha of one video over time: what did not move keeps its alpha, what moved has its new one at once."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Forget the video: the next alpha is taken as it is."""
        self._alpha: np.ndarray | None = None
        self._share: np.ndarray | None = None
        self._held: np.ndarray | None = None
        self._moved = Moved(STILL_S)

    def __call__(self, alpha: np.ndarray, grey: np.ndarray, t: float) -> np.ndarray:
        """alpha: (128, 128) float32; grey: (128, 128) uint8, the picture; t: seconds -> (128, 128) float32."""
        share = self._share = self._moved(grey, t)
        known = share is not None and self._alpha is not None
        self._alpha = self._alpha + share * (alpha - self._alpha) if known else alpha.copy()
        return self._alpha

    def held(self, alpha: np.ndarray, inside: tuple[slice, slice]) -> np.ndarray:
        """The same for the alpha (H, W) uint8 of the whole picture, whose edges follow the noise of its pixels; inside:
        the part of the small one that the picture fills."""
        if self._share is not None and self._held is not None and self._held.shape == alpha.shape:
            height, width = alpha.shape
            share = cv2.resize(self._share[inside], (width, height), interpolation=cv2.INTER_LINEAR)
            alpha = cv2.blendLinear(alpha, self._held, share, 1 - share)
        self._held = alpha
        return alpha


def _parts(height: int, width: int) -> list[slice]:
    """Of a picture longer than `SQUEEZE` the overlapping parts along its longer side that are looked at one by one: a
    person is too small in the whole of it. One part for other pictures, and for those that are hardly pictures."""
    short, length = sorted((height, width))
    part = round(SQUEEZE * short)
    count = 1 + math.ceil(max(0, length - part) / max(1, part // 2))
    if count > MOST_PARTS or length <= part:
        return [slice(0, length)]
    return [slice(start, start + part) for start in np.linspace(0, length - part, count).round().astype(int).tolist()]


def squeezed(picture: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
    """(H, W, 3) uint8 -> (128, 128, 3) uint8, and the rows and columns of it that the picture fills.

    A very wide picture stands at the bottom, a very high one in the middle, as people do.
    """
    height, width = picture.shape[:2]
    rows = max(1, round(SIDE * min(1.0, SQUEEZE * height / width)))
    columns = max(1, round(SIDE * min(1.0, SQUEEZE * width / height)))
    small = shrunk(picture, columns, rows)
    top, left = SIDE - rows, (SIDE - columns) // 2
    if top or columns < SIDE:
        small = cv2.copyMakeBorder(small, top, 0, left, SIDE - columns - left, cv2.BORDER_REPLICATE)
    return small, (slice(top, SIDE), slice(left, left + columns))


def shrunk(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Averaged down by halves, then taken to its size: 0.2 ms for 640x480, where averaging in one step takes 1.0."""
    while picture.shape[0] >= 2 * height and picture.shape[1] >= 2 * width:
        half = picture.shape[1] // 2, picture.shape[0] // 2
        picture = cv2.resize(picture[: half[1] * 2, : half[0] * 2], half, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)


def whole(alpha: np.ndarray) -> np.ndarray:
    """alpha (h, w) float32 without the holes that the network is unsure of: what the person surrounds on all sides is
    the person, unless it is surely the room, as between an arm and the body. The picture's lower side surrounds too.
    """
    height, width = alpha.shape
    filled = alpha.copy()
    unsure = alpha > SURELY_ROOM
    for level in LEVELS:
        below = np.ones((height + 2, width + 2), np.uint8)  # with a frame to flood from
        below[1:-1, 1:-1] = filled < level
        below[-1, 1:-1] = 0
        for corner in ((0, 0), (width + 1, 0)):
            cv2.floodFill(below, None, corner, 2)
        hole = below == 1
        filled[hole[1:-1, 1:-1] & unsure] = 1
    return filled


def network_input(square: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 RGB -> (3, 128, 128) float32 in [-1, 1]."""
    return square.transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)


def refined(alpha: np.ndarray, grey: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """alpha: (h, w) float32 of the small picture `grey` (h, w) uint8 -> (H, W) uint8 of the whole `picture`.

    A guided filter (arXiv 1505.00996): near each small pixel alpha is a line of the grey level, whose slope and height
    are found small and drawn large, so that an edge comes back as fine as the picture shows it.
    """
    height, width = picture.shape[:2]
    if max(height, width) > REFINED_PX:
        scale = REFINED_PX / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        part = refined(alpha, grey, cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    guide = grey * np.float32(1 / 255)
    level, mean = _near(guide), _near(alpha)
    slope = (_near(guide * alpha) - level * mean) / (_near(guide * guide) - level * level + np.float32(FLAT))
    foot = mean - slope * level
    stretch = 255 / (EVERYTHING - NOTHING)
    slope, foot = slope * stretch, (foot * 255 - NOTHING) * stretch
    slope, foot = (cv2.resize(_near(each), (width, height)) for each in (slope, foot))
    whole = cv2.multiply(slope, cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=cv2.CV_32F)
    return cv2.add(whole, foot, dtype=cv2.CV_8U)


def _near(values: np.ndarray) -> np.ndarray:
    return cv2.blur(values, (2 * NEAR + 1, 2 * NEAR + 1), borderType=cv2.BORDER_REPLICATE)


def on_white(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The person of `picture` (H, W, 3) uint8 by alpha (H, W) uint8, before white."""
    weight = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(picture, weight, scale=1 / 255), cv2.bitwise_not(weight))


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m faces.matte",
        "Cut people out: write pictures as PNG in which all but the person is transparent.",
        "python -m faces.matte portrait.jpg portrait.png",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="a picture, or a folder of pictures")
    parser.add_argument("target", metavar="OUT", type=Path, help="a .png file, or a folder for them")
    parser.add_argument("--network", type=Path, metavar="FILE.onnx", help="another network than the shipped one")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    jobs = plan(options.source, options.target)
    matte, failures = Matte(file=options.network), 0
    for source, target in jobs:
        try:
            cut_out(matte, source, target)
        except DataError as error:  # one bad picture does not stop a folder
            if not options.source.is_dir():
                raise
            print(error, file=sys.stderr)
            failures += 1
    if failures == len(jobs):
        raise DataError(f"none of {failures} pictures could be read; what to do stands above")
    if failures:
        raise DataError(f"{failures} of {len(jobs)} pictures could not be read; the others are in {options.target}")


def plan(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """(IN, OUT) of every picture. DataError or UsageError for what cannot be, before anything is written."""
    from faces.pictures import pictures  # live video does without its libraries

    if not source.exists():
        raise DataError(f"{source} does not exist: give a picture or a folder of pictures")
    if target.exists() and target.samefile(source):
        raise UsageError(f"IN and OUT are the same ({source}): give OUT another name")
    if not source.is_dir():
        if target.is_dir():
            raise UsageError(f"OUT is the folder {target}: give the file a name, as {target / source.stem}.png")
        if target.suffix.lower() != ".png":
            raise UsageError(f"{target}: a picture with alpha is written as PNG; give OUT the ending .png")
        return [(source, target)]
    if target.exists() and not target.is_dir():
        raise UsageError(f"IN is a folder and OUT is the file {target}: give OUT the name of a folder")
    if source.resolve() in target.resolve().parents:
        raise UsageError(f"OUT lies inside IN ({source}): the next run would cut out its own pictures; choose another")
    if not (found := pictures(source)):
        raise DataError(f"{source} holds no picture: give another folder, or one of its own folders")
    names = Counter(path.stem for path in found)
    return [(path, target / f"{path.stem if names[path.stem] == 1 else path.name}.png") for path in found]


def cut_out(matte: Matte, source: Path, target: Path) -> None:
    """Write the picture `source` with its alpha; `target` is whole or was not touched."""
    from faces.pictures import read

    picture = read(source)
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGRA)
    pixels[..., 3] = matte(picture)
    made, encoded = cv2.imencode(".png", pixels)
    if not made:
        raise DataError(f"{source}: {picture.shape[1]}x{picture.shape[0]} px are too many for a PNG; make it smaller")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_bytes(encoded)


if __name__ == "__main__":
    sys.exit(main())
