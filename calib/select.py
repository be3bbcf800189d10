"""`python -m calib.select DIR [DIR...] --out OUT`: crops to calibrate INT8 on, evenly chosen over kinds of faces.

    pictures, clips -> faces as live video crops them (gather.py) -> cells of group x pose x light (cells.py)
    -> as many of each cell as there are, the same number of every cell that has them -> OUT/CELL-HASH.jpg

Names begin with the cell, so that calib.crops.read_crops, which takes files evenly by name, stays even over cells when
it takes some of them. The same pictures give the same choice.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calib.cells import CELLS, GROUPS, LIGHTS, POSES, Cell, even
from calib.crops import ENDINGS
from calib.gather import CLIP_ENDINGS, Gatherer, Portrait, files
from livetoon import cli
from livetoon.errors import DataError, UsageError
from livetoon.files import write_json
from livetoon.tables import table

VERSION = 1  # of selection.json
NAME = "selection.json"
LEAST = 8  # crops, with fewer an export to INT8 has nothing to judge by
SIZES = (32, 1024)  # px
LINE_EVERY_S = 10.0  # progress, where it is not on a screen

Report = Callable[[int, int], None]


@dataclass
class Pool:
    """What was found so far. kept: of each cell the first `most` by order; counts: all faces of each cell."""

    most: int
    kept: dict[Cell, list[Portrait]] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    faceless: int = 0
    doubles: int = 0
    unusable: list[str] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)

    def add(self, portrait: Portrait) -> None:
        """Take a face in, unless the same crop is there."""
        digest = _digest(portrait.jpeg)
        if digest in self._seen:
            self.doubles += 1
            return
        self._seen.add(digest)
        self.counts[portrait.cell] += 1
        kept = self.kept.setdefault(portrait.cell, [])
        kept.append(portrait)
        kept.sort(key=lambda each: (each.order, each.jpeg))
        del kept[self.most :]

    @property
    def faces(self) -> int:
        return self.counts.total()


def select(
    folders: Sequence[Path],
    out: Path,
    count: int = 256,
    size: int = 256,
    aligned: bool = False,
    report: Report = lambda done, of: None,
) -> dict:
    """Write up to `count` crops of `size` px and selection.json into `out`, a new or empty folder; returns what
    selection.json holds.

    aligned: `folders` hold aligned crops already. report: hears how many of how many files are done. UsageError for
    folders that cannot serve, DataError where fewer than LEAST faces are found; nothing is written then.
    """
    paths = _checked(folders, out, count, size)
    pool, gather = Pool(count), Gatherer(size, aligned)
    for done, path in enumerate(paths):
        report(done, len(paths))
        _look(path, gather, pool)
    report(len(paths), len(paths))
    if pool.faces < LEAST:
        raise DataError(_too_few(folders, pool, len(paths), aligned))
    chosen = even(pool.kept, count)
    described = _described(pool, chosen, len(paths), size, aligned)
    _write(out, chosen, described)
    return described


def _checked(folders: Sequence[Path], out: Path, count: int, size: int) -> list[Path]:
    """The files to look at."""
    if count < LEAST:
        raise UsageError(f"--count {count}: expected {LEAST} or more")
    if not SIZES[0] <= size <= SIZES[1]:
        raise UsageError(f"--size {size}: expected {SIZES[0]} to {SIZES[1]} px")
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        if out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"--out {out}: lies in {folder}, whose pictures the crops would become; name another one")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a new folder")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out}: holds files already; empty it, or name a new folder")
    found = {path.resolve(): path for folder in folders for path in files(folder)}
    if not found:
        named = ", ".join(map(str, folders))
        raise UsageError(f"{named}: no pictures or clips in it ({', '.join((*ENDINGS, *CLIP_ENDINGS))})")
    return list(found.values())


def _look(path: Path, gather: Gatherer, pool: Pool) -> None:
    try:
        portraits = gather(path)
    except DataError as error:
        pool.unusable.append(str(error))
        return
    except OSError as error:
        pool.unusable.append(f"{path}: {error.strerror}")
        return
    pool.faceless += not portraits
    for portrait in portraits:
        pool.add(portrait)


def _too_few(folders: Sequence[Path], pool: Pool, looked_at: int, aligned: bool) -> str:
    found = f"{pool.faces or 'no'} {'face' if pool.faces == 1 else 'faces'} in {looked_at} files"
    broken = f", of which {len(pool.unusable)} cannot be used ({pool.unusable[0]})" if pool.unusable else ""
    hint = " or leave --aligned out" if aligned else ""
    named = ", ".join(map(str, folders))
    return f"{named}: {found}{broken}; to calibrate takes {LEAST} or more: name more folders of portraits{hint}"


def _described(pool: Pool, chosen: Mapping[Cell, Sequence[Portrait]], looked_at: int, size: int, aligned: bool) -> dict:
    """What selection.json tells; of the sources their names alone, because folders may name people."""
    return {
        "version": VERSION,
        "size": size,
        "aligned": aligned,
        "files": looked_at,
        "without_face": pool.faceless,
        "unusable": len(pool.unusable),
        "doubles": pool.doubles,
        "faces": pool.faces,
        "chosen": sum(map(len, chosen.values())),
        "cells": [
            {**cell._asdict(), "found": pool.counts[cell], "chosen": len(chosen.get(cell, ()))} for cell in CELLS
        ],
        "crops": [
            {
                "file": _name(portrait),
                "source": portrait.source,
                **({} if portrait.second is None else {"second": portrait.second}),
                **cell._asdict(),
                "yaw": round(portrait.yaw, 1),
                "luma": round(portrait.luma, 1),
            }
            for cell, portraits in chosen.items()
            for portrait in portraits
        ],
    }


def _write(out: Path, chosen: Mapping[Cell, Sequence[Portrait]], described: dict) -> None:
    """All of it or nothing: a folder that is half filled would calibrate unevenly."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as made:
        whole = Path(made) / out.name
        whole.mkdir()
        for portraits in chosen.values():
            for portrait in portraits:
                (whole / _name(portrait)).write_bytes(portrait.jpeg)
        write_json(whole / NAME, described)
        if out.exists():
            out.rmdir()
        whole.rename(out)


