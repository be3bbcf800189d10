"""How right an alpha is, on photos that did not train: as aligned crops, and as people in a camera's frame.

Crops stand before the backgrounds that trainer.evaluate takes; frames are 640x480, with people at 35 to 105 % of their
height. The truth is the mask of the photo on white.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from faces.pictures import pictures, read
from livetoon.errors import UsageError
from livetoon.files import write_json
from livetoon.tables import table
from trainer.augment import background, compose
from trainer.data import person_mask, segmenter
from trainer.layout import training_places
from trainer.matte_people import Photo, dressed, lit, placed

CROP, FRAME = 256, (480, 640)  # px: side; height, width
NOISE = 3.0  # standard deviation in grey levels, that of a webcam indoors
BAND = 9  # px: an outline's pixels are those so near to it that a square of this side reaches it
COLUMNS = {
    "alpha": "alpha",
    "pictures": "pictures",
    "accuracy": "right %",
    "error": "error %",
    "outline_accuracy": "outline right %",
    "outline_error": "outline error %",
}

Cut = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 RGB -> (H, W) uint8, 255 = person


def judge(folders: Sequence[Path], matte: Cut, masks: Path | None, model: Path | None, out: Path | None) -> None:
    """Print the figures of `matte`, of the network `masks` and of the alpha that the live generator `model` draws to
    crops; write them to `out`."""
    for folder in folders:
        if (folder / "train").is_dir():
            raise UsageError(f"--data {folder}: holds train/, whose pictures train; name the folder of the others")
    photos = [
        read(path, CROP)
        for folder in folders
        for place in training_places(folder, ("photos",))
        if place.domain == "photo"
        for path in pictures(place.folder)
    ]
    of_frames = {"matte": matte} if masks is None else {"matte": matte, masks.stem: segmenter(masks)}
    of_crops = of_frames if model is None else {**of_frames, "generator": drawn_by(model)}
    rows = [
        {"alpha": name, "pictures": where, **figures(cut, scenes)}
        for where, cuts, scenes in (("crops", of_crops, crops(photos)), ("frames", of_frames, frames(photos)))
        for name, cut in cuts.items()
    ]
    print(table([{key: 100 * v if isinstance(v, float) else v for key, v in row.items()} for row in rows], COLUMNS))
    if out is not None:
        write_json(out, {"photos": len(photos), "rows": rows})


def crops(photos: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(256, 256, 3) pictures and their alphas; the same at every call."""
    scenes = []
    for index, photo in enumerate(photos):
        alpha = person_mask(photo)
        behind = background(CROP, (), np.random.default_rng((20, index)))
        scenes.append((compose(photo, alpha, behind), alpha))
    return scenes


def frames(photos: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(480, 640, 3) pictures and their alphas; the same at every call."""
    height, width = FRAME
    scenes = []
    for index, photo in enumerate(photos):
        random = np.random.default_rng((21, index))
        person = dressed(Photo(photo, person_mask(photo)), random)
        picture, alpha = (
            cv2.resize(each, (width, height)) for each in placed(person, width / height, random, side=height)[:2]
        )
        behind = cv2.resize(background(height, (), random), (width, height))
        seen = compose(lit(picture, random), alpha, behind) + random.normal(0, NOISE, (height, width, 3))
        scenes.append((seen.round().clip(0, 255).astype(np.uint8), alpha))
    return scenes


def figures(cut: Cut, scenes: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """accuracy: share of pixels on the right side of a half; error: mean distance of alpha in [0, 1]; of the whole
    picture, and near the person's outline."""
    each = []
    for picture, truth in scenes:
        found = cut(picture)
        person = (truth > 127).astype(np.uint8)
        outline = cv2.morphologyEx(person, cv2.MORPH_GRADIENT, np.ones((BAND, BAND), np.uint8)) > 0
        right, distance = (found > 127) == (truth > 127), cv2.absdiff(found, truth) / 255
        each.append((right.mean(), distance.mean(), right[outline].mean(), distance[outline].mean()))
    names = ("accuracy", "error", "outline_accuracy", "outline_error")
    return {name: round(float(value), 5) for name, value in zip(names, np.mean(each, axis=0), strict=True)}


def drawn_by(model: Path) -> Cut:
    """The alpha that a live generator gives a crop of 256 px, by its basic group."""
    import torch

    from trainer.checkpoint import load_generator

    generator = load_generator(model)

    def cut(picture: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(picture.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.inference_mode():
            return (generator(x, generator.groups[0])[0, 3] * 255).round().byte().numpy()

    return cut
