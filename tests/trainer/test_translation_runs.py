"""Runs of unpaired translation: resumed to the bit, killed, stopped, with bad pictures, bad numbers and a full disk."""

import itertools
import json
import os
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
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from faces.align import COORDINATES, TEMPLATE
from trainer import checkpoint, data, loop, losses, predictor, run
from trainer.ada import Controller
from trainer.checkpoint import load_generator
from trainer.live import LiveLearner, spare
from trainer.live_step import Trainer
from trainer.lock import alone
from trainer.loggers import Loggers, read_csv
from trainer.metrics import FeatureExtractor
from trainer.networks import build
from trainer.presets import PRESETS, Live, resolve
from trainer.translation import TranslationLearner
from trainer.validation import Judges, Validation

TINY = [
    *("--groups", "many,few", "--no-face-id", "--log", "none"),
    *(word for name in (
        "network=ugatit", "own=stem,out", "size=32", "width=4", "judge_width=4", "judge_layers=5,4", "blocks=1",
        "stage1_steps=2", "stage2_steps=2", "validate_every=0",
    ) for word in ("--set", name)),
]  # fmt: skip


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(folder), "--out", str(out), *TINY, *more]


def last_line(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def same_bits(one: Path, other: Path) -> None:
    """Two checkpoint folders hold the same."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir()) and len(names) > 3
    for name in names:
        if name == "state.json":
            assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
            continue
        tensors, found = load_file(one / name), load_file(other / name)
        assert tensors.keys() == found.keys(), name
        for key, value in tensors.items():
            assert value.equal(found[key]), (name, key)


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory) -> Path:
    """An uninterrupted run of both stages of the default preset."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run.main(command(pairs, out)) == 0
    return out


# Resumed is uninterrupted, preset by preset.


class Copies:
    """A logger that keeps a copy of every checkpoint: it is told of pictures right after one was saved."""

    def __init__(self, folder: Path):
        self.folder = folder

    def pictures(self, stage: int, step: int, name: str, sheet: np.ndarray) -> None:
        shutil.copytree(self.folder / "checkpoints" / "last", self.folder / f"at-{stage}-{step}")

    def figures(self, *_) -> None: ...
    def resume(self, *_) -> None: ...
    def close(self) -> None: ...


def resumed_is_uninterrupted(make, folder: Path, stage: int, step: int) -> None:
    """Train a learner that `make` gives, saving after every step; then another from the checkpoint of `step`."""
    clock = itertools.count(step=2 * loop.SAVE_EVERY_S)
    loop.train(make(), folder / "whole", Loggers({"copies": Copies(folder / "whole")}), clock=lambda: next(clock))
    shutil.copytree(folder / "whole" / f"at-{stage}-{step}", folder / "second" / "checkpoints" / "last")
    torch.manual_seed(1234)
    loop.train(make(), folder / "second", Loggers({}), resume=True)
    same_bits(folder / "whole" / "checkpoints" / "last", folder / "second" / "checkpoints" / "last")
    state = checkpoint.read_state(folder / "second" / "checkpoints" / "last")
    assert (state["stage"], state["step"]) > (stage, step)


TRANSLATIONS = [name for name, preset in PRESETS.items() if not isinstance(preset, Live)]


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(name, tiny, learner, tmp_path):
    stages = PRESETS[name].stage2_steps > 0
    preset = tiny(name, *(["stage1_steps=1", "stage2_steps=2"] if stages else ["stage1_steps=3"]))
    if preset.pool:
        preset = replace(preset, pool=1)  # full after a step

    def make() -> TranslationLearner:
        made = learner(preset)
        for controller in made.ada.values():  # one picture before it moves
            controller.load_state_dict(Controller().state_dict() | {"strength": 0.5, "signs": 255.0, "pictures": 255})
        return made

    resumed_is_uninterrupted(make, tmp_path, 2 if stages else 1, 1)


def test_a_resumed_run_of_the_hourglass_network_is_the_uninterrupted_one_to_the_bit(tiny, learner, tmp_path):
    preset = tiny("fewshot", "stage1_steps=0", "stage2_steps=2", hourglasses=True)
    resumed_is_uninterrupted(lambda: learner(replace(preset, groups=("many", "few"))), tmp_path, 2, 1)


def test_a_resumed_live_run_is_the_uninterrupted_one_to_the_bit(pairs, tmp_path):
    small = ["size=64", "feature=0", "batch=2", "stage1_steps=1", "stage2_steps=2", "validate_every=1"]
    preset = resolve("live", small, groups="many,few")
    found, kept, spared = spare(data.load([pairs], [], preset.groups, preset.size), preset.groups)
    judges = Judges(FeatureExtractor("places", lambda pictures: pictures.flatten(1)[:, ::97]))

    def make() -> LiveLearner:
        torch.manual_seed(0)
        validation = Validation(preset, kept, spared, judges, paired=True)
        network = build("live", groups=preset.groups)
        return LiveLearner(Trainer(network, preset, None), found, validation=validation)

    resumed_is_uninterrupted(make, tmp_path, 2, 1)
    same_bits(*(tmp_path / name / "checkpoints" / "best" for name in ("whole", "second")))


def test_a_run_resumed_at_the_end_of_stage_1_begins_stage_2_as_the_uninterrupted_one(tiny, learner, tmp_path):
    resumed_is_uninterrupted(lambda: learner(tiny("fewshot", "stage1_steps=1", "stage2_steps=1")), tmp_path, 1, 1)


# Through the door.


def test_a_run_leaves_what_it_promises(whole):
    assert json.loads((whole / "config.json").read_text())["preset"]["name"] == "fewshot"
    rows = (whole / "log" / "train.csv").read_text()
    assert "1,2,G/photo/cycle" in rows and "2,2,D/cartoon/global/group" in rows
    assert "1,2,D/cartoon/global/group" not in rows  # stage 1 knows one group
    assert {path.name for path in (whole / "samples").iterdir()} == {"stage1-000002.jpg", "stage2-000002.jpg"}
    assert cv2.imread(str(whole / "samples" / "stage2-000002.jpg")).shape == (4 * 32, 2 * 2 * 32, 3)
    assert "<svg" in (whole / "summary.html").read_text()
    drawn = load_generator(whole)(torch.zeros(1, 3, 32, 32), "few")
    assert drawn.image.shape == (1, 3, 32, 32) and drawn.cam.shape == (1, 2)


def test_validation_keeps_the_best_checkpoint(pairs, tmp_path):
    out = tmp_path / "out"
    more = ["--set", "validate_every=1", "--set", "stage1_steps=1", "--set", "stage2_steps=1"]
    assert run.main(command(pairs, out, *more)) == 0
    rows = (out / "log" / "train.csv").read_text()
    assert all(f"2,1,kid/{group}/photo-cartoon" in rows for group in ("many", "few"))
    best = checkpoint.read_state(out / "checkpoints" / "best")
    assert (best["stage"], best["step"]) == (2, 1)
    values = [
        float(row.split(",")[3]) for row in rows.splitlines() if row.startswith("2,1,kid/") and "/photo-cart" in row
    ]
    assert best["best"] == pytest.approx(sum(values) / 2, abs=1e-5)


@pytest.fixture(scope="module")
def large(pairs, tmp_path_factory) -> Path:
    """`many` has 40 photos, of which 4 can be spared, and 6 cartoons; `few` 2 of both."""
    folder = Path(shutil.copytree(pairs, tmp_path_factory.mktemp("large") / "data"))
    for number in range(6, 40):
        shutil.copy(folder / "many" / "photo" / "0.png", folder / "many" / "photo" / f"{number}.png")
    return folder


def test_the_drawings_of_a_group_that_cannot_spare_any_judge_its_held_out_photos(large, tmp_path, caplog):
    out = tmp_path / "out"
    with caplog.at_level("INFO", logger="trainer"):
        assert run.main(command(large, out, "--set", "validate_every=2")) == 0
    told = [line for line in caplog.messages if line.startswith("validation by pictures that train as well")]
    assert [line.partition(": ")[2].partition(";")[0] for line in told] == [
        "many (cartoon)", "many (cartoon), few (photo, cartoon)",
    ]  # fmt: skip
    assert json.loads((out / "config.json").read_text())["spared"] == {"many": ["photo"]}
    rows = read_csv(out / "log" / "train.csv")
    judging = [f"kid/{group}/photo-cartoon" for group in ("many", "few")]
    values = [value for stage, _, name, value in rows if stage == 2 and name in judging]
    best = checkpoint.read_state(out / "checkpoints" / "best")
    assert len(values) == 2 and best["best"] == pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.parametrize(
    ("before", "photos", "spared"),
    [([], 36, {"many": ["photo"]}), (None, 36, {"many": ["photo"]}), ({}, 40, {})],
    ids=["named groups", "named none", "began without validation"],
)
def test_a_resumed_run_trains_with_the_pictures_that_it_began_with(before, photos, spared, large, tmp_path, capsys):
    """Older runs kept pictures of every large set apart, also where they were never validated."""
    out = tmp_path / "out"
    assert run.main(command(large, out, "--set", "stage2_steps=0")) == 0
    assert "many: 40 photos" in capsys.readouterr().err
    config = json.loads((out / "config.json").read_text())
    assert config.pop("spared") == {}
    (out / "config.json").write_text(json.dumps(config if before is None else config | {"spared": before}))
    for steps in (1, 2):  # and once more, from what the resumed run wrote
        assert run.main(command(large, out, "--resume", "--set", f"stage2_steps={steps}")) == 0
        assert f"many: {photos} photos" in capsys.readouterr().err
        assert json.loads((out / "config.json").read_text())["spared"] == spared


def test_the_best_of_stage_1_does_not_outdo_stage_2(tiny, learner, tmp_path, monkeypatch):
    """Stage 1 is judged by the basic group alone: its branches for others have not learned."""
    scores = {(1, 1): 0.1, (2, 1): 0.5, (2, 2): 0.7, (2, 3): 0.4}
    monkeypatch.setattr(TranslationLearner, "validate", lambda _, *place: {"score": scores[place]})
    made = learner(tiny("fewshot", "stage1_steps=1", "stage2_steps=3"))
    loop.train(made, tmp_path, Loggers({}))
    best = checkpoint.read_state(tmp_path / "checkpoints" / "best")
    assert (best["stage"], best["step"], best["best"]) == (2, 3, 0.4)


@pytest.mark.parametrize("name", [name for name in TRANSLATIONS if PRESETS[name].face_id])
def test_without_a_face_id_network_a_preset_that_wants_one_stops(name, pairs, tmp_path, capsys):
    arguments = ["--preset", name, "--data", str(pairs), "--out", str(tmp_path / "out"), "--groups", "many,few"]
    assert run.main(arguments) == 2
    assert "--face-id: preset" in (line := last_line(capsys)) and "--no-face-id" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--face-id", "nowhere.pth"], 2, "--no-face-id: clashes with --face-id"),
        (
            ["--preset", "keypoint2", "--set", "size=34", "--set", "own="],
            2,
            "--points: preset keypoint2 learns where five points",
        ),
        (["--masks", __file__], 2, "--masks: preset fewshot learns no alpha"),
        (["--groups", "many,keys"], 2, "--groups: 'keys' cannot name a group"),
        (["--groups", "many,none"], 1, "photo of none: no pictures in"),
        (["--set", "own=head"], 2, "--set own=head: expected parts of stem"),
        (["--devices", "0"], 2, "--devices, --nodes: expected at least 1"),
        (["--log", "paper"], 2, "--log paper: unknown, expected one of csv"),
        (["--resume"], 1, "nothing to resume"),
        (["--init", "nowhere.safetensors"], 2, "--init nowhere.safetensors: no such file or folder"),
        (["--data", "nowhere"], 1, "nowhere: no such folder"),
        (["--data", "s4://bucket/faces"], 1, "--data s4://bucket/faces: cannot be read"),
    ],
)
def test_bad_options_get_one_sentence(arguments, code, sentence, pairs, tmp_path, capsys):
    assert run.main([*command(pairs, tmp_path / "out"), *arguments]) == code
    assert sentence in last_line(capsys)


