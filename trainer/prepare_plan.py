"""What there is to do in a preparation, and what of it stays: the pictures of IN with name, group and points that are
known before a face is seen, and at the end the best of those that show the same."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from livetoon.errors import DataError
from livetoon.files import sha256

if TYPE_CHECKING:
    from trainer.prepare_report import Journal

VERSION = 1  # of how a crop is made: another one makes every crop again
TOLD_APART = ("young-women", "young-men", "kids", "elderly")  # what faces/groups.py sees in a face


@dataclass(frozen=True)
class Settings:
    """How pictures are cut and which are left out.

    size, min_side: px; min_sharpness: as `prepare_face.sharpness` has it; near: bits of 256; group: one for all;
    groups: those wanted; over_photos: drawings lie on the photos of their names, pixel on pixel, and are cut like them;
    masks: a network that marks the person, for white backgrounds; crop: how faces are framed, photo2cartoon as the
    published networks were trained.
    """

    domain: Literal["photo", "cartoon"] = "photo"
    size: int = 256
    group: str | None = None
    over_photos: bool = False
    groups: tuple[str, ...] | None = None
    masks: Path | None = None
    # A face takes half of the crop's side: with less than half of that it is drawn up to more than twice its size.
    min_side: float = 64
    # One in 200 of all_age_faces lies below 0.25, and a sharp photo blurred with 3 px of a 256 px crop at 0.21.
    min_sharpness: float = 0.2
    # Saved again, half as large, brighter or blurred: up to 28; the closest strangers of 40,000 pairs: 50.
    near: int = 30
    format: Literal["png", "jpg"] = "png"
    crop: Literal["livetoon", "photo2cartoon"] = "livetoon"


@dataclass(frozen=True)
class Task:
    """One picture to do. group: known before its face is seen; refused: why it has none; points: given by hand."""

    path: Path
    name: str
    group: str | None
    refused: str
    points: tuple | None
    size: tuple[int, int] | None  # width and height that the picture must have for its points
    corners: tuple | None  # of the published crop's square, known with the points
    key: str  # of everything but the picture that decides what becomes of it


def listing(source: Path) -> tuple[list[Path], int]:
    """Every picture in `source`, by path, hidden ones left out; how many other files there are."""
    from faces.pictures import pictures

    found, others = [], 0
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = pictures(Path(folder))
        found += here
        others += sum(not name.startswith(".") for name in files) - len(here)
    if not found:
        raise DataError(f"{source}: no pictures in it (JPEG, PNG, WebP, BMP, TIFF, GIF); {others} other files")
    return found, others


def plan(
    source: Path,
    out: Path,
    found: list[Path],
    settings: Settings,
    table: Path | None,
    points: Path | None,
    journal: "Journal",
) -> list[Task]:
    """A task for each picture `found` in `source`, with what the tables say of it."""
    from trainer.prepare_table import read_labels

    labels = read_labels(source, found, table, points, settings.groups)
    names = _names(source, out, found, settings.domain, journal)
    masks = sha256(settings.masks) if settings.masks else ""
    photos = {
        entry["name"]: entry
        for entry in journal.entries.values()
        if entry["domain"] == "photo" and entry["status"] == "kept"
    }
    tasks = []
    for path in found:
        label = labels.get(path)
        photo = photos.get(names[path]) if settings.domain == "cartoon" else None
        group, refused = settings.group, ""
        if group is None and table is not None:
            group, refused = (label.group, label.why) if label else (None, f"not in {table.name}")
        elif group is None and photo:
            group = photo["group"]
        given, size, corners = label.points if label else None, None, None
        if given is None and photo and settings.over_photos:
            given, size, corners = tuple(map(tuple, photo["points"])), tuple(photo["picture"]), photo.get("corners")
        decides = [VERSION, settings.domain, settings.size, settings.min_side, settings.min_sharpness, masks]
        decides += [settings.format, settings.groups, group, refused, given, size, names[path]]
        decides += [settings.crop, corners] if settings.crop != "livetoon" or corners else []
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
        tasks.append(Task(path, names[path], group, refused, given, size, corners, key))
    return tasks


def sweep(out: Path, journal: "Journal") -> None:
    """Remove half-written crops that a kill has left; nobody else writes in OUT meanwhile."""
    ours = {entry["file"] for entry in journal.entries.values() if entry.get("file")}
    for path in out.glob("*/*/.*"):
        # `replacing` writes GROUP/photo/.NAME.png.RANDOM.png first.
        if (path.parent / path.name[1:].rsplit(".", 2)[0]).relative_to(out).as_posix() in ours:
            path.unlink()


def _names(source: Path, out: Path, found: list[Path], domain: str, journal: "Journal") -> dict[Path, str]:
    """A name for each picture that no other one in OUT has, upper and lower case alike: the file's own, with its
    folders before it where several files in IN are called so. A name once given is kept."""
    ours = {entry["file"] for entry in journal.entries.values() if entry.get("file")}
    taken = {path.stem.lower() for path in out.glob(f"*/{domain}/*") if path.relative_to(out).as_posix() not in ours}
    given = {key[1]: entry["name"] for key, entry in journal.entries.items() if key[0] == domain}
    taken |= {name.lower() for name in given.values()}
    often = Counter(path.stem.lower() for path in found)
    names = {}
    for path in found:
        name = given.get(str(path))
        if name is None:
            relative = path.relative_to(source).with_suffix("")
            name = path.stem if often[path.stem.lower()] == 1 else "-".join(relative.parts)
            if name.lower() in taken or len(name) > 120:
                name = f"{name[-100:]}-{hashlib.sha256(str(path.relative_to(source)).encode()).hexdigest()[:8]}"
            taken.add(name.lower())
        names[path] = name
    return names


def settle(tasks: list[Task], out: Path, settings: Settings, journal: "Journal") -> None:
    """Of pictures that show the same, keep the one with the most detail; the others' crops are removed."""
    from trainer.prepare_face import near_duplicates

    mine = {str(task.path) for task in tasks}
    rivals = []
    for key, entry in list(journal.entries.items()):
        if entry["domain"] != settings.domain or "hash" not in entry:
            continue
        if key[1] in mine or (out / entry["file"]).is_file():
            rivals.append(entry)
        elif entry["status"] == "kept":
            del journal.entries[key]  # its crop was deleted, and it is not in this IN
    shown_px = settings.size / 2  # width of a face in the crop; more than that adds nothing
    rivals.sort(key=lambda entry: (-entry["sharpness"] * min(1.0, entry["side_px"] / shown_px), entry["source"]))
    twins = near_duplicates([entry["hash"] for entry in rivals], settings.near)
    first: dict[str, dict] = {}
    for entry, twin in zip(rivals, twins, strict=True):
        better = first.setdefault(entry["sha256"], entry)
        for old in ("reason", "detail"):
            entry.pop(old, None)
        entry["status"] = "kept"
        if better is not entry:
            entry |= dropped("duplicate", f"the same file as {better['name']}")
        elif twin is not None:
            entry |= dropped("near-duplicate", f"a near copy of {rivals[twin]['name']}")
        if entry["status"] == "dropped":
            (out / entry["file"]).unlink(missing_ok=True)
    journal.rewrite()


def dropped(reason: str, detail: str) -> dict:
    return {"status": "dropped", "reason": reason, "detail": detail}


def whole(entry: dict, out: Path) -> bool:
    """Whether nothing is left to do for an entry: left out, or kept and its crop is there."""
    return entry["status"] == "dropped" or (out / entry["file"]).is_file()
