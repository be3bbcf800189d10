"""benchmarks/left_out.py: a pair that is left out teaches nothing, and everybody is drawn by who never saw them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from benchmarks import left_out
from benchmarks.quality_people import Model
from engine.manifest import find
from livetoon.errors import TrainingError, UsageError
from trainer.checkpoint import load_generator

GROUPS = ("elderly", "kids", "young-men", "young-women")
SMALL = ("stage2_steps=1", "size=64", "feature=0", "looks=0", "rare_batch=1", "validate_every=0")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """data/ with the astronaut as two pairs of every group, darker in the second, no table, no segmenter."""
    root = tmp_path_factory.mktemp("root")
    for number in range(2):
        picture = (data.astronaut()[:260, 90:350] * (1 - 0.3 * number)).astype(np.uint8)
        for group in GROUPS:
            for kind in ("photo", "cartoon"):
                file = root / "data" / left_out.FEW_SHOT / group / kind / f"{group}-{number + 3}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), cv2.resize(picture, (256, 256))[..., ::-1])
    shutil.copytree(root / "data" / left_out.FEW_SHOT / "young-women", root / "data" / "pairs" / "train")
    return root


@pytest.fixture(scope="module")
def start(root) -> Path:
    left_out.first_branch("live", root / "start.safetensors")
    return root / "start.safetensors"


def test_the_start_is_the_first_branch_alone(start):
    one, whole = load_generator(start), load_generator(find("live") / "generator.safetensors")
    assert one.groups == whole.groups[:1]
    for name, value in one.state_dict().items():
        assert np.array_equal(value, whole.state_dict()[name]), name


def test_the_same_start_is_known_again_when_it_is_made_anew(start, tmp_path):
    for number in range(4):  # the order of a header's strings is another one in every file
        left_out.first_branch("live", tmp_path / f"{number}.safetensors")
        assert left_out.digest(tmp_path / f"{number}.safetensors") == left_out.digest(start)
    assert left_out.digest(find("live") / "generator.safetensors") != left_out.digest(start)


def test_a_pair_that_is_left_out_is_in_no_folder_that_trains(root, start, tmp_path, monkeypatch):
    monkeypatch.setattr(left_out, "TAKEN_FROM", {"--data": "data/pairs"})
    run = left_out.learn(tmp_path, start, root, 1, SMALL)
    here = tmp_path / "2" / left_out.FEW_SHOT
    for group in GROUPS:
        for kind in ("photo", "cartoon"):
            assert [file.name for file in (here / group / kind).iterdir()] == [f"{group}-3.jpg"]
    assert json.loads((run / "config.json").read_text())["preset"]["stage2_steps"] == 1
    learned = load_generator(run)
    assert learned.groups[0] == "young-women" and set(learned.groups) == set(GROUPS)

    stamp = (run / "config.json").stat().st_mtime_ns
    left_out.learn(tmp_path, start, root, 1, SMALL)  # gone on with: nothing is left to do
    assert (run / "config.json").stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="2 learned from another model or with another --set; name another"):
        left_out.learn(tmp_path, start, root, 1, [*SMALL, "seed=1"])
    with pytest.raises(UsageError, match="2 learned from another model or with another --set; name another"):
        left_out.learn(tmp_path, find("anime") / "generator.safetensors", root, 1, SMALL)


def test_a_training_that_fails_is_one_sentence_and_is_tried_again(root, start, tmp_path, monkeypatch):
    monkeypatch.setattr(left_out, "TAKEN_FROM", {"--data": "data/nowhere"})
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"the training ended with [12], as said above; run this again"):
            left_out.learn(tmp_path, start, root, 0, SMALL)


def test_what_it_did_not_make_is_left_where_it_is(root, start, tmp_path):
    kept = tmp_path / "1" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    with pytest.raises(UsageError, match="1 holds something else; name an empty folder"):
        left_out.learn(tmp_path, start, root, 0, SMALL)
    assert kept.read_text() == "years of work"


def test_a_pair_has_the_same_number_on_both_sides_whatever_its_kind_of_file(tmp_path):
    for kind, names in (("photo", ("a.png", "b.jpg", "c.jpg")), ("cartoon", ("a.png", "c.jpg", "d.jpg"))):
        (tmp_path / kind).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / kind / name), np.zeros((8, 8, 3), np.uint8))
    assert left_out.paired(tmp_path) == ["a.png", "c.jpg"]


def test_everybody_is_drawn_by_the_run_that_left_them_out(root, monkeypatch):
    """Two "runs" that draw alike but for their names: whoever is third in the alphabet is drawn by the first."""
    asked = []

    class Recorded(Model):
        def __call__(self, picture, group):
            asked.append((self.name, group))
            return super().__call__(picture, group)

    monkeypatch.setattr("benchmarks.quality_people.Model", Recorded)
    cases, made = left_out.drawn([find("live"), find("anime")], root)
    assert [case.kind for case in cases] == [group for group in GROUPS for _ in range(2)]
    assert asked == [(name, group) for group in GROUPS for name in ("live", "anime")]
    for case, theirs, alone, shown in zip(cases, *made.values(), strict=True):
        assert np.abs(theirs.astype(int) - case.crop).mean() < 12  # here the published drawing is the photo
        assert np.abs(alone.astype(int) - shown).mean() > 3
    sheet = left_out.sheet(cases, made)
    assert sheet.shape == (18 + 4 * 112, 2 * (96 + 4 * 112), 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--root", "{empty}"], "--root: {empty}/data/fewshot_groups is missing"),
        (["--root", "{root}"], "--root: {root}/data/all_age_faces/table.csv is missing"),
        (
            ["--root", "{bare}"],
            "--root: {bare}/data/fewshot_groups holds no pair, GROUP/photo/NAME with GROUP/cartoon/NAME",
        ),
        (["--root", "{full}", "--work", "{full}/file"], "--work {full}/file: is no folder"),
        (["--root", "{full}"], "--root: {full}/models lacks a network that judges, as benchmarks.quality takes them"),
    ],
    ids=["no pairs", "no table", "no pair", "a file", "no judge"],
)
def test_what_is_missing_is_named_before_anything_is_made(root, tmp_path, arguments, sentence, capsys):
    places = {name: str(tmp_path / name) for name in ("empty", "bare", "full")} | {"root": str(root)}
    (tmp_path / "empty").mkdir()
    for name in ("bare", "full"):
        for place in left_out.TAKEN_FROM.values():
            (tmp_path / name / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / place).touch()
        (tmp_path / name / "data" / left_out.FEW_SHOT / "kids").mkdir(parents=True)
    shutil.copytree(
        root / "data" / left_out.FEW_SHOT, tmp_path / "full" / "data" / left_out.FEW_SHOT, dirs_exist_ok=True
    )
    (tmp_path / "full" / "file").touch()
    given = [argument.format(**places) for argument in ["--work", str(tmp_path / "work"), *arguments]]
    assert left_out.main(given) == 2
    assert capsys.readouterr().err.strip().endswith(sentence.format(**places))
    assert not (tmp_path / "work").exists()


def test_a_model_that_is_none_is_named(tmp_path):
    with pytest.raises(UsageError, match="--model: model 'nonesuch': neither a folder nor one of the models"):
        left_out.first_branch("nonesuch", tmp_path / "start.safetensors")