def preset_of(*words: str):
    return run._preset(run.arguments().parse_args(list(words)))


@pytest.mark.parametrize(
    ("name", "off", "on"),
    [("fewshot", 0.0, 0.25), ("face2webtoon-group", 0.0, 1.0), ("face2webtoon-finetune", 0.0, 1.0)],
)
def test_the_group_loss_is_switched_by_its_option(name, off, on):
    assert preset_of("--preset", name, "--group-loss", "off").group == off
    assert preset_of("--preset", name, "--group-loss", "on").group == on
    assert preset_of("--preset", name).group == PRESETS[name].group


@pytest.mark.parametrize(("name", "usual"), [("fewshot", False), ("cyclegan", False), ("face2webtoon-ada", True)])
def test_ada_is_switched_by_its_option(name, usual):
    found = [preset_of("--preset", name, *words).ada for words in (["--ada", "on"], ["--ada", "off"], [])]
    assert found == [True, False, usual]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--preset", "live", "--ada", "on"], "--ada: preset live has no such term; leave it out"),
        (["--preset", "live", "--group-loss", "off"], "--group-loss: preset live has no such term; leave it out"),
        (["--preset", "photo2cartoon", "--group-loss", "on"], "--group-loss, --set group: no step of preset photo2c"),
    ],
)
def test_a_switch_of_what_a_preset_has_not_is_refused(words, sentence, capsys):
    assert run.main([*words, "--dry-run"]) == 2
    assert sentence in last_line(capsys)