def _name(portrait: Portrait) -> str:
    return f"{portrait.cell}-{_digest(portrait.jpeg).hex()[:12]}.jpg"


def _digest(jpeg: bytes) -> bytes:
    return hashlib.sha256(jpeg).digest()


def told(described: dict) -> str:
    """The table that the command prints, and what stands out."""
    cells = {Cell(each["group"], each["pose"], each["light"]): each for each in described["cells"]}
    rows = [
        {"group": group, "pose": pose}
        | {light: f"{each['chosen']} of {each['found']}" for light in LIGHTS if (each := cells[group, pose, light])}
        for group in GROUPS
        for pose in POSES
    ]
    lines = [table(rows, {"group": "group", "pose": "looks", **{light: light for light in LIGHTS}})]
    if empty := [str(cell) for cell, each in cells.items() if not each["found"]]:
        lines.append(f"no face of: {', '.join(empty)}")
    left_out = {"without a face": described["without_face"], "unusable": described["unusable"]}
    left_out["doubles"] = described["doubles"]
    if parts := [f"{count} {why}" for why, count in left_out.items() if count]:
        lines.append(f"left out: {', '.join(parts)}")
    return "\n".join(lines)


class _Progress:
    """How far it is, on one line of a screen or now and then in a log."""

    def __init__(self):
        self._began, self._told = time.monotonic(), time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        now, screen = time.monotonic(), sys.stderr.isatty()
        if screen and done == of:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        if done in (0, of) or (not screen and now - self._told < LINE_EVERY_S):
            return
        self._told = now
        left = (now - self._began) / done * (of - done)
        line = f"{done} of {of} files, {left:.0f} s left"
        print(f"\r\x1b[2K{line}" if screen else line, end="" if screen else "\n", file=sys.stderr, flush=True)


def arguments() -> argparse.ArgumentParser:
    made = cli.parser(
        "python -m calib.select",
        "Choose crops to calibrate INT8 on: faces of pictures and clips, cut out as in live video, evenly over\n"
        "groups of people, where they look, and light. OUT is for --calibration of engine.build and --int8 of\n"
        "engine.export.",
        "python -m calib.select photos clips --out crops",
    )
    made.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="pictures and clips, also in folders of it")
    made.add_argument("--out", type=Path, required=True, metavar="OUT", help="new or empty folder for the crops")
    made.add_argument("--count", type=int, default=256, help="crops at most (default: 256)")
    made.add_argument("--size", type=int, default=256, help="px, side of a crop (default: 256)")
    made.add_argument(
        "--aligned", action="store_true", help="the pictures are aligned crops already: take them as they are"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help=f"write what OUT/{NAME} holds there too")
    return made


def main(argv: list[str] | None = None) -> int:
    return cli.run(_command, arguments(), argv)


def _command(options: argparse.Namespace) -> None:
    described = select(options.folders, options.out, options.count, options.size, options.aligned, _Progress())
    if options.json is not None:
        write_json(options.json, described)
    print(told(described))
    fewer = "" if described["chosen"] == options.count else f", for there are no more of the {options.count} wanted"
    print(f"{options.out}: {described['chosen']} crops{fewer}")


if __name__ == "__main__":
    sys.exit(main())
