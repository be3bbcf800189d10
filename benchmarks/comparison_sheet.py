"""Contact sheets of a comparison: photos beside what every method makes of them.

The sheet that may be shown anywhere has one face, the astronaut of scikit-image (NASA, public domain), drawn in every
group's style; the other one has held-out people.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.comparison_data import STYLE, judging
from livetoon.errors import DataError, UsageError
from livetoon.files import replacing

CELL, HEAD, SIDE = 112, 18, 96  # px: a picture, the line of names, the column of groups
SHOWN = 2  # held-out people of each group
INK = (40, 40, 40)
Row = tuple[str, np.ndarray]  # a group, and a photo (S, S, 3) uint8 RGB


def astronaut(
    work: Path, presets: Sequence[str], of_style: Collection[str], groups: Sequence[str], size: int
) -> np.ndarray:
    """The astronaut in every group's style, (H, W, 3) uint8 RGB."""
    photo = astronaut_crop(size)
    return _blocks(work, presets, of_style, [(group, photo) for group in groups], [(STYLE, photo)], groups[0])


def people(
    work: Path, presets: Sequence[str], of_style: Collection[str], groups: Sequence[str], size: int
) -> np.ndarray:
    """Held-out people of every group, (H, W, 3) uint8 RGB."""
    shown = {name: judging(work, name, "photo", size) for name in (*groups, STYLE)}
    rows = [(group, photo) for group in groups for photo in shown[group][:SHOWN]]
    return _blocks(work, presets, of_style, rows, [(STYLE, photo) for photo in shown[STYLE][: 2 * SHOWN]], groups[0])


def astronaut_crop(size: int) -> np.ndarray:
    """The aligned face, (size, size, 3) uint8 RGB."""
    from faces.align import align_matrix, crop
    from faces.detect import RetinaFace

    try:
        from skimage import data
    except ImportError:
        raise UsageError("--sheet: the astronaut's picture is missing: pip install scikit-image") from None
    picture = data.astronaut()
    found = RetinaFace()(picture)
    if not found:
        raise DataError("--sheet: no face found in the astronaut's picture")
    return crop(picture, align_matrix(found[0].points, size), size)


def write(path: Path, sheet: np.ndarray) -> None:
    """As the file's ending says (.jpg, .png), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), sheet[..., ::-1]):
            raise DataError(f"{path}: cannot be written; is the disk full?")


def _blocks(work, presets, of_style, rows: list[Row], style_rows: list[Row], basic: str) -> np.ndarray:
    several = [name for name in presets if name not in of_style]
    single = [name for name in presets if name in of_style]
    blocks = [
        _block(work, names, shown, draws)
        for names, shown, draws in ((several, rows, None), (single, style_rows, basic))
        if names
    ]
    width = max(block.shape[1] for block in blocks)
    return np.concatenate(
        [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in blocks], axis=0
    )


def _block(work: Path, names: Sequence[str], rows: list[Row], draws: str | None) -> np.ndarray:
    from benchmarks.comparison_judge import drawn_by
    from trainer.checkpoint import load_generator
    from trainer.sampling import network_input

    columns = [[photo for _, photo in rows]]
    for name in names:
        generator = load_generator(work / "runs" / name)
        columns.append([_picture(drawn_by(generator, network_input([p], len(p)), draws or group)) for group, p in rows])
    heads = [name.replace("face2webtoon", "f2w") for name in ("photo", *names)]
    return grid(heads, [group for group, _ in rows], columns)


def grid(heads: Sequence[str], labels: Sequence[str], columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Columns of pictures (S, S, 3) uint8 RGB under `heads`, `labels` to the left of their rows: (H, W, 3) uint8 RGB.
    A column may be shorter than there are labels."""
    sheet = np.full((HEAD + CELL * len(labels), SIDE + CELL * len(columns), 3), 255, np.uint8)
    for number, (name, column) in enumerate(zip(heads, columns, strict=True)):
        left = SIDE + number * CELL
        _write_text(sheet, name, left + 2, HEAD - 6)
        for place, picture in enumerate(column):
            top = HEAD + place * CELL
            sheet[top : top + CELL - 2, left : left + CELL - 2] = cv2.resize(
                picture, (CELL - 2, CELL - 2), interpolation=cv2.INTER_AREA if len(picture) > CELL else cv2.INTER_CUBIC
            )
    for place, label in enumerate(labels):
        _write_text(sheet, label, 4, HEAD + place * CELL + CELL // 2)
    return sheet


def _picture(drawn) -> np.ndarray:
    return ((drawn[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()


def _write_text(sheet: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.36, INK, 1, cv2.LINE_AA)
