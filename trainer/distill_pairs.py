"""The pairs of a teacher on disk: whole or not there, each drawing with a note of what it was made from."""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from faces.pictures import pictures, read, resized
from livetoon.errors import DataError
from livetoon.files import replacing, sha256
from trainer.distill_looks import Looks
from trainer.distill_teacher import Teacher
from trainer.prepare_face import on_white

log = logging.getLogger("trainer")

NOTE = "livetoon"  # key of the PNG text
WHITE = 244  # darkest channel of a pixel that counts as background, as data.person_mask has it
LEAST_WHITE = 0.1  # of the border; a person's shoulders hide less than half of it
SAID_EVERY_S = 5.0


class Pairs:
    """Draws photos into `out`/GROUP/photo and cartoon. made_by: what a drawing depends on beside its photo; looks: what
    sets it apart from the teacher's."""

    def __init__(
        self,
        out: Path,
        teacher: Teacher,
        segment: Callable | None,
        size: int,
        made_by: dict,
        looks: Looks,
    ):
        self._out, self._teacher, self._segment, self._size, self._made_by = out, teacher, segment, size, made_by
        self._looks = looks
        self._count: Counter[str] = Counter()
        self._groups: list[str] = []
        self._taken: dict[Path, str] = {}  # drawing -> hash of its photo

    def draw(self, group: str, branch: str, paths: list[Path], batch: int) -> None:
        """Every photo that is not drawn yet; a photo that cannot be read is said and left out."""
        for side in ("photo", "cartoon"):
            (self._out / group / side).mkdir(parents=True, exist_ok=True)
        self._groups.append(group)
        said, done = time.monotonic(), 0
        waiting = self._waiting(group, paths)
        while some := list(islice(waiting, batch)):
            self._draw_batch(group, branch, some)
            done += len(some)
            if time.monotonic() - said > SAID_EVERY_S:
                said = time.monotonic()
                print(f"{group}: {done} drawn, of {len(paths)} photos in all", file=sys.stderr)

    def _waiting(self, group: str, paths: list[Path]):
        """(photo's pixels, name of the pair, note) of each photo that is to be drawn."""
        for path in paths:
            try:
                photo = read(path)
            except DataError as error:
                log.warning("left out: %s", error)
                self._count["left_out"] += 1
                continue
            found = sha256(path)
            note = json.dumps({"photo": found, **self._made_by}, sort_keys=True)
            place = self._place(group, path.stem, found)
            if place in self._taken and self._taken[place] == found:
                continue  # the same photo twice
            self._taken[place] = found
            if read_note(place) == note and (self._out / group / "photo" / place.name).is_file():
                self._count["already_done"] += 1
            else:
                yield photo, place.name, note

    def _place(self, group: str, stem: str, found: str) -> Path:
        """The drawing's file: the photo's name, with a part of its hash where another photo has that name."""
        folder = self._out / group / "cartoon"
        place = folder / f"{stem}.png"
        photo = self._taken.get(place) or _photo_of(place)
        other = place.exists() if photo is None else photo != found
        return folder / f"{stem}-{found[:8]}.png" if other else place

    def _draw_batch(self, group: str, branch: str, some: list) -> None:
        photos = [photo for photo, _, _ in some]
        if self._segment is not None:
            photos = [on_white(photo, self._segment(photo)) for photo in photos]
        shown = [self._looks.shaped(photo) for photo in photos]
        drawings, alphas = self._teacher(shown, branch)
        if self._segment is None and alphas is not None:
            shown = [on_white(crop, resized(alpha, crop.shape[0])) for crop, alpha in zip(shown, alphas, strict=True)]
        drawings = [self._looks.coloured(*each) for each in zip(drawings, shown, strict=True)]
        for index, (_, name, note) in enumerate(some):
            if drawings[index] is None:
                log.warning("left out: %s: no face is found in it once it is cut out", Path(name).stem)
                self._count["left_out"] += 1
                for side in ("cartoon", "photo"):  # of an earlier call, in another style
                    (self._out / group / side / name).unlink(missing_ok=True)
                continue
            photo, drawing = resized(photos[index], self._size), resized(drawings[index], self._size)
            if self._segment is None and alphas is not None:
                photo = on_white(photo, resized(alphas[index], self._size))
            self._count["not_on_white"] += white_border(photo) < LEAST_WHITE
            # The drawing comes last: its note says that the pair is whole.
            _write(self._out / group / "photo" / name, photo)
            _write(self._out / group / "cartoon" / name, drawing, note)
            self._count["made"] += 1

    def counts(self) -> dict:
        """DataError where no pair is there."""
        held = {group: len(pictures(self._out / group / "cartoon")) for group in self._groups}
        kept = {name: self._count[name] for name in ("made", "already_done", "left_out", "not_on_white")}
        if not kept["made"] + kept["already_done"]:
            raise DataError(f"none of the {kept['left_out']} photos can be drawn; see the lines above")
        if kept["not_on_white"]:
            log.warning(
                "%d of %d photos do not stand on white, and the live network would learn their background as part of "
                "the person: add --masks ONNX, a network that marks the person",
                kept["not_on_white"],
                kept["made"],
            )
        return {**kept, "groups": {group: count for group, count in held.items() if count}}


def white_border(photo: np.ndarray) -> float:
    """(S, S, 3) uint8 RGB -> share of its outermost pixels that are near-white.

    >>> white_border(np.full((8, 8, 3), 255, np.uint8))
    1.0
    """
    darkest = photo.min(axis=2)
    border = np.concatenate([darkest[0], darkest[-1], darkest[1:-1, 0], darkest[1:-1, -1]])
    return float((border >= WHITE).mean())


def read_note(drawing: Path) -> str | None:
    """The note of a drawing, None where there is none, or no drawing."""
    try:
        with Image.open(drawing, formats=("PNG",)) as image:
            return image.info.get(NOTE)
    except (OSError, SyntaxError, ValueError):
        return None


def _photo_of(drawing: Path) -> str | None:
    try:
        return json.loads(read_note(drawing) or "")["photo"]
    except (ValueError, KeyError, TypeError):
        return None


def _write(path: Path, picture: np.ndarray, note: str | None = None) -> None:
    texts = PngImagePlugin.PngInfo()
    if note is not None:
        texts.add_text(NOTE, note)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, "PNG", pnginfo=texts)
