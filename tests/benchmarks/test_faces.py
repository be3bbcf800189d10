"""What benchmarks/faces.py measures, on pictures whose answer is known."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from benchmarks import faces, faces_groups, faces_search, faces_stability
from faces.still import FaceFinder
from faces.tables import Person, read_people
from livetoon.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Data as the command takes it: eleven pictures of one face and a wall, of which a fifth is held out."""
    images = tmp_path / "data" / "utkface" / "images"
    images.mkdir(parents=True)
    face = cv2.cvtColor(data.astronaut()[:260, 90:350], cv2.COLOR_RGB2BGR)
    with open(images.parent / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "age", "sex", "group"))
        for number in range(12):
            cv2.imwrite(str(images / f"{number}.png"), face if number else np.full_like(face, 90))
            writer.writerow((f"images/{number}.png", 35, "F", "young"))
    return tmp_path


def test_face_free_crops_are_the_same_each_time_and_hold_no_known_face():
    names = [name for name, _ in faces_search.face_free(40)]
    assert names == [name for name, _ in faces_search.face_free(40)]
    assert len(set(names)) == 40
    finder = FaceFinder("photo")
    assert sum(finder(picture) is not None for _, picture in faces_search.face_free(40)) <= 1
    assert {picture.shape[2] for _, picture in faces_search.face_free(40)} == {3}


def test_missed_pictures_are_named(folder):
    people = read_people(folder / "data" / "utkface" / "table.csv")
    said = faces_search.found_share(people, FaceFinder("photo"))
    assert said == {"pictures": 12, "found": round(11 / 12, 4), "missed": ["images/0.png"]}


def test_only_fast_motion_is_shaking():
    times = np.arange(120) / 30
    slow, fast = 5 * np.sin(2 * np.pi * times), 0.5 * np.sin(2 * np.pi * 6 * times)
    positions = np.zeros((120, 2, 2))
    positions[..., 0] = (slow + fast)[:, None]
    assert faces_stability.fast_rms(positions, times) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_an_opponent_is_given_its_best_thresholds(folder):
    """One that says ten years too many and takes the astronaut for a man still sorts her right."""
    people = [
        person for person in read_people(folder / "data" / "utkface" / "table.csv") if person.file != "images/0.png"
    ]
    kids = [Person(person.file, person.path, 8, False, None, "kids") for person in people]
    guesses = iter([faces_groups.Guess(45, 0.4)] * len(people) + [faces_groups.Guess(18, 0.4)] * len(kids))
    said = faces_groups.best_accuracy([*people, *kids], lambda face: next(guesses), FaceFinder("photo"))
    assert said["balanced_accuracy"] == 1
    kids_below, elderly_from, women_above = said["thresholds"]
    assert 18 < kids_below <= 45 < elderly_from and women_above <= 0.4


def test_a_face_of_known_motion_is_followed_within_the_bounds():
    said = faces_stability.scene_figures()
    assert said["still_px"] < 0.15
    assert said["moving_change_px"] < 0.6
    assert abs(said["lag_frames"]) <= 1


def test_the_command_prints_and_writes(folder, capsys):
    out = folder / "faces.json"
    assert faces.main(["--data", str(folder / "data"), "--parts", "search,groups", "--json", str(out)]) == 0
    said = json.loads(out.read_text())
    assert said["search"]["utkface"]["pictures"] == 2
    assert said["groups"]["utkface"]["pictures"] == 2
    printed = capsys.readouterr().out
    assert "a face found in" in printed and "balanced accuracy" in printed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "nowhere"], "nowhere is no folder"),
        (["--data", ".", "--parts", "faces"], "faces is none of"),
        (["--data", ".", "--opponents", "nowhere"], "--opponents: nowhere is no folder"),
        (["--data", ".", "--several", "nowhere.png"], "--several: nowhere.png is no file"),
    ],
)
def test_wrong_use_is_one_sentence(options, sentence, capsys):
    assert faces.main(options) == 2
    assert sentence in capsys.readouterr().err


def test_what_is_missing_is_left_out_and_said(folder, monkeypatch, capsys):
    monkeypatch.setattr(faces_search, "false_faces", lambda finder: {"crops": 500, "false": 0})
    monkeypatch.setattr(faces_stability, "scene_figures", dict)
    table = folder / "data" / "utkface" / "table.csv"
    table.write_text("file,age,sex\nimages/1.png,35,F\n")
    assert faces.main(["--data", str(folder / "data"), "--parts", "search,groups,stability"]) == 0
    said = capsys.readouterr().err
    assert "left out: " + str(folder / "data" / "all_age_faces" / "table.csv") + " is not there" in said
    assert f"left out: {table} is too small to hold rows back" in said
    assert "left out: the clips, which --opponents DIR/landmark68_112.onnx judges" in said


def test_a_clip_without_a_face_is_named(monkeypatch):
    wall = np.full((120, 160, 3), 90, np.uint8)
    monkeypatch.setattr(faces_stability, "frames_of", lambda clip: ((wall, number / 25) for number in range(3)))
    with pytest.raises(DataError, match=r"wall\.mp4: no face is followed in it"):
        faces_stability.clip_figures(Path("wall.mp4"), eyes_in=None)


def test_scripts_of_this_folder_still_find_the_package_of_the_same_name(tmp_path):
    """benchmarks/faces.py beside a script must not stand in for faces/."""
    import subprocess
    import sys

    script = faces.__file__
    done = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--several" in done.stdout
