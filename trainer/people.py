"""Folders of people for learning a face-ID network: IN/<person>/*.jpg, and the batch of any step.

Every random choice follows from (seed, step, position), so that a run resumed at a step sees what it would have seen.
"""

import hashlib
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from faces.pictures import pictures, read
from livetoon.errors import DataError, UsageError

KEPT_BYTES = 2 << 30  # decoded pictures held in memory; those beyond are decoded again at every use
SMALLEST_PX = 16  # a face of fewer pixels shows nobody
SLACK = 8 / 7  # a picture is kept a little larger than the network's face, for crops that lose no detail
PROGRESS = 2000  # pictures between two lines of progress while they are read


def _help(text: str, default):
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Recipe:
    """How a face-ID network is learned; margin and scale as published (ArcFace, arXiv 1801.07698, section 3.1)."""

    dimensions: int = _help("length of the vector", 512)
    width: int = _help("channels of the network's first map; the published networks have 64", 64)
    size: int = _help("side of a face, pixels, a multiple of 16; the published networks take 112", 112)
    steps: int = _help("length of the whole run; its learning rate ends at zero", 20_000)
    batch: int = _help("pictures a step", 64)
    rate: float = _help("highest learning rate of AdamW, after a tenth of the steps, at most 1000", 1e-3)
    decay: float = _help("weight decay of AdamW", 0.05)
    margin: float = _help("angle, in radians, by which a face must be nearer to its own person", 0.5)
    scale: float = _help("what cosines are multiplied by before the softmax", 64.0)
    hold_out: float = _help("share of a person's pictures, 0 to 0.5, that only measure", 0.0)
    pictures: str = _help("faces: a picture is a face; heads: the face is cut out as --crop says", "faces")
    crop: str = _help("where the face lies in the heads that the network will meet: livetoon or published", "livetoon")
    seed: int = _help("every random choice follows from it", 0)

    def checked(self) -> "Recipe":
        """Itself; UsageError names the field that cannot be."""
        for name in ("dimensions", "width", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)}: expected at least 1")
        if self.batch < 2:
            raise UsageError(f"--batch {self.batch}: expected at least 2, batch normalization needs them")
        if self.size < 16 or self.size % 16:
            raise UsageError(f"--size {self.size}: expected a multiple of 16")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: expected at least 0")
        for name, least, most in (("rate", 0, 1), ("decay", 0, 1), ("margin", 0, 1.5), ("scale", 1, 1000)):
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"--{name} {getattr(self, name)}: expected a number from {least} to {most}")
        if not 0 <= self.hold_out <= 0.5:
            raise UsageError(f"--hold-out {self.hold_out}: expected a share from 0 to 0.5")
        for name, known in (("pictures", ("faces", "heads")), ("crop", ("livetoon", "published"))):
            if getattr(self, name) not in known:
                raise UsageError(f"--{name} {getattr(self, name)}: expected {' or '.join(known)}")
        return self


@dataclass(frozen=True)
class People:
    """names: of the persons; learned, held: (picture, index of its person)."""

    names: tuple[str, ...]
    learned: tuple[tuple[Path, int], ...]
    held: tuple[tuple[Path, int], ...]

    def fingerprint(self) -> str:
        """Tells whether a run goes on with the same pictures, without keeping anybody's name."""
        listed = "\n".join(f"{self.names[label]}/{path.name}" for path, label in self.learned)
        return hashlib.sha256(listed.encode()).hexdigest()


