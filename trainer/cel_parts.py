"""Eyes, brows, nose, mouth and glasses as animated films draw them, at the points of a real face.

Where a face looks, how far its eyes and mouth are open and how its brows stand is the photo's; all else is one style.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from faces.looks import Look
from faces.regions import fill
from trainer.pen import Pen, ellipse

# Points of the 468, left in the picture first. Lids from the outer corner to the inner one.
UPPER_LIDS = ([33, 246, 161, 160, 159, 158, 157, 173, 133], [263, 466, 388, 387, 386, 385, 384, 398, 362])
LOWER_LIDS = ([33, 7, 163, 144, 145, 153, 154, 155, 133], [263, 249, 390, 373, 374, 380, 381, 382, 362])
BROWS = ([70, 63, 105, 66, 107], [300, 293, 334, 296, 336])
UNDER_BROWS = ([46, 53, 52, 65, 55], [276, 283, 282, 295, 285])
UPPER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]  # the edges towards the opening
LOWER_LIP = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
_FOLDS = ([129, 203, 206, 216], [358, 423, 426, 436])  # from the nose to the corners of the mouth
_TEMPLES = (127, 356)

INK = np.array([52, 34, 32], np.float32)
IRIS = np.array([112, 66, 44], np.float32)
WHITE, SHADED_WHITE = np.array([250, 249, 248]), np.array([196, 190, 202])
LIGHT = (255, 255, 255)
MOUTH, TEETH, TONGUE = (150, 62, 62), (252, 250, 248), (222, 120, 120)
GREY, DARK_GLASS = np.array([120, 112, 112]), (44, 40, 48)
SIZE = 1.25  # width of a drawn eye, of the real one
AJAR = 0.12  # openness from which an eye shows more than its lashes
OLD = (42.0, 62.0)  # years, from which age shows, and shows in full
WEARS = 0.5  # likelihood from which glasses are drawn


@dataclass(frozen=True)
class Who:
    """What the drawing shows of a person: old, male in [0, 1]; glasses."""

    old: float
    male: float
    glasses: bool

    @classmethod
    def of(cls, look: Look) -> "Who":
        """Nobody is taken for half a man unless the look leaves it open."""
        male = float(np.interp(look.female, (0.3, 0.7), (1, 0)))
        return cls(float(np.interp(look.age, OLD, (0, 1))), male, look.glasses > WEARS)


@dataclass(frozen=True)
class Eye:
    """upper, lower: (9, 2) px, the lids from the outer corner to the inner one; size: of the drawn eye's width."""

    upper: np.ndarray
    lower: np.ndarray
    size: float

    @cached_property
    def inwards(self) -> np.ndarray:
        """Unit vector to the nose."""
        across = self.upper[-1] - self.upper[0]
        return across / (np.linalg.norm(across) + 1e-6)

    @cached_property
    def down(self) -> np.ndarray:
        """Unit vector to the cheek."""
        turned = np.array([-self.inwards[1], self.inwards[0]])
        return turned if turned[1] > 0 else -turned

    @cached_property
    def real_width(self) -> float:
        """px between the corners."""
        return float(np.linalg.norm(self.upper[-1] - self.upper[0]))

    @cached_property
    def width(self) -> float:
        """px, as drawn."""
        return self.real_width * self.size

    @cached_property
    def height(self) -> float:
        """px, as drawn."""
        return 0.86 * self.width * self.openness

    @cached_property
    def openness(self) -> float:
        """0: shut, 1: open as eyes are."""
        gap = float((self.lower[4] - self.upper[4]) @ self.down) / (self.real_width + 1e-6)
        return float(np.interp(gap, (0.05, 0.34), (0, 1.15)))

    def at(self, inwards: np.ndarray, down: np.ndarray) -> np.ndarray:
        """(N,), (N,) px from the middle of the drawn eye, which lies a little over the real one's -> (N, 2)."""
        middle = (self.upper[0] + self.upper[-1]) / 2 - 0.06 * self.real_width * self.down
        return middle + np.outer(inwards, self.inwards) + np.outer(down, self.down)

    def gaze(self, photo: np.ndarray) -> float:
        """How far the dark of the iris lies from the middle towards the nose, of half the eye's width."""
        outline = np.vstack([self.upper, self.lower[::-1]])
        inside = np.zeros(photo.shape[:2], np.uint8)
        fill(inside, outline, 255)
        y, x = np.nonzero(inside)
        if len(x) < 12:
            return 0.0
        grey = photo[y, x].mean(axis=1)
        dark, light = np.percentile(grey, (5, 80))
        weight = np.clip((light - grey) / (light - dark + 1e-3), 0, 1) ** 2
        iris = weight @ np.stack([x, y], axis=1) / (weight.sum() + 1e-6)
        middle = (self.upper[0] + self.upper[-1]) / 2
        return float(np.clip((iris - middle) @ self.inwards / (self.real_width / 2), -0.45, 0.45))


