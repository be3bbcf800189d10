"""What a preparation knows and shows: a line for each picture as it goes, a report and contact sheets at the end.

OUT/.prepared.jsonl      one line for each picture that is done: what a second call skips, also after a kill
OUT/report.json          counts, settings and every picture with what became of it and why
OUT/contact-GROUP.jpg    what was kept; contact-dropped.jpg: what was not, with the reason below each
OUT/crop_points.csv      five points of every crop, px of the crop: what trainer.run --points reads
OUT/needs_points.csv     drawings in which no face was found, ready for five points each
"""

import csv
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from faces.align import COORDINATES, move
from faces.pictures import read
from livetoon.errors import DataError
from livetoon.files import naming, replacing, write_json
from trainer.points import CROP_POINTS
from trainer.prepare_face import matrix_of

VERSION = 1  # of report.json and the journal
JOURNAL = ".prepared.jsonl"
NEEDS_POINTS = "needs_points.csv"

TILE, GAP, CAPTION = 128, 8, 44  # px
COLUMNS, MOST = 10, 200  # tiles beside each other and on a sheet; of more, every so manieth is shown
FONT = 11  # px


class Journal:
    """The entries of an OUT folder, by domain and source: {domain, source, sha256, settings, status, ...}.

    A line is written before the crop it tells of, so that a crop without a line is never one of ours.
    """

    def __init__(self, out: Path):
        self.path = out / JOURNAL
        self.entries: dict[tuple[str, str], dict] = {}
        self._lock = threading.Lock()
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
                self.entries[entry["domain"], entry["source"]] = entry
            except (ValueError, KeyError, TypeError):
                continue  # a kill in the middle of a line: that picture is done again
        self.rewrite()

    def add(self, entry: dict) -> None:
        """Remember `entry` and append its line; any thread may call."""
        with self._lock:
            self.entries[entry["domain"], entry["source"]] = entry
            with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def rewrite(self) -> None:
        """One line for each entry, whole or not at all."""
        with replacing(self.path) as temporary:
            lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.entries.values())
            temporary.write_text("".join(lines), encoding="utf-8")


def summary(entries: Iterable[dict]) -> dict:
    """Counts: kept, dropped by reason, kept of each group by domain."""
    entries = list(entries)
    kept = [entry for entry in entries if entry["status"] == "kept"]
    groups: dict[str, Counter] = {}
    for entry in kept:
        groups.setdefault(entry["group"], Counter())[entry["domain"]] += 1
    dropped = Counter(entry["reason"] for entry in entries if entry["status"] == "dropped")
    return {
        "kept": len(kept),
        "dropped": dict(dropped.most_common()),
        "groups": {group: dict(groups[group]) for group in sorted(groups)},
    }


def write_report(out: Path, entries: list[dict], settings: dict) -> None:
    """report.json and the contact sheets of everything that OUT holds; sheets of groups that are gone are removed."""
    entries = sorted(entries, key=lambda entry: (entry["domain"] == "cartoon", entry["source"]))
    write_json(
        out / "report.json",
        {"version": VERSION, "settings": settings, **summary(entries), "pictures": entries},
    )
    sheets: dict[str, list[dict]] = {}
    for entry in entries:
        sheets.setdefault(entry["group"] if entry["status"] == "kept" else "dropped", []).append(entry)
    for stale in set(out.glob("contact-*.jpg")) - {out / f"contact-{name}.jpg" for name in sheets}:
        stale.unlink()
    for name, shown in sheets.items():
        if name == "dropped":
            tiles = [(Path(entry["source"]), _why(entry)) for entry in shown]
        else:
            tiles = [(out / entry["file"], f"{entry['name']}\n{_figures(entry)}") for entry in shown]
        contact_sheet(out / f"contact-{name}.jpg", f"{name}: {len(shown)} pictures", tiles)


def _figures(entry: dict) -> str:
    return f"{entry['domain']}, face {entry['side_px']:.0f} px\nsharpness {entry['sharpness']:.2f}"


def _why(entry: dict) -> str:
    return f"{Path(entry['source']).name}\n{entry['reason']}\n{entry['detail']}"


