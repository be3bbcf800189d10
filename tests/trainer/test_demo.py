"""The demo makes its own data, runs both stages and leaves what a run leaves; what it needs may be missing."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from faces.pictures import pictures, read
from livetoon.errors import UsageError
from trainer import checkpoint, demo, run
from trainer.loggers import read_csv
from trainer.presets import PRESETS

FEW = {demo.BASIC: 3, demo.RARE: 2}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "demo"
    demo.demo(out, steps=(1, 1), counts=FEW)
    return out


def test_a_demo_leaves_samples_of_both_stages_and_a_summary(done):
    names = {path.name for path in (done / "samples").iterdir()}
    assert names == {"stage1-000001.jpg", "stage2-000001.jpg"}
    page = (done / "summary.html").read_text(encoding="utf-8")
    assert "samples/stage2-000001.jpg" in page and "smoke run" in page
    assert list((done / "log" / "tensorboard" / "stage2").iterdir())


def test_everything_a_run_can_do_is_switched_on(done):
    figures = {name for _, _, name, _ in read_csv(done / "log" / "train.csv")}
    assert "kid/rare/photo-cartoon" in figures
    assert {"photo/ada_strength", "cartoon/ada_strength"} <= figures
    assert any(name.endswith("/group") for name in figures)
    generators = {path.stem for path in (done / "checkpoints" / "best").glob("*.safetensors")}
    assert {"ema", "ema_back"} <= generators
    settings = json.loads((done / "config.json").read_text())["preset"]
    assert settings["source"].startswith("a smoke run") and settings["face_id"] == 0


def test_faces_stand_alone_on_white_beside_their_drawings(done):
    for group, count in FEW.items():
        photos, cartoons = (pictures(done / "data" / group / side) for side in ("photo", "cartoon"))
        assert [path.name for path in photos] == [path.name for path in cartoons]
        assert len(photos) == count
        for photo, cartoon in zip(map(read, photos), map(read, cartoons), strict=True):
            corners = np.stack([photo[:20, :10], photo[:20, -10:], cartoon[:20, :10], cartoon[:20, -10:]])
            assert corners.min() > 235
            middle = (slice(90, 190), slice(90, 170))
            assert photo[middle].std() > 25 and cartoon[middle].std() > 25
            assert np.abs(photo[middle].astype(int) - cartoon[middle]).mean() > 20


def test_copies_of_one_face_differ():
    face = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    alpha = np.full((32, 32), 255, np.uint8)
    one, other = (demo.varied(face, alpha, np.random.default_rng(seed)) for seed in (1, 2))
    again, _ = demo.varied(face, alpha, np.random.default_rng(1))
    assert np.abs(one[0].astype(int) - other[0]).mean() > 5
    assert np.array_equal(one[0], again)


def test_the_largest_part_of_an_alpha_is_kept():
    alpha = np.zeros((128, 128), np.uint8)
    cv2.circle(alpha, (50, 60), 30, 255, -1)
    cv2.circle(alpha, (115, 20), 9, 200, -1)
    kept = demo.largest(alpha)
    assert kept[60, 50] == 255 and kept[20, 115] == 0
    assert not demo.largest(np.zeros((8, 8), np.uint8)).any()


def test_the_preset_of_the_demo_is_the_few_shot_one_but_for_sizes():
    made = demo.demo_preset((4, 2))
    published = PRESETS["fewshot"]
    for name in ("network", "own", "selective", "cycle", "identity", "group", "stage2_sampling", "groups_alike"):
        assert getattr(made, name) == getattr(published, name)


def test_a_demo_that_was_stopped_goes_on_and_a_complete_one_is_left_alone(done, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(done, tmp_path / "runs" / "demo"))
    config = (copy / "config.json").read_text(encoding="utf-8")
    (copy / "config.json").write_text(config.replace(str(done), str(copy)), encoding="utf-8")
    assert demo.free_folder((1, 1)) == Path("runs/demo-2")
    monkeypatch.setattr(demo, "make_data", None)  # of a demo that goes on the data is there
    preset = demo.demo_preset
    monkeypatch.setattr(demo, "demo_preset", lambda steps: replace(preset(steps), validate_every=0))
    demo.demo(steps=(1, 2), counts=FEW)
    printed = capsys.readouterr().out
    assert "from where it was stopped" in printed and "done: open runs/demo/summary.html" in printed
    assert checkpoint.read_state(checkpoint.latest(copy))["step"] == 2


def test_the_folder_of_somebody_elses_run_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo.free_folder((1, 1)) == Path("runs/demo")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    assert demo.free_folder((1, 1)) == Path("runs/demo-2")


def test_a_run_that_is_complete_is_not_written_into(done):
    (done / "data" / demo.BASIC / "photo" / "02.png").rename(done / "kept.png")
    with pytest.raises(UsageError, match="holds a run already; name another folder"):
        demo.demo(done, steps=(1, 1), counts=FEW)
    assert not (done / "data" / demo.BASIC / "photo" / "02.png").exists()
    (done / "kept.png").rename(done / "data" / demo.BASIC / "photo" / "02.png")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (("skimage", "matplotlib"), "scikit-image, which is not installed"),
        (("engine",), "generator.safetensors: not there"),
    ],
    ids=["faces", "model"],
)
def test_what_the_demo_needs_and_misses_is_one_sentence(missing, sentence, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else find(name, *rest))
    assert run.main(["--demo", "--out", str(tmp_path / "out")]) == 1
    assert sentence in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--data", "mine"], "--data"),
        (["--set", "size=64"], "--set"),
        (["--no-face-id", "--resume"], "--no-face-id"),
        (["--preset", "ugatit", "--log", "none", "--debug"], "--preset"),
        (["--devices", "2", "--dry-run"], "--devices"),
    ],
)
def test_options_without_effect_on_the_demo_are_refused(more, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "--debug" in more:
        with pytest.raises(UsageError, match=f"^{named}: has no effect with --demo"):
            run.main(["--demo", *more])
        return
    assert run.main(["--demo", *more]) == 2
    assert f"{named}: has no effect with --demo, which takes --out alone" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    """What makes the data must leave the process able to be stopped."""
    command = [sys.executable, "-m", "trainer.run", "--demo", "--out", str(tmp_path / "demo")]
    printed, limit = tmp_path / "printed", time.monotonic() + 240
    with open(printed, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    while "the first step is taken" not in printed.read_text():
        assert process.poll() is None and time.monotonic() < limit, printed.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    assert f"stopped: python -m trainer.run --demo --out {tmp_path / 'demo'} goes on" in printed.read_text()
    assert checkpoint.latest(tmp_path / "demo") is not None


def test_one_face_is_enough(tmp_path, monkeypatch):
    """matplotlib, whose picture is the second one, comes with the extra `dev` only."""
    inside = demo._inside
    monkeypatch.setattr(
        demo, "_inside", lambda package, path: None if package == "matplotlib" else inside(package, path)
    )
    demo.make_data(tmp_path, {demo.BASIC: 1, demo.RARE: 1})
    drawings = [read(tmp_path / group / "cartoon" / "00.png").astype(int) for group in FEW]
    assert np.abs(drawings[0] - drawings[1]).mean() > 5
