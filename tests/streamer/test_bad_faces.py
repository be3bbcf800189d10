"""Faces that no generator learned, through the shipped model: no bare skin, no hole, no crash."""

import cv2
import numpy as np
import pytest
from skimage import data

from faces.landmarks import OVAL
from streamer.opening import open_runners, pipeline_of
from streamer.pipeline import Pipeline, Settings

SETTLED = 6  # frames


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return pipeline_of(open_runners("live"), 4)


def wall(picture: np.ndarray, x: int, y: int, width: int = 640, height: int = 480) -> np.ndarray:
    """The picture on a wall, its upper left corner at (x, y), cut where it reaches over the edge."""
    frame = np.full((height + 1200, width + 1200, 3), (120, 130, 140), np.uint8)
    rows, columns = picture.shape[:2]
    frame[600 + y : 600 + y + rows, 600 + x : 600 + x + columns] = picture
    return np.ascontiguousarray(frame[600 : 600 + height, 600 : 600 + width])


def half_out() -> tuple[np.ndarray, tuple]:
    return wall(data.astronaut(), -222, 40), np.s_[120:190, 0:30]


def hand() -> tuple[np.ndarray, tuple]:
    picture = data.astronaut()
    for finger in range(4):
        cv2.line(picture, (185 + 14 * finger, 260), (195 + 12 * finger, 150), (205, 160, 140), 11, cv2.LINE_AA)
    return wall(picture, 60, 0), np.s_[80:125, 240:330]


def mask() -> tuple[np.ndarray, tuple]:
    picture = data.astronaut()
    cv2.fillPoly(picture, [np.array([(178, 122), (270, 122), (262, 160), (222, 178), (186, 160)])], (170, 205, 225))
    return wall(picture, 60, 0), np.s_[80:115, 240:330]


def overlapping() -> tuple[np.ndarray, tuple]:
    picture = data.astronaut()
    frame = wall(picture, -20, 0)
    head = np.zeros(picture.shape[:2], np.uint8)
    cv2.ellipse(head, (222, 118), (74, 110), 0, 0, 360, 255, -1)
    other = wall(picture, 75, 35)
    shown = wall(np.dstack([head] * 3), 75, 35)[..., :1] == 255
    return np.where(shown & (wall(np.dstack([head] * 3), 75, 35) > 200), other, frame), np.s_[115:200, 255:345]


def drawing() -> tuple[np.ndarray, tuple]:
    """What a cartoon filter makes of it: smooth colours in few steps, dark lines."""
    smooth = cv2.edgePreservingFilter(data.astronaut(), flags=1, sigma_s=60, sigma_r=0.4) // 32 * 32 + 16
    lines = cv2.adaptiveThreshold(cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY), 255, 0, cv2.THRESH_BINARY, 9, 4)
    return wall(np.where(lines[..., None] == 0, 30, smooth).astype(np.uint8), 60, 0), np.s_[70:160, 240:330]


def black_and_white() -> tuple[np.ndarray, tuple]:
    grey = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    return wall(np.dstack([grey] * 3), 60, 0), np.s_[70:160, 240:330]


def small() -> tuple[np.ndarray, tuple]:
    """A face 40 px wide."""
    picture = cv2.resize(data.astronaut(), None, fx=0.36, fy=0.36, interpolation=cv2.INTER_AREA)
    return wall(picture, 200, 100), np.s_[128:156, 268:294]


CASES = [half_out, hand, mask, overlapping, drawing, black_and_white, small]


@pytest.mark.parametrize("case", CASES, ids=[each.__name__ for each in CASES])
def test_no_skin_is_bare_and_no_hole_is_left(case, pipeline, screenshots):
    frame, face = case()
    pipeline.reset()
    for index in range(SETTLED):
        result = pipeline.process(frame, index / 25, Settings())
    cv2.imwrite(str(screenshots / f"bad-{case.__name__}.png"), np.hstack([frame, result.frame])[..., ::-1])
    assert result.frame.shape == frame.shape and result.faces
    changed = np.abs(result.frame[face].astype(int) - frame[face]).max(axis=2)
    assert (changed > 2).mean() > 0.9  # drawn or covered, all over
    for found in result.faces:
        if found.fitted:  # a hole is white paper where the camera sees no light
            inside = np.zeros(frame.shape[:2], np.uint8)
            cv2.fillPoly(inside, [found.landmarks[OVAL].astype(np.int32)], 1)
            white = (result.frame.min(axis=2) > 245) & (frame.min(axis=2) < 195) & (inside == 1)
            assert white.sum() < 0.01 * inside.sum()