def contact_sheet(path: Path, title: str, tiles: list[tuple[Path, str]]) -> None:
    """Write a JPEG with each picture, made to fit, above its lines of text (three); at most 200, evenly chosen."""
    if len(tiles) > MOST:
        title += f", {MOST} of them shown"
        tiles = [tiles[round(index)] for index in np.linspace(0, len(tiles) - 1, MOST)]
    columns = min(COLUMNS, max(len(tiles), 3))
    rows = -(-len(tiles) // columns)
    size = GAP + columns * (TILE + GAP), CAPTION + rows * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    draw.text((GAP, GAP), _fitting(title, size[0] - 2 * GAP, font.getlength), "black", font)
    for index, (picture, text) in enumerate(tiles):
        x, y = GAP + index % columns * (TILE + GAP), CAPTION + index // columns * (TILE + CAPTION + GAP)
        small = _thumbnail(picture)
        sheet.paste(small, (x + (TILE - small.width) // 2, y + (TILE - small.height) // 2))
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=(210, 210, 210))
        for line, words in enumerate(text.splitlines()[:3]):
            draw.text((x, y + TILE + 1 + line * (FONT + 2)), _fitting(words, TILE, font.getlength), "black", font)
    with replacing(path) as temporary:
        sheet.save(temporary, "JPEG", quality=88)


def _thumbnail(path: Path) -> Image.Image:
    """The picture within a tile; a grey one where it cannot be read."""
    try:
        picture = Image.fromarray(read(path))
    except DataError:
        return Image.new("RGB", (TILE, TILE), (225, 225, 225))
    picture.thumbnail((TILE, TILE))
    return picture


def _fitting(text: str, width: float, length: Callable[[str], float]) -> str:
    """`text`, cut in its middle until it is no wider than `width`."""
    if length(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = text[: kept * 2 // 3] + "…" + text[len(text) - kept // 3 :]
        if length(shorter) <= width:
            return shorter
    return ""


def write_crop_points(out: Path, entries: Iterable[dict]) -> None:
    """crop_points.csv: of every crop that is there its place below OUT and its five points; none without crops."""
    path, rows = out / CROP_POINTS, []
    for entry in sorted((entry for entry in entries if entry["status"] == "kept"), key=lambda entry: entry["file"]):
        if (side := _side(out / entry["file"])) is not None:
            points = np.array(entry["points"], np.float32)
            values = move(matrix_of(points, side, entry.get("corners")), points).ravel().tolist()
            rows.append({"file": entry["file"]} | {n: round(v, 1) for n, v in zip(COORDINATES, values, strict=True)})
    if not rows:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("file", *COORDINATES))
        writer.writeheader()
        writer.writerows(rows)


def _side(crop: Path) -> int | None:
    """px; None for a crop that somebody has taken away or spoilt since it was made."""
    try:
        with Image.open(crop) as picture:
            return picture.width
    except OSError:
        return None


def write_needs_points(out: Path, source: Path, entries: Iterable[dict]) -> int:
    """needs_points.csv: the drawings of `source` in which no face was found, after the rows that somebody has filled
    in already, which stay. Returns how many still wait for points."""
    path = out / NEEDS_POINTS
    filled = _filled(path) if path.exists() else []
    done = {row["file"] for row in filled}
    waiting = [
        os.path.relpath(entry["source"], source).replace(os.sep, "/")
        for entry in entries
        if entry["domain"] == "cartoon" and entry.get("reason") == "no face"
    ]
    waiting = sorted(name for name in waiting if name not in done)
    if not filled and not waiting:
        path.unlink(missing_ok=True)
        return 0
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("file", *COORDINATES), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(filled)
        writer.writerows({"file": name} for name in waiting)
    return len(waiting)


def _filled(path: Path) -> list[dict]:
    """The rows with any point; DataError, before anything is lost, where the file is not as it was written."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"file", *COORDINATES} <= set(reader.fieldnames or ()):
                raise DataError(f"{path}: its columns have changed; save it with commas between them, or move it away")
            return [row for row in reader if any(row[name] for name in COORDINATES)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a table in UTF-8, comma-separated ({error}); save it so") from None
