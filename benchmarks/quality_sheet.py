"""Contact sheets of a quality run: by group, by difficulty, and a strip of each clip.

    FILE.jpg           photo, cartoon by the network alone and as it is shown, by table and group
    FILE-hard.jpg      the hard pictures, each over what is made of it
    FILE-CLIP.jpg      moments of a clip, camera above

They show people and are not to be published.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.comparison_sheet import grid, write
from benchmarks.quality_motion import Change
from benchmarks.quality_people import PLAIN, Case, Model, Photo, finished, laid

PER_GROUP = 3  # people of a group and table: so both tables fit a screen
ACROSS = 6  # hard pictures of a kind


def beside(file: Path, name: str) -> Path:
    """FILE-name.jpg for FILE.jpg.

    >>> beside(Path("out/sheet.jpg"), "hard").name
    'sheet-hard.jpg'
    """
    return file.with_name(f"{file.stem}-{name}{file.suffix}")


def groups(path: Path, cases: Sequence[Case], models: Sequence[Model | Photo], shown: tuple[float, float]) -> None:
    """Some people of every group; every table is a block."""
    blocks = []
    drawing = [model for model in models if model.groups]
    for source in dict.fromkeys(case.source for case in cases):
        people: list[Case] = []
        for kind in dict.fromkeys(case.kind for case in cases):
            people += [case for case in cases if (case.source, case.kind) == (source, kind)][:PER_GROUP]
        columns, heads = [[case.crop for case in people]], [source]
        for model in drawing:
            drawn = [[laid(one) for one in finished(model, case, (PLAIN, shown))] for case in people]
            columns += [list(column) for column in zip(*drawn, strict=True)]
            heads += [f"{model.name}, plain", model.name]
        blocks.append(grid(heads, [case.kind for case in people], columns))
    write(path, side_by_side(blocks))


def hard(path: Path, cases: Sequence[Case], models: Sequence[Model | Photo], shown: tuple[float, float]) -> None:
    """A row of photos of each kind, and below it what each model makes of them."""
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        kinds.setdefault(case.kind, []).append(case)
    drawing = [model for model in models if model.groups]
    rows: list[tuple[str, list[np.ndarray]]] = []
    for kind, of in kinds.items():
        rows.append((kind, [case.crop for case in of[:ACROSS]]))
        for model in drawing:
            rows.append((f" {model.name}"[:14], [laid(finished(model, case, (shown,))[0]) for case in of[:ACROSS]]))
    half = (1 + len(drawing)) * -(-len(kinds) // 2)
    write(path, side_by_side([_rows(rows[:half]), _rows(rows[half:])] if rows[half:] else [_rows(rows)]))


def strips(file: Path, clips: Mapping[str, Mapping[str, Change]]) -> None:
    """clips: by name, what each model made of it."""
    for name, of in clips.items():
        moments = next(iter(of.values())).strip
        rows = [("camera", [source for source, _ in moments])]
        rows += [(model, [shown for _, shown in change.strip]) for model, change in of.items()]
        write(beside(file, name), _rows(rows))


def _rows(rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> np.ndarray:
    across = max(len(pictures) for _, pictures in rows)
    blank = np.full((8, 8, 3), 255, np.uint8)
    columns = [[pictures[place] if place < len(pictures) else blank for _, pictures in rows] for place in range(across)]
    return grid([""] * across, [label for label, _ in rows], columns)


def side_by_side(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Sheets (H, W, 3) uint8 RGB in a row, white below the shorter ones."""
    height = max(len(block) for block in blocks)
    padded = [np.pad(block, ((0, height - len(block)), (0, 0), (0, 0)), constant_values=255) for block in blocks]
    return np.concatenate(padded, axis=1)