def test_ada_and_the_group_loss_are_switched_through_the_command(pairs, tmp_path):
    one_each = ["--set", "stage1_steps=1", "--set", "stage2_steps=1"]
    for name, words in (("usual", []), ("switched", ["--ada", "on", "--group-loss", "off"])):
        assert run.main(command(pairs, tmp_path / name, *one_each, *words)) == 0
    usual, switched = ((tmp_path / name / "log" / "train.csv").read_text() for name in ("usual", "switched"))
    assert "2,1,D/cartoon/global/group" in usual and "ada_strength" not in usual
    assert "/group," not in switched and "1,1,cartoon/ada_strength" in switched and "2,1,photo/ada_str" in switched
    preset = json.loads((tmp_path / "switched" / "config.json").read_text())["preset"]
    assert preset["ada"] is True and preset["group"] == 0


def test_a_face_id_file_that_is_none_is_named(pairs, tmp_path, capsys):
    (tmp_path / "face.pth").write_bytes(b"PK no network")
    arguments = [word for word in command(pairs, tmp_path / "out") if word != "--no-face-id"]
    assert run.main([*arguments, "--face-id", str(tmp_path / "face.pth")]) == 1
    assert "face.pth" in last_line(capsys)


def test_points_that_name_no_photo_are_refused(pairs, tmp_path, capsys):
    (tmp_path / "points.csv").write_text("file," + ",".join(COORDINATES) + "\nx.png," + "1," * 9 + "1\n")
    small = ["--set", "size=34", "--set", "own="]
    arguments = command(pairs, tmp_path / "out", "--preset", "keypoint2", "--points", str(tmp_path / "points.csv"))
    assert run.main([*(word for word in arguments if word != "--no-face-id"), *small]) == 2
    assert "names no photo of many" in last_line(capsys)


