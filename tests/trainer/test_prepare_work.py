"""A preparation that is stopped, killed or runs out of disk leaves nothing half, and the next call goes on."""

import csv
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from faces.align import COORDINATES
from faces.pictures import read
from trainer import prepare
from trainer.lock import alone
from trainer.prepare_plan import Settings

HAND_SET = np.array([(204, 102), (247, 105), (223, 126), (200, 139), (247, 141)], float)
MIRRORED = (np.array([299, 0]) - HAND_SET * (1, -1))[[1, 0, 2, 4, 3]]


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """(300, 300, 3) uint8 RGB: the astronaut's head, with the places above still right."""
    return np.ascontiguousarray(data.astronaut()[:300, :300])


def save(path: Path, picture: np.ndarray, *how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), *how)


def mirrored(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, ::-1])


def write_table(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def five(points: np.ndarray) -> dict[str, float]:
    return dict(zip(COORDINATES, points.ravel().tolist(), strict=True))


def hand_set(folder: Path, **points: np.ndarray) -> Path:
    """Points for every picture in `folder`: those of its stem in `points`, or the face's own. Nothing is searched."""
    rows = [{"file": path.name, **five(points.get(path.stem, HAND_SET))} for path in sorted(folder.glob("*.*g"))]
    write_table(folder.parent / "points.csv", rows)
    return folder.parent / "points.csv"


def crops(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.glob("*/*/*"))}


@pytest.fixture(scope="module")
def many(tmp_path_factory, face):
    """120 pictures that are all nearly the same: IN and its points."""
    source = tmp_path_factory.mktemp("many") / "in"
    for number in range(120):
        shown = face.copy()
        shown[0, :, 0] = number
        save(source / f"{number:03}.jpg", shown)
    return source, hand_set(source)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_stopped_call_goes_on(stop, many, tmp_path):
    source, points = many
    out = tmp_path / "out"
    command = [sys.executable, "-m", "trainer.prepare", source, out, "--group", "kids", "--jobs", "1"]
    process = subprocess.Popen([*map(str, command), "--points", str(points)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(out.glob("kids/photo/[!.]*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    made = [path for path in out.glob("kids/photo/*") if path.name[0] != "."]
    assert 5 <= len(made) < 120
    assert all(read(path).shape == (256, 256, 3) for path in made)
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert "done and kept; the same command goes on from there" in said and "Traceback" not in said
        assert not list(out.glob("kids/photo/.*"))
    counts = prepare.prepare(source, out, Settings(group="kids"), points=points, jobs=2)
    assert counts["already_done"] >= 5
    assert counts["kept"] == 1 and counts["dropped"] == {"near-duplicate": 119}
    assert len(list(out.glob("kids/photo/*"))) == 1


def test_a_half_written_crop_is_swept_away_and_nothing_else(tmp_path, face):
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "a.b.png", face)
    points = hand_set(source, **{"a.b": HAND_SET})
    prepare.prepare(source, out, Settings(group="kids"), points=points, jobs=1)
    (half, other) = (out / "kids/photo" / name for name in (".a.b.png.x1_2.png", ".somebody.png"))
    for path in (half, other):
        path.write_bytes(b"half")
    prepare.prepare(source, out, Settings(group="kids"), points=points, jobs=1)
    assert not half.exists() and other.exists()


def test_a_line_cut_short_by_a_kill_is_done_again(tmp_path, face):
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "a.png", face)
    save(source / "b.png", mirrored(face))
    points = hand_set(source, b=MIRRORED)
    prepare.prepare(source, out, Settings(group="kids"), points=points, jobs=1)
    # As a kill leaves them: the second picture's line is half there, and its crop not at all.
    journal = out / ".prepared.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[0] + lines[1][:-50])
    whole = crops(out)
    (out / json.loads(lines[1])["file"]).unlink()
    counts = prepare.prepare(source, out, Settings(group="kids"), points=points, jobs=1)
    assert (counts["kept"], counts["already_done"]) == (2, 1)
    assert crops(out) == whole


def test_a_full_disk_is_one_sentence_and_the_next_call_goes_on(tmp_path, face):
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "a.png", face)
    points = hand_set(source)
    command = [sys.executable, "-m", "trainer.prepare", source, out, "--group", "kids", "--points", points]
    stopped = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        check=False,
    )
    assert stopped.returncode == 1
    said = stopped.stderr.strip().splitlines()
    assert len(said) == 1 and f"{out / 'kids/photo/a.png'}: File too large; what was there before is kept" in said[0]
    assert not crops(out)
    assert prepare.prepare(source, out, Settings(group="kids"), points=points, jobs=1)["kept"] == 1


def test_two_calls_in_one_folder_do_not_mix(tmp_path, face, capsys):
    save(tmp_path / "in/a.png", face)
    (tmp_path / "out").mkdir()
    with alone(tmp_path / "out"):
        assert prepare.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    assert "another run writes there" in capsys.readouterr().err
