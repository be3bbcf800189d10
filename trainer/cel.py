"""A person as animated films draw them: large eyes with lights, skin in two tones, the rest in flat colours.

No network learned this from drawings: it is a draughtsman's few rules (cel_parts.py), laid over what a teacher drew,
at the points of the face. It needs points, a cut-out person and a sixth of a second. A live network that learns from
it (distill.py) needs none of these, and holds still.
"""

from pathlib import Path

import cv2
import numpy as np

from faces import weights
from faces.landmarks import OVAL
from faces.looks import FILE, Look
from faces.regions import fill
from livetoon.files import sha256
from trainer import cel_parts as parts
from trainer import pen

_CHEEKS = [50, 101, 118, 205, 280, 330, 347, 425, 9, 151]  # and forehead
_BLUSH = (50, 280)
_OUTER_LIPS = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]
_NOSE, _BRIDGE = [98, 327, 4, 2, 195], [6, 168, 197, 122, 351]
SHADE = np.array([0.88, 0.78, 0.77])  # the darker tone of skin, of the lighter one
SHADE_FULL, SHADE_FROM = 0.56, 0.70  # of the cheeks' light, where the photo's light makes skin the darker tone
SUNGLASSES = 0.45  # of the cheeks' light, under which lenses hide the eyes


def cel(photo: np.ndarray, drawing: np.ndarray, points: np.ndarray, look: Look) -> np.ndarray:
    """photo: (S, S, 3) uint8 RGB, an aligned crop on white; drawing: a teacher's of it, alike, with the person's own
    skin; points: (468, 2) px of these, in an aligned crop's places; look: at the photo. -> (S, S, 3) uint8 RGB. Lines
    and flat patches are as wide as suits 256 px."""
    points = np.asarray(points, np.float32)
    who = parts.Who.of(look)
    eyes = parts.eyes_of(points, who)
    apart = float(np.linalg.norm(eyes[1].upper.mean(axis=0) - eyes[0].upper.mean(axis=0)))
    x, y = points[_CHEEKS].round().astype(int).clip(0, photo.shape[0] - 1).T
    own = np.median(drawing[y, x], axis=0)
    skin = skin_colour(own)
    light = cv2.GaussianBlur(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.15 * apart)
    light /= max(float(np.median(light[y, x])), 1.0)

    features = _features(photo.shape[0], points, who, apart)
    ink = _ink(drawing)
    body = _flat(photo, float(np.median(photo[y, x]))) * (0.4 + 0.6 * ink)
    cover = _skin_cover(photo, drawing, points, (own, (y, x)), features)
    shade = _step(light, SHADE_FROM, SHADE_FULL)[..., None]
    clean = cv2.GaussianBlur(np.where(features > 0, 1, ink[..., 0]).astype(np.float32), (0, 0), 0.6)[..., None]
    face = skin * (1 - shade * (1 - SHADE)) * (0.5 + 0.5 * clean)
    blush = _blush(photo.shape[0], points, apart) * (0.35 - 0.17 * who.male)
    face += blush * (skin * (0.98, 0.74, 0.72) - face)
    sheet = pen.Pen((body + cover * (face - body)).clip(0, 255).astype(np.uint8))

    for side, eye in enumerate(eyes):
        parts.draw_eye(sheet, eye, photo)
        parts.draw_brow(sheet, points, side, eye, who, apart)
    parts.draw_nose(sheet, points, skin, apart)
    parts.draw_age(sheet, points, skin, who, apart)
    parts.draw_mouth(sheet, points, skin)
    if who.glasses:
        parts.draw_glasses(sheet, points, eyes, _hidden(light, eyes), apart)
    return sheet.picture()