def keypoint_run(folder: Path, out: Path, *more: str) -> list[str]:
    words = [word for word in command(folder, out, "--preset", "keypoint2") if word != "--no-face-id"]
    return [*words, "--groups", "kids", "--set", "size=34", "--set", "own=", "--set", "stage2_steps=0", *more]


@pytest.fixture(scope="module")
def tabled(pairs, tmp_path_factory) -> Path:
    """Pairs of `kids` in `data`, and a table of three photos of them with their points beside it."""
    root = tmp_path_factory.mktemp("tabled")
    shutil.copytree(pairs / "few", root / "data" / "kids")
    points = ",".join(map(str, TEMPLATE.ravel()))
    rows = [",".join(["file", "age", "sex", *COORDINATES])]
    for number in range(3):
        cv2.imwrite(str(root / f"listed-{number}.png"), np.full((256, 256, 3), 40 + number, np.uint8))
        rows.append(f"listed-{number}.png,5,F,{points}")
    (root / "table.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize("points", [True, False], ids=["the table's points named as well", "the table alone"])
def test_photos_of_a_table_bring_the_points_that_a_keypoint_preset_wants(points, tabled, tmp_path, capsys):
    more = ["--photos", str(tabled / "table.csv")] + ["--points", str(tabled / "table.csv")] * points
    assert run.main(keypoint_run(tabled / "data", tmp_path / "out", *more)) == 0
    assert "kids: 5 photos (3 with points), 2 drawings" in capsys.readouterr().err


def test_a_run_from_before_tables_had_points_goes_on_without_them(tabled, tmp_path, capsys):
    listed, columns = tmp_path / "points.csv", ",".join(["file", *COORDINATES])
    listed.write_text(f"{columns}\nphoto/0.png,{','.join(['9'] * 10)}\n")
    more = ["--photos", str(tabled / "table.csv"), "--points", str(listed)]
    assert run.main(keypoint_run(tabled / "data", tmp_path / "out", *more)) == 0
    assert "(4 with points)" in capsys.readouterr().err
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("table_points")
    path.write_text(json.dumps(config))
    for steps in (3, 4):  # and once more, from what the resumed run wrote
        longer = [*more, "--resume", "--set", f"stage1_steps={steps}"]
        assert run.main(keypoint_run(tabled / "data", tmp_path / "out", *longer)) == 0
        assert "(1 with points)" in capsys.readouterr().err


def test_a_table_that_holds_no_photo_of_the_basic_group_brings_no_points(tabled, tmp_path, capsys):
    (tmp_path / "table.csv").write_text((tabled / "table.csv").read_text().replace(",5,F", ",70,F"))
    for number in range(3):
        shutil.copy(tabled / f"listed-{number}.png", tmp_path)
    arguments = keypoint_run(tabled / "data", tmp_path / "out", "--photos", str(tmp_path / "table.csv"))
    assert run.main(arguments) == 2
    assert "--points: no photo of kids has five points" in last_line(capsys)


# Pictures of all kinds.


def gradient(side: int = 40) -> np.ndarray:
    row, column = np.mgrid[:side, :side]
    return np.stack([row * 6, column * 6, row + column], axis=2).astype(np.uint8)


def save_kinds(folder: Path) -> None:
    """One picture of every unusual kind that can be used."""
    folder.mkdir(parents=True)
    picture = Image.fromarray(gradient())
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(gradient()[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    frames = [picture.rotate(angle) for angle in (90, 180)]
    picture.save(folder / "moving.gif", save_all=True, append_images=frames)
    clear = picture.convert("RGBA")
    clear.putalpha(Image.fromarray(gradient()[..., 0]))
    clear.save(folder / "clear.png")
    picture.resize((60, 20)).save(folder / "wide.webp")


def test_pictures_of_every_kind_and_different_counts_are_learned_from(pairs, tmp_path, capsys):
    folder = tmp_path / "data"
    save_kinds(folder / "many" / "photo")
    save_kinds(folder / "few" / "cartoon")
    shutil.copytree(pairs / "many" / "cartoon", folder / "many" / "cartoon")
    shutil.copytree(pairs / "few" / "photo", folder / "few" / "photo")
    (folder / "many" / "photo" / "notes.txt").write_text("not a picture, and not looked at")
    assert run.main(command(folder, tmp_path / "out", "--set", "stage1_steps=5")) == 0
    printed = capsys.readouterr().err
    assert "many: 5 photos, 6 drawings" in printed and "few: 2 photos, 5 drawings" in printed


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("noise.png", b"\x89PNG broken", "noise.png: not a picture that can be read"),
        ("empty.jpg", b"", "empty.jpg: an empty file"),
        ("cut.png", None, "cut.png: broken off or damaged"),
        ("dot.png", Image.new("RGB", (1, 1)), "dot.png: only 1x1 px"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named_before_training(name, content, sentence, pairs, tmp_path, capsys):
    folder = Path(shutil.copytree(pairs, tmp_path / "data"))
    file = folder / "few" / "cartoon" / name
    if content is None:
        random = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(random).save(file)
        file.write_bytes(file.read_bytes()[:2000])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        content.save(file)
    assert run.main(command(folder, tmp_path / "out")) == 1
    assert sentence in last_line(capsys)
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("preset", "sentence"),
    [("fewshot", "cartoon of few: no pictures"), ("baseline2", "cartoon of few: no pictures"), ("baseline1", None)],
)
def test_an_empty_group_is_named_unless_it_is_mixed_with_others(preset, sentence, pairs, tmp_path, capsys):
    folder = Path(shutil.copytree(pairs, tmp_path / "data"))
    shutil.rmtree(folder / "few" / "cartoon")
    (folder / "few" / "cartoon").mkdir()
    stages = ["--preset", preset, "--set", "own=", "--set", f"stage2_steps={0 if preset == 'baseline1' else 1}"]
    assert run.main(command(folder, tmp_path / "out", *stages)) == (1 if sentence else 0)
    assert sentence is None or sentence in last_line(capsys)


def test_mixed_groups_that_are_all_empty_are_named(tmp_path, capsys):
    for place in ("many/photo", "many/cartoon", "few/photo", "few/cartoon"):
        (tmp_path / "data" / place).mkdir(parents=True)
    arguments = command(tmp_path / "data", tmp_path / "out", "--preset", "baseline1", "--set", "own=")
    assert run.main(arguments) == 1
    assert "photo of many or few: no pictures" in last_line(capsys)


# Checkpoints of other runs.


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--preset", "fewshot-no-selective"], "--resume: preset is fewshot-no-selective, but the run in"),
        (["--preset", "live"], "--resume: preset is live, but the run in"),
        (["--set", "size=48"], "--resume: size is 48, but the run in"),
        (["--set", "width=8"], "--resume: width is 8, but the run in"),
        (["--set", "cycle=5"], "--resume: cycle is 5.0, but the run in"),
        (["--groups", "few,many"], "--resume: groups is"),
    ],
)
def test_a_run_is_resumed_as_it_began_or_not_at_all(change, sentence, whole, pairs, capsys):
    before = (whole / "config.json").read_bytes()
    arguments = command(pairs, whole, "--resume", *change)
    if "live" in change:
        live = ["--preset", "live", "--groups", "many,few", "--set", "size=32", "--set", "feature=0", "--log", "none"]
        arguments = ["--data", str(pairs), "--out", str(whole), "--resume", *live]
    assert run.main(arguments) == 2
    assert sentence in last_line(capsys)
    assert (whole / "config.json").read_bytes() == before


def test_a_run_can_be_made_longer(whole, pairs, tmp_path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    assert run.main(command(pairs, out, "--resume", "--set", "stage2_steps=3")) == 0
    assert checkpoint.read_state(checkpoint.latest(out))["step"] == 3


@pytest.mark.parametrize("file", ["generator", "photo_local", "generators"])
def test_a_broken_checkpoint_is_named(file, whole, pairs, tmp_path, capsys):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    path = out / "checkpoints" / "last" / f"{file}.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert run.main(command(pairs, out, "--resume")) == 1
    assert f"{file}.safetensors" in last_line(capsys)


# What stops a run.


def test_a_term_that_is_no_number_stops_the_run_and_the_last_checkpoint_stays(pairs, tmp_path, monkeypatch, capsys):
    out, calls, honest = tmp_path / "out", itertools.count(), losses.distance
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1)

    def broken(picture, target):
        return honest(picture, target) * (float("nan") if next(calls) == 7 else 1.0)

    monkeypatch.setattr(losses, "distance", broken)  # two cycles and two identities a step: the last one of step 2
    assert run.main(command(pairs, out)) == 1
    assert "loss term `G/photo/identity` is nan: what was saved before is kept" in last_line(capsys)
    state = checkpoint.read_state(checkpoint.latest(out))
    assert (state["stage"], state["step"]) == (1, 1)
    monkeypatch.undo()
    assert run.main(command(pairs, out, "--resume")) == 0
    assert all(value.isfinite().all() for value in load_generator(out).state_dict().values())


def test_an_absurd_rate_leaves_no_checkpoint_that_holds_no_numbers(pairs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1)
    more = ["--set", "learning_rate=1e38", "--set", "weight_decay=0", "--set", "stage1_steps=9"]
    assert run.main(command(pairs, out, *more)) == 1
    assert "what was saved before is kept; go on from it" in last_line(capsys)
    for path in (out / "checkpoints").glob("last/*.safetensors"):
        assert path.stem in ("generators", "discriminators") or all(
            v.isfinite().all() for v in load_file(path).values()
        )


def test_a_full_disk_ends_the_run_and_what_was_saved_stays(pairs, tmp_path, monkeypatch, capsys):
    out, honest, full = tmp_path / "out", checkpoint.save_file, []

    def save_file(tensors, path, *rest):
        if checkpoint.latest(out) is not None and path.stem == "generators":
            full.append(path)
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        return honest(tensors, path, *rest)

    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1)
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    assert run.main(command(pairs, out)) == 1
    assert "what was saved before is kept: make room" in (line := last_line(capsys)) and "No space left" in line
    assert full and checkpoint.read_state(checkpoint.latest(out))["step"] == 1
    monkeypatch.undo()
    assert run.main(command(pairs, out, "--resume")) == 0