def eyes_of(points: np.ndarray, who: Who) -> tuple[Eye, Eye]:
    """points: (468, 2) px. Men's and old people's eyes are drawn a little smaller."""
    size = SIZE * (1 - 0.14 * who.male) * (1 - 0.12 * who.old)
    return tuple(Eye(points[upper], points[lower], size) for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True))


def draw_eye(pen: Pen, eye: Eye, photo: np.ndarray) -> None:
    """White, iris and lights, lashes, the fold over them."""
    half, high = eye.width / 2, eye.height
    across = np.linspace(-1, 1, 25)  # from the outer corner
    upper = eye.at(half * across, -0.56 * high * (1 - np.abs(across + 0.08) ** 2.6).clip(0))
    lower = eye.at(half * across, 0.44 * high * (1 - np.abs(across + 0.10) ** 2.6).clip(0))
    brush = 0.085 * eye.width
    if eye.openness > AJAR:
        outline = np.vstack([upper, lower[::-1]])
        pen.shape(outline, np.stack([SHADED_WHITE, WHITE, WHITE, WHITE]))
        _draw_iris(pen, eye, eye.gaze(photo), outline)
        part = (across > -0.95) & (across < 0.55)
        pen.stroke(lower[part], brush * np.interp(across[part], (-0.95, -0.5, 0.55), (0.5, 0.32, 0.1)), INK, 0.8)
        part = (across > -0.75) & (across < 0.8)
        fold = upper[part] - 0.12 * eye.width * eye.down
        pen.stroke(fold, brush * np.interp(across[part], (-0.75, 0, 0.8), (0.16, 0.26, 0.08)), INK, 0.45)
    wing = eye.at(np.array([-1.12 * half]), np.array([-0.1 * high - 0.03 * eye.width]))
    widths = np.interp(np.append(-1.1, across), (-1.1, -0.8, -0.2, 0.6, 1), (0.35, 1.15, 1.1, 0.75, 0.3))
    pen.stroke(np.vstack([wing, upper]), brush * widths, INK)


def _draw_iris(pen: Pen, eye: Eye, gaze: float, outline: np.ndarray) -> None:
    wide = 0.276 * eye.width
    high = max(0.56 * eye.height, 0.95 * wide)
    centre = eye.at(np.array([gaze * 0.375 * eye.width]), np.array([-0.03 * eye.height]))[0]
    across, down = eye.inwards * wide, eye.down * high
    pen.shape(ellipse(centre, across, down), IRIS * 0.32, inside=outline)
    inner = np.stack([IRIS * 0.38, IRIS * 1.45]).clip(0, 255)
    pen.shape(ellipse(centre, across * 0.86, down * 0.9), inner, inside=outline)
    pen.shape(ellipse(centre - down * 0.03, across * 0.42, down * 0.46), IRIS * 0.2, 0.95, outline)
    # Lights in the middle: training mirrors pictures.
    pen.shape(ellipse(centre - down * 0.42, across * 0.36, down * 0.25), LIGHT, 1.0, outline)
    pen.shape(ellipse(centre + down * 0.52, across * 0.22, down * 0.12), LIGHT, 0.85, outline)


def draw_brow(pen: Pen, points: np.ndarray, side: int, eye: Eye, who: Who, apart: float) -> None:
    """Where it is, but over the drawn eye. apart: px between the eyes."""
    brow = (points[BROWS[side]] + points[UNDER_BROWS[side]]) / 2
    top = eye.at(np.zeros(1), np.array([-0.56 * eye.height]))[0]
    rise = max(0.0, float((brow[2] - top) @ eye.down) + 0.15 * apart)
    colour = INK * 1.5 * (1 - 0.6 * who.old) + GREY * 0.6 * who.old
    widths = (0.055 + 0.05 * who.male) * apart * np.array([0.3, 0.8, 1.0, 1.0, 0.7])
    pen.stroke(brow - rise * eye.down, widths, colour, 0.9)


