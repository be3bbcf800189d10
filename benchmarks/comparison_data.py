"""The pictures of a comparison: sorted once, before any method learns, into those that train and those that judge.

    WORK/groups/<group>/photo|cartoon   what the methods of many groups learn from
    WORK/style/photo|cartoon            what the methods of one style learn from, with WORK/points.csv
    WORK/held-out/<group or style>/...  what no run sees

Which pictures judge follows from the sha256 of their names, as everywhere in livetoon. Where a table of photos is
given, photos come from it alone, so that those of all groups are of one kind.
"""

import csv
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from faces.align import COORDINATES, CROP, align_matrix, crop
from faces.groups import group_of
from faces.pictures import pictures, read
from faces.tables import held_out, read_table
from livetoon.errors import DataError
from livetoon.files import replacing
from trainer.layout import DOMAINS, training_places
from trainer.points import read_points

STYLE = "style"
JUDGE_FROM, JUDGE_LEAST, JUDGE_MOST = 4, 2, 40  # pictures of a set: below 4 none can be spared; KID needs 2


@dataclass(frozen=True)
class Sources:
    """What a comparison reads. data: folders with [group/]photo and cartoon; photos: tables; drawings: a folder of
    drawings for the methods of one style, None: the basic group's; points: of photos in `data`."""

    data: tuple[Path, ...]
    groups: tuple[str, ...]
    photos: tuple[Path, ...] = ()
    drawings: Path | None = None
    points: Path | None = None


@dataclass
class _Set:
    """Pictures of one group and domain, as files and, from tables, as (file, five points); tables keep some of theirs
    from every training."""

    paths: list[Path] = field(default_factory=list)
    rows: list[tuple[Path, np.ndarray]] = field(default_factory=list)
    judging_rows: list[tuple[Path, np.ndarray]] = field(default_factory=list)


def gather(sources: Sources, work: Path, most: int | None) -> None:
    """Write the folders above, from scratch. most: pictures of a set that train, at most.

    DataError where a group has no photos or no drawings, or too few of them to hold any out.
    """
    for name in ("groups", "style", "held-out"):
        shutil.rmtree(work / name, ignore_errors=True)
    given = read_points(sources.points) if sources.points else {}
    marks = {Path(file).name: points for file, points in given.items()}
    found = _found(sources)
    basic, points = sources.groups[0], {}
    for (group, domain), each in found.items():
        if not each.paths and not each.rows:
            raise DataError(f"{domain} of {group}: none in {', '.join(map(str, sources.data + sources.photos))}")
        judges, learns = _checked(each, most, f"{domain} of {group}")
        for place, chosen in ((work / "held-out" / group, judges), (work / "groups" / group, learns)):
            written = [_written(one, place / domain, number) for number, one in enumerate(chosen)]
            if group == basic and domain == "photo":
                points |= {path.name: where for path, where in _points_of(written, chosen, marks) if where is not None}
    _style(sources, work, most, points)


def _found(sources: Sources) -> dict[tuple[str, str], _Set]:
    found = {(group, domain): _Set() for group in sources.groups for domain in DOMAINS}
    for place in (place for folder in sources.data for place in training_places(folder, sources.groups)):
        if place.group in sources.groups and not (place.domain == "photo" and sources.photos):
            found[place.group, place.domain].paths += pictures(place.folder)
    for table in sources.photos:
        rows = read_table(table, COORDINATES)
        unseen = held_out([row["file"] for row in rows])
        for row in rows:
            group = group_of(row["age"], row["sex"] == "F")
            if group in sources.groups and row.get("gray") != "1":
                points = np.array([row[axis] for axis in COORDINATES], np.float32).reshape(-1, 2)
                one = table.parent / row["file"], points
                each = found[group, "photo"]
                (each.judging_rows if row["file"] in unseen else each.rows).append(one)
    return found


def _split(each: _Set, most: int | None) -> tuple[list, list]:
    """(what judges, what learns), in the order of their hashes."""
    paths = sorted(each.paths, key=lambda path: _hash(path.name))
    count = min(JUDGE_MOST, max(JUDGE_LEAST, len(paths) // 5)) if len(paths) >= JUDGE_FROM else 0
    rows, judging = (sorted(some, key=lambda row: _hash(row[0].name)) for some in (each.rows, each.judging_rows))
    return [*paths[:count], *judging][:JUDGE_MOST], [*paths[count:], *rows][:most]


def _checked(each: _Set, most: int | None, what: str) -> tuple[list, list]:
    judges, learns = _split(each, most)
    if len(judges) < JUDGE_LEAST or not learns:
        count = len(each.paths) + len(each.rows) + len(each.judging_rows)
        raise DataError(
            f"{what}: {count} found, which leaves too few to hold any out; add some ({JUDGE_FROM} at least)"
        )
    return judges, learns


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _written(one: Path | tuple[Path, np.ndarray], folder: Path, number: int) -> Path:
    """A link to a file, or the aligned crop of a table's photo."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(one, Path):
        link = folder / f"{number:05d}-{one.name}"
        link.symlink_to(one.resolve())
        return link
    source, points = one
    path = folder / f"{number:05d}-{source.stem}.png"
    picture = crop(read(source), align_matrix(points, CROP), CROP)
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), picture[..., ::-1]):
            raise DataError(f"{path}: cannot be written; is the disk full?")
    return path


def _points_of(written: Sequence[Path], chosen: Sequence, marks: dict[str, np.ndarray]):
    """(file, its ten numbers in its own pixels or None)."""
    for path, one in zip(written, chosen, strict=True):
        if isinstance(one, Path):
            yield path, marks.get(one.name)
        else:
            matrix = align_matrix(one[1], CROP)
            yield path, (one[1] @ matrix[:, :2].T + matrix[:, 2]).ravel()


def _style(sources: Sources, work: Path, most: int | None, points: dict[str, np.ndarray]) -> None:
    """The basic group's photos with the drawings of one style."""
    basic = sources.groups[0]
    drawn = _Set(pictures(sources.drawings)) if sources.drawings else None
    if drawn is not None and not drawn.paths:
        raise DataError(f"--drawings {sources.drawings}: no pictures there")
    judges, learns = _checked(drawn, most, f"--drawings {sources.drawings}") if drawn else (None, None)
    places = (
        (work / "held-out" / STYLE, work / "held-out" / basic, judges),
        (work / STYLE, work / "groups" / basic, learns),
    )
    for place, of_basic, chosen in places:
        for domain in DOMAINS:
            source = chosen if domain == "cartoon" and chosen is not None else pictures(of_basic / domain)
            for number, path in enumerate(source):
                (place / domain).mkdir(parents=True, exist_ok=True)
                name = path.name if path.parent == of_basic / domain else f"{number:05d}-{path.name}"
                (place / domain / name).symlink_to(path.resolve())
    with replacing(work / "points.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *COORDINATES])
        writer.writerows([name, *(f"{value:.2f}" for value in where)] for name, where in points.items())


def judging(work: Path, name: str, domain: str, size: int) -> list[np.ndarray]:
    """The held-out pictures of a group, or of the style: (size, size, 3) uint8 RGB."""
    return [read(path, size) for path in pictures(work / "held-out" / name / domain)]


def counts(work: Path, groups: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of each group and the style: how many photos and drawings learn and judge."""
    found = {}
    for name in (*groups, STYLE):
        learns = work / STYLE if name == STYLE else work / "groups" / name
        places = {"": learns, "judging_": work / "held-out" / name}
        found[name] = {
            f"{prefix}{domain}s": len(pictures(place / domain))
            for prefix, place in places.items()
            for domain in DOMAINS
        }
    return found