def test_a_second_run_in_a_folder_is_refused(pairs, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with alone(out):
        assert run.main(command(pairs, out)) == 1
    assert "another run writes there" in last_line(capsys)
    assert run.main(command(pairs, out)) == 0


def test_a_finished_run_is_not_overwritten(whole, pairs, capsys):
    assert run.main(command(pairs, whole)) == 2
    assert "add --resume" in last_line(capsys)


@pytest.mark.parametrize("moment", ["in a step", "while logging"])
def test_ctrl_c_saves_and_says_how_to_go_on(moment, whole, pairs, tmp_path, monkeypatch, caplog):
    """Whenever it comes, the step that was taken is saved, and the resumed run ends as if it had not been stopped."""
    out, pressed = tmp_path / "out", []
    where = (TranslationLearner, "step") if moment == "in a step" else (loop.Run, "note")
    honest = getattr(*where)

    def press(*arguments):
        if not pressed:
            pressed.append(os.kill(os.getpid(), signal.SIGINT))
        return honest(*arguments)

    monkeypatch.setattr(*where, press)
    with caplog.at_level("INFO", logger="trainer"):
        assert run.main(command(pairs, out)) == 130
    assert "stopped and saved; the same command with --resume goes on" in caplog.text
    state = checkpoint.read_state(checkpoint.latest(out))
    assert (state["stage"], state["step"]) == ((1, 1) if moment == "in a step" else (2, 1))
    monkeypatch.undo()
    assert run.main(command(pairs, out, "--resume")) == 0
    same_bits(whole / "checkpoints" / "last", out / "checkpoints" / "last")


def test_a_second_ctrl_c_ends_at_once_and_says_what_was_saved(pairs, tmp_path, monkeypatch, caplog):
    out, honest = tmp_path / "out", TranslationLearner.step
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1)

    def press(learner, stage, step, batches):
        for _ in range(2 * step):
            os.kill(os.getpid(), signal.SIGINT)
        return honest(learner, stage, step, batches)

    monkeypatch.setattr(TranslationLearner, "step", press)
    assert run.main(command(pairs, out)) == 130
    told = "stopped at once; saved last: stage 1, step 1; the same command with --resume goes on from there"
    assert told in caplog.messages
    assert checkpoint.read_state(checkpoint.latest(out))["step"] == 1


