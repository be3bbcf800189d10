"""What `trainer.prepare` tells of one face: where its crop lies, how sharp it is, and which pictures are nearly the
same."""

import cv2
import numpy as np

from faces.align import align_matrix, crop, inverse, move
from faces.landmarks import FaceMesh, Mesh, five, square
from faces.public_crop import SIXTY_EIGHT, head_square, square_matrix

MEASURED_PX = 128  # side of the crop at which sharpness is measured, so that small and large faces compare
MIDDLE = (slice(44, 96), slice(36, 92))  # rows and columns of that crop: brows to mouth, no background
MESH = ((128, 142), 240)  # centre and side of the square in which the 468 points are looked for, px of a 256 px crop
OF_THIS_FACE = 0.15  # mean distance, in eye distances, within which five points are those of a fit
HASH_PX, HASH_SIDE = 64, 16  # the lowest 16x16 of the 64x64 cosine frequencies


def aligned(picture: np.ndarray, points: np.ndarray, size: int, corners: np.ndarray | None = None) -> np.ndarray:
    """picture: (H, W, 3) uint8 RGB; points: (5, 2) px -> (size, size, 3) uint8 RGB, white outside the picture; corners:
    (2, 2) px, of the published crop's square (`head_corners`), cut instead."""
    return crop(picture, matrix_of(points, size, corners), size)


def matrix_of(points: np.ndarray, size: int, corners: np.ndarray | None = None) -> np.ndarray:
    """(2, 3) picture -> crop, of points and corners as `aligned` takes them."""
    return align_matrix(points, size) if corners is None else square_matrix(corners, size)


def head_corners(picture: np.ndarray, points: np.ndarray, fit: FaceMesh) -> np.ndarray | None:
    """points: (5, 2) px of a face in `picture` -> (2, 2) px, top left and bottom right of the square that the published
    photo2cartoon networks were trained with; None where no 468 points can be fitted to these five."""
    mesh = fitted(fit, picture, points)
    eyes = float(np.linalg.norm(points[1] - points[0]))
    if float(np.linalg.norm(five(mesh.points) - points, axis=1).mean()) > OF_THIS_FACE * eyes:
        return None
    return head_square(mesh.points[SIXTY_EIGHT, :2])


def fitted(fit: FaceMesh, picture: np.ndarray, points: np.ndarray) -> Mesh:
    """The 468 points of the face in `picture` whose five lie about at `points`, (5, 2) px."""
    matrix = align_matrix(points)
    (x, y), side = move(inverse(matrix), np.array([MESH[0]]))[0], MESH[1] / float(np.hypot(*matrix[:2, 0]))
    for _ in range(2):  # the second fit begins from the first, as in live video
        mesh = fit(picture, points[:2], (float(x), float(y)), side)
        (x, y), side = square(mesh.points)
    return mesh


def sharpness(face: np.ndarray) -> float:
    """(S, S, 3) uint8 RGB, aligned -> how much of its contrast changes from pixel to pixel, at 128 px: standard
    deviation of the Laplacian over that of the grey values.

    About 0.55 in a sharp photo, 0.29 once blurred with a Gaussian of 2 px of a 256 px crop, 0.21 with 3 px.
    """
    grey = cv2.cvtColor(_sized(face, MEASURED_PX), cv2.COLOR_RGB2GRAY)[MIDDLE]
    return float(cv2.Laplacian(grey, cv2.CV_16S).std() / max(float(grey.std()), 1.0))


def perceptual_hash(face: np.ndarray) -> str:
    """(S, S, 3) uint8 RGB, aligned -> 64 hex digits: which of the 256 lowest cosine frequencies of its middle three
    quarters lie over their median (Zauner 2010, pHash, with 16x16 instead of 8x8: aligned faces are much alike)."""
    edge = face.shape[0] // 8
    grey = cv2.cvtColor(_sized(face[edge:-edge, edge:-edge], HASH_PX), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(grey.astype(np.float32))[:HASH_SIDE, :HASH_SIDE]
    return np.packbits(low > np.median(low)).tobytes().hex()


def _sized(picture: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def on_white(face: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """face: (S, S, 3) uint8 RGB; alpha: (S, S) uint8, 255 = person -> the person before white, (S, S, 3) uint8."""
    share = alpha[..., None].astype(np.float32) / 255
    return (face * share + 255 * (1 - share)).round().astype(np.uint8)


def near_duplicates(hashes: list[str], bits: int) -> list[int | None]:
    """For each of `hashes`, best picture first: index of the first kept one that differs in at most `bits` of 256, or
    None where there is none and it is kept itself."""
    packed = np.array([np.frombuffer(bytes.fromhex(text), np.uint64) for text in hashes], np.uint64).reshape(-1, 4)
    kept = np.empty_like(packed)
    places: list[int] = []
    twins: list[int | None] = []
    for index, code in enumerate(packed):
        differing = np.bitwise_count(kept[: len(places)] ^ code).sum(axis=1)
        near = np.flatnonzero(differing <= bits)
        twins.append(places[near[0]] if len(near) else None)
        if not len(near):
            kept[len(places)] = code
            places.append(index)
    return twins