def skin_colour(own: np.ndarray) -> np.ndarray:
    """(3,) RGB of a person's skin, 0 to 255 -> as it is painted: lighter and purer, in the order that people's are, and
    of a skin's hue whatever light it was seen in."""
    lightness, a, b = cv2.cvtColor(np.float32([[own]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    lightness = float(np.interp(lightness, (0, 30, 60, 80, 100), (40, 50, 76, 90, 95)))
    chroma = np.clip(0.9 * np.hypot(a, b), 10, 24 if lightness > 75 else 30)
    hue = np.clip(np.arctan2(b, a), np.radians(38), np.radians(62))
    painted = np.float32([[[lightness, chroma * np.cos(hue), chroma * np.sin(hue)]]])
    return cv2.cvtColor(painted, cv2.COLOR_LAB2RGB)[0, 0] * 255


def rules() -> str:
    """Tells these rules, and the network that looks at people for them, from others."""
    files = (Path(__file__), Path(parts.__file__), Path(pen.__file__), weights.FOLDER / FILE)
    return " ".join(sha256(file)[:12] for file in files)


def _features(side: int, points: np.ndarray, who: parts.Who, apart: float) -> np.ndarray:
    """(S, S) uint8: 255 where eyes, brows, nose and mouth are, which are drawn anew."""
    mask = np.zeros((side, side), np.uint8)
    about_eyes = (0.25 if who.glasses else 0.13) * apart
    for upper, lower in zip(parts.UPPER_LIDS, parts.LOWER_LIDS, strict=True):
        _fill_about(mask, points[upper + lower], about_eyes)
    for brow, under in zip(parts.BROWS, parts.UNDER_BROWS, strict=True):
        _fill_about(mask, points[brow + under], 0.05 * apart)
    _fill_about(mask, points[_OUTER_LIPS], 0.05 * apart)
    _fill_about(mask, points[_NOSE], 0.06 * apart)
    if who.glasses:
        _fill_about(mask, points[_BRIDGE], 0.03 * apart)
    return mask


def _fill_about(mask: np.ndarray, points: np.ndarray, margin: float) -> None:
    hull = cv2.convexHull(points)[:, 0]
    away = hull - points.mean(axis=0)
    grown = hull + away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6) * margin
    fill(mask, grown, 255)


def _ink(drawing: np.ndarray) -> np.ndarray:
    """(S, S, 1) float32: 0 on the teacher's lines, 1 beside them."""
    grey = cv2.cvtColor(drawing, cv2.COLOR_RGB2GRAY).astype(np.float32)
    about = cv2.GaussianBlur(cv2.dilate(grey, np.ones((5, 5))), (0, 0), 2.5)
    return _step(grey / (about + 1), 0.25, 0.85)[..., None]


def _flat(photo: np.ndarray, brightness: float) -> np.ndarray:
    """(S, S, 3) float32: the photo in flat and purer colours, lighter where the face is dark. brightness: 0 to 255."""
    flat = cv2.pyrMeanShiftFiltering(cv2.bilateralFilter(photo, 7, 40, 5), 8, 24, maxLevel=1)
    flat = cv2.medianBlur(flat, 5).astype(np.float32)
    grey = flat.mean(axis=2, keepdims=True)
    pure = np.clip(grey + (flat - grey) * 1.2, 0, 255)
    lighter = np.clip(140 / max(60.0, brightness), 0.9, 1.5)
    return 255 * (pure / 255) ** (1 / (0.65 + 0.5 * lighter))


def _skin_cover(
    photo: np.ndarray, drawing: np.ndarray, points: np.ndarray, skin: tuple, features: np.ndarray
) -> np.ndarray:
    """(S, S, 1) float32: 1 where skin is painted. skin: its colour in the drawing, and pixels where it is. The teacher
    knows a face from a fringe, and paints skin beyond the face, on the paper as well; there the photo has to agree."""
    own, cheeks = skin
    clean = cv2.inpaint(drawing, features, 4, cv2.INPAINT_TELEA).astype(np.float32)
    drawn = _step(np.abs(cv2.GaussianBlur(clean, (0, 0), 1) - own).max(axis=2), 90, 45)
    face = np.zeros(photo.shape[:2], np.uint8)
    fill(face, points[OVAL], 255)
    face = cv2.GaussianBlur(cv2.erode(face, np.ones((3, 3), np.uint8)), (0, 0), 1).astype(np.float32) / 255
    lab = cv2.cvtColor(cv2.GaussianBlur(photo, (0, 0), 1.5).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    away = (lab - np.median(lab[cheeks], axis=0)) * (0.35, 1, 1)
    seen = _step(np.linalg.norm(away, axis=2).astype(np.float32), 24, 12) * (photo.min(axis=2) < 250)
    redrawn = face * (features > 0) * (cv2.GaussianBlur(drawn, (0, 0), 3) > 0.3)
    cover = np.maximum.reduce([face * drawn, seen * drawn, redrawn])
    return cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 0.8)[..., None]


def _blush(side: int, points: np.ndarray, apart: float) -> np.ndarray:
    """(S, S, 1): 1 in the middle of both cheeks."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    spots = (
        ((x - points[cheek, 0]) / (0.24 * apart)) ** 2 + ((y - points[cheek, 1]) / (0.13 * apart) - 0.15) ** 2
        for cheek in _BLUSH
    )
    return sum(np.exp(-1.6 * spot) for spot in spots)[..., None]


def _hidden(light: np.ndarray, eyes: tuple[parts.Eye, parts.Eye]) -> bool:
    """Whether lenses are dark: under the eyes, where nobody's pupils are. light: (S, S), 1 on the cheeks."""
    under = np.stack([eye.lower[4] + 0.3 * eye.real_width * eye.down for eye in eyes])
    x, y = under.round().astype(int).clip(0, light.shape[0] - 1).T
    return bool(light[y, x].mean() < SUNGLASSES)


def _step(values: np.ndarray, none: float, full: float) -> np.ndarray:
    """0 at `none` to 1 at `full` and beyond, smoothly."""
    share = np.clip((values - none) / (full - none), 0, 1)
    return share * share * (3 - 2 * share)