@pytest.mark.parametrize("older", [False, True], ids=["today's", "older"])
def test_the_means_that_are_logged_after_a_stop_are_those_of_the_uninterrupted_run(older, pairs, tmp_path, monkeypatch):
    """Checkpoints of older runs hold no figures: there the first mean is of fewer steps."""
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    pressed, honest, steps = [], TranslationLearner.step, ["--set", "stage1_steps=6", "--set", "stage2_steps=0"]
    assert run.main(command(pairs, tmp_path / "whole", *steps)) == 0

    def press(learner, stage, step, batches):
        if step == 2 and not pressed:
            pressed.append(os.kill(os.getpid(), signal.SIGINT))
        return honest(learner, stage, step, batches)

    monkeypatch.setattr(TranslationLearner, "step", press)
    assert run.main(command(pairs, tmp_path / "out", *steps)) == 130
    path = tmp_path / "out" / "checkpoints" / "last" / "state.json"
    state = json.loads(path.read_text())
    assert state["step"] == 3 and state["figures"]["G/photo/cycle"][1] == 3
    if older:
        del state["figures"]
        path.write_text(json.dumps(state))
    assert run.main(command(pairs, tmp_path / "out", *steps, "--resume")) == 0
    whole, resumed = (read_csv(tmp_path / name / "log" / "train.csv") for name in ("whole", "out"))
    assert [row[:3] for row in whole] == [row[:3] for row in resumed]
    assert (whole == resumed) != older