def draw_nose(pen: Pen, points: np.ndarray, skin: np.ndarray, apart: float) -> None:
    """The shade under it."""
    under = points[2]
    line = points[[98, 2, 327]] * 0.35 + under * 0.65
    line[1, 1] += 0.01 * apart
    pen.stroke(line, 0.03 * apart * np.array([0.5, 1, 0.5]), skin * (0.62, 0.48, 0.46), 0.85)


def draw_mouth(pen: Pen, points: np.ndarray, skin: np.ndarray) -> None:
    """A line, or with the lips apart their opening with teeth and tongue."""
    upper, lower = points[UPPER_LIP], points[LOWER_LIP]
    middle = (upper[5] + lower[5]) / 2
    upper, lower = middle + (upper - middle) * 0.9, middle + (lower - middle) * 0.9
    width, gap = float(np.linalg.norm(upper[0] - upper[-1])), float(np.linalg.norm(lower[5] - upper[5]))
    ink, along = INK * 1.6, np.arange(len(upper))
    if gap > 0.075 * width:
        opening = np.vstack([upper, lower[::-1]])
        pen.shape(opening, MOUTH)
        drop = np.minimum(0.62 * np.linalg.norm(lower - upper, axis=1), 0.16 * width)
        teeth = upper + drop[:, None] * (lower - upper) / (np.linalg.norm(lower - upper, axis=1, keepdims=True) + 1e-6)
        pen.shape(np.vstack([upper, teeth[::-1]]), TEETH)
        if gap > 0.28 * width:
            across, down = (upper[-1] - upper[0]) * 0.26, (lower[5] - middle) * 0.44
            pen.shape(ellipse(middle + down * 1.5, across, down), TONGUE, inside=opening)
        pen.stroke(upper, 0.036 * width * np.interp(along, (0, 5, 10), (0.7, 1.1, 0.7)), ink, 0.9)
        pen.stroke(lower, 0.03 * width * np.interp(along, (0, 5, 10), (0.6, 0.9, 0.6)), ink, 0.8)
    else:
        widths = 0.042 * width * np.interp(along, (0, 1, 5, 9, 10), (0.5, 1.2, 1, 1.2, 0.5))
        pen.stroke((upper + lower) / 2, widths, ink, 0.9)
    pen.stroke(points[[84, 17, 314]], 0.035 * width, skin * (0.84, 0.64, 0.62), 0.6)


def draw_age(pen: Pen, points: np.ndarray, skin: np.ndarray, who: Who, apart: float) -> None:
    """Folds beside the nose and under the eyes of the old."""
    if who.old <= 0:
        return
    for fold in _FOLDS:
        pen.stroke(points[fold], 0.03 * apart * np.array([0.2, 1, 1, 0.2]), skin * (0.66, 0.52, 0.5), 0.8 * who.old)
    for lid in LOWER_LIDS:
        line = points[lid][[1, 4, 7]] + [0, 0.17 * apart]
        pen.stroke(line, 0.024 * apart * np.array([0.2, 1, 0.2]), skin * (0.7, 0.56, 0.54), 0.65 * who.old)


def draw_glasses(pen: Pen, points: np.ndarray, eyes: tuple[Eye, Eye], dark: bool, apart: float) -> None:
    """Frames about the drawn eyes; dark: of sunglasses, which hide them."""
    lenses = []
    for eye in eyes:
        centre = eye.at(np.zeros(1), np.array([0.1 * eye.real_width]))[0]
        across, down = eye.inwards * 0.82 * eye.real_width, eye.down * 0.62 * eye.real_width
        lens = ellipse(centre, across, down, power=0.7)
        if dark:
            pen.shape(lens, DARK_GLASS, 0.92)
        pen.stroke(np.vstack([lens, lens[:1]]), 0.035 * apart, INK)
        lenses.append((centre, across))
    (left, left_in), (right, right_in) = lenses
    ends = np.stack([left + left_in, right + right_in])
    bridge = np.stack([ends[0], ends.mean(axis=0) - 0.04 * apart * eyes[0].down, ends[1]])
    pen.stroke(bridge, 0.035 * apart, INK)
    for (centre, inwards), temple in zip(lenses, _TEMPLES, strict=True):
        pen.stroke(np.stack([centre - inwards, points[temple]]), 0.03 * apart, INK)
