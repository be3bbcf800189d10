"""How true an engine draws: real crops, and beside it the drawing of the network that it was made of.

The crops are one face moved, turned, zoomed, mirrored, in other light: the astronaut Eileen Collins (`proof.jpg`, cut
out of scikit-image's picture; photograph by NASA, public domain).
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from livetoon.errors import EngineError

PICTURE = Path(__file__).with_name("proof.jpg")
FACE = (170.0, 112.0)  # px in the picture, between eyes and mouth
SIDE = 215.0  # px there that a crop shows: 4.64 eye distances, as in live video
SEED = 2026


class Crops:
    """What engines are judged on: up to `count` crops of `folder`, or the astronaut's."""

    def __init__(self, folder: Path | None, size: int, count: int):
        self._folder, self._size, self._count = folder, size, count

    @cached_property
    def pictures(self) -> np.ndarray:
        """(N, S, S, 3) uint8 RGB."""
        if self._folder is None:
            return astronaut_crops(self._count, self._size)
        from calib.crops import read_crops

        return read_crops([self._folder], self._count, self._size)

    @cached_property
    def digest(self) -> str:
        """The same for the same crops. Reads none of the astronaut's: what they are made of tells."""
        if self._folder is None:
            made_of = f"{self._count} {SEED} {FACE} {SIDE}".encode()
            return f"astronaut {hashlib.sha256(made_of + PICTURE.read_bytes()).hexdigest()[:16]}"
        return hashlib.sha256(self.pictures.tobytes()).hexdigest()


def astronaut_crops(count: int, size: int, seed: int = SEED) -> np.ndarray:
    """(count, size, size, 3) uint8 RGB, the same for the same `seed`."""
    import cv2

    picture = cv2.cvtColor(cv2.imread(str(PICTURE)), cv2.COLOR_BGR2RGB)
    random = np.random.default_rng(seed)
    return np.stack([_moved(picture, size, random) for _ in range(count)])


def _moved(picture: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    import cv2

    matrix = cv2.getRotationMatrix2D(FACE, random.uniform(-12, 12), size / SIDE * random.uniform(0.85, 1.2))
    matrix[:, 2] += size / 2 - np.array(FACE) + random.uniform(-0.06, 0.06, 2) * size
    crop = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    lit = 255 * (crop / 255.0) ** random.uniform(0.7, 1.5) * random.uniform(0.75, 1.1)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Agreement:
    """PSNR in dB over the range 2, mean over crops and of the worst crop; the largest error of any value."""

    mean_db: float
    worst_db: float
    largest: float


def agreement(got: np.ndarray, expected: np.ndarray) -> Agreement:
    """got, expected: (N, C, S, S) float32, RGB in [-1, 1], alpha in [0, 1]. What is no number agrees with nothing."""
    decibels = [psnr_db(one, true) for one, true in zip(got, expected, strict=True)]
    return Agreement(float(np.mean(decibels)), float(np.min(decibels)), float(np.abs(got - expected).max()))


def psnr_db(got: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal-to-noise ratio over the range 2 of pictures in [-1, 1]."""
    mean_square = float(np.mean(np.square(got.astype(np.float64) - expected)))
    return 10 * np.log10(4 / max(mean_square, 1e-20))


def planes(pictures: np.ndarray) -> np.ndarray:
    """(N, S, S, C) uint8 -> (N, C, S, S) float32: RGB in [-1, 1], alpha (of four channels the last) in [0, 1]."""
    made = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    made[:, :3] = made[:, :3] * 2 - 1
    return made


def graph_drawn(graph: Path | bytes, x: np.ndarray, batch: int = 1) -> np.ndarray:
    """What ONNX Runtime draws, crop by crop. x: (N, 3, S, S) float32 in [-1, 1] -> (N, 4, S, S), RGB in [-1, 1].

    graph: input `crop`, output `rgba` in [0, 1]. batch: crops that it takes a call. EngineError where it is none.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no narrower base class
        where = f"{graph}: " if isinstance(graph, Path) else ""
        raise EngineError(f"{where}ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error
    rgba = np.concatenate([session.run(["rgba"], {"crop": each[None].repeat(batch, axis=0)})[0][:1] for each in x])
    rgba[:, :3] = rgba[:, :3] * 2 - 1
    return rgba