def find(folder: Path, hold_out: float = 0.0) -> People:
    """The people of a folder, those with two pictures or more, and the share of their pictures that is held out:
    those with the smallest sha256 of their names, so the same in every run; a person gives at least two or none.

    DataError where there are not two such people.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a folder for each person, IN/<person>/*.jpg")
    names, learned, held, alone = [], [], [], 0
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = pictures(place)
        if len(found) < 2:
            alone += len(found)
            continue
        count = int(len(found) * hold_out)
        count = count if count >= 2 else 0
        shuffled = sorted(found, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
        held += [(path, len(names)) for path in sorted(shuffled[:count])]
        learned += [(path, len(names)) for path in sorted(shuffled[count:])]
        names.append(place.name)
    if len(names) < 2:
        raise DataError(
            f"{folder}: {len(names) or 'no'} folder of a person with two pictures or more; "
            "expected at least two people, IN/<person>/*.jpg"
        )
    if hold_out and len({label for _, label in held}) < 2:
        raise DataError(
            f"{folder}: --hold-out {hold_out} leaves no two people with two held-out pictures each; "
            f"expected people with {math.ceil(2 / hold_out)} pictures or more"
        )
    if alone:
        print(f"{folder}: {alone} people with a single picture are left out", file=sys.stderr)
    return People(tuple(names), tuple(learned), tuple(held))


class Faces:
    """Pictures of people as the network is fed them; all are decoded once at the start, so that a broken one is named
    before hours are spent. `cut`: (S, S, 3) uint8 head -> face of any side."""

    def __init__(
        self,
        found: tuple[tuple[Path, int], ...],
        size: int,
        seed: int,
        cut: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self.paths = [path for path, _ in found]
        self.labels = np.array([label for _, label in found], np.int64)
        self.size, self.seed, self.cut = size, seed, cut
        self.side = round(size * SLACK)
        self.kept: list[np.ndarray] = []
        most = KEPT_BYTES // (self.side**2 * 3)
        with ThreadPoolExecutor(2) as pool:
            for index, picture in enumerate(pool.map(self._read, range(len(self.paths))), start=1):
                if index <= most:
                    self.kept.append(picture)
                if index % PROGRESS == 0:
                    print(f"read {index} of {len(self.paths)} pictures", file=sys.stderr)

    def _read(self, index: int) -> np.ndarray:
        picture = read(self.paths[index])
        if min(picture.shape[:2]) < SMALLEST_PX:
            height, width = picture.shape[:2]
            raise DataError(f"{self.paths[index]}: {width}x{height} px shows no face; take it out of the folder")
        picture = self.cut(picture) if self.cut else picture
        return cv2.resize(picture, (self.side, self.side), interpolation=cv2.INTER_AREA)

    def picture(self, index: int) -> np.ndarray:
        """(side, side, 3) uint8 RGB."""
        return self.kept[index] if index < len(self.kept) else self._read(index)

    def plain(self, first: int, last: int) -> np.ndarray:
        """Pictures first to last - 1, not altered: (N, 3, size, size) float32 in [-1, 1]."""
        shrunk = [
            cv2.resize(self.picture(index), (self.size, self.size), interpolation=cv2.INTER_AREA)
            for index in range(first, last)
        ]
        return np.stack(shrunk).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1

    def batch(self, step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(count, 3, size, size) float32 in [-1, 1] and their labels (count,): every picture once before any twice."""
        places = np.arange(step * count, (step + 1) * count)
        rounds = places // len(self.paths)
        orders = {
            turn: np.random.default_rng((self.seed, 1, turn)).permutation(len(self.paths)) for turn in set(rounds)
        }
        chosen = [orders[turn][place % len(self.paths)] for place, turn in zip(places, rounds, strict=True)]
        varied = [
            self._varied(self.picture(index), np.random.default_rng((self.seed, 2, step, position)))
            for position, index in enumerate(chosen)
        ]
        return np.stack(varied).transpose(0, 3, 1, 2), self.labels[chosen]

    def _varied(self, picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Mirrored at even odds, cut to 88 to 100 % of its side, a little brighter or darker."""
        if random.random() < 0.5:
            picture = picture[:, ::-1]
        side = int(self.side * random.uniform(0.88, 1.0))
        left, top = random.integers(0, self.side - side + 1, 2)
        part = np.ascontiguousarray(picture[top : top + side, left : left + side])
        face = cv2.resize(part, (self.size, self.size), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 127.5 - 1
        return np.clip(face * random.uniform(0.8, 1.2) + random.uniform(-0.15, 0.15), -1, 1).astype(np.float32)