# The keypoint predictor's lessons, which may take longer than all steps of a stretch.


def teaching(tiny, learner) -> TranslationLearner:
    """Four batches of the predictor before the first step, two before the third."""
    return learner(tiny("keypoint2", "keypoint_epochs=2,1", "stage1_steps=3"))


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("lesson", [2, 4, 5])
def test_a_run_stops_within_its_predictors_lessons_and_goes_on_to_the_bit(
    presses, lesson, tiny, learner, tmp_path, monkeypatch
):
    """Twice pressed it ends at once, and goes on from what was saved before that batch."""
    loop.train(teaching(tiny, learner), tmp_path / "whole", Loggers({}))
    monkeypatch.setattr(predictor, "PIECE", 1)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1)
    honest, calls = predictor.Lessons._learn, itertools.count(1)

    def press(self, optimizer):
        for _ in range(presses if next(calls) == lesson else 0):
            os.kill(os.getpid(), signal.SIGINT)
        honest(self, optimizer)

    monkeypatch.setattr(predictor.Lessons, "_learn", press)
    if presses == 1:
        assert not loop.train(teaching(tiny, learner), tmp_path / "out", Loggers({}))
    else:
        with pytest.raises(KeyboardInterrupt):
            loop.train(teaching(tiny, learner), tmp_path / "out", Loggers({}))
    state = checkpoint.read_state(tmp_path / "out" / "checkpoints" / "last")
    taken = lesson if presses == 1 else lesson - 1
    place = (0, taken) if taken <= 4 and lesson <= 4 else (2, taken - 4 if presses == 1 else 0)
    assert state["step"] == place[0] and (state["lessons"]["done"] == place[1] or not place[1])
    torch.manual_seed(1234)
    assert loop.train(teaching(tiny, learner), tmp_path / "out", Loggers({}), resume=True)
    same_bits(tmp_path / "whole" / "checkpoints" / "last", tmp_path / "out" / "checkpoints" / "last")


def test_a_run_from_before_lessons_were_kept_goes_on(tiny, learner, tmp_path):
    made = learner(tiny("keypoint2", "stage1_steps=4"))
    state = made.state()
    del state["lessons"]
    made.resume(made.parts(), state)
    assert made.prepare(1, 2) and not made.prepare(1, 2) and not made.prepare(1, 3)


SLOW_SAVE = """
import sys, time
from pathlib import Path
import trainer.loop, trainer.checkpoint
from trainer.run import main

trainer.loop.SAVE_EVERY_S = -1
honest = trainer.checkpoint.save_generator

def slow(path, generator):
    honest(path, generator)
    if (path.parent.parent / "last").exists() and path.stem == "back":
        Path(sys.argv[1], "saving").touch()
        time.sleep(600)

trainer.checkpoint.save_generator = slow
sys.exit(main(sys.argv[2:]))
"""


def test_a_kill_in_the_middle_of_a_save_loses_nothing(whole, pairs, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", SLOW_SAVE, str(tmp_path), *command(pairs, out)])
    limit = time.monotonic() + 120
    while not (tmp_path / "saving").exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (out / "checkpoints" / ".last.new" / "back.safetensors").exists(), "the kill did not hit a save"
    assert checkpoint.read_state(checkpoint.latest(out))["step"] == 1
    assert run.main(command(pairs, out, "--resume")) == 0
    same_bits(whole / "checkpoints" / "last", out / "checkpoints" / "last")
