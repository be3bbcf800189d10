"""The live generator's learner: pairs that judge and never train, the best checkpoint, and a collapse that is told."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainer import augment, checkpoint, loop, run
from trainer.collect import collect
from trainer.data import Group, load
from trainer.live import LiveLearner, spare
from trainer.live_step import Trainer
from trainer.loggers import read_csv
from trainer.metrics import change
from trainer.networks import build
from trainer.presets import PRESETS
from trainer.sampling import network_input
from trainer.validation import Validation

SIDE = 64
LIVE = replace(PRESETS["live"], groups=("many", "few"), size=SIDE, feature=0.0, batch=2)
OPTIONS = [
    *("--preset", "live", "--groups", "many,few", "--log", "none"),
    *(word for name in (
        f"size={SIDE}", "batch=2", "stage1_steps=3", "stage2_steps=2", "validate_every=1",
    ) for word in ("--set", name)),
]  # fmt: skip


def person(shade: int) -> np.ndarray:
    """A square of `shade` on white."""
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    picture[16:48, 16:48] = shade
    return picture


@pytest.fixture(scope="module")
def shaded(tmp_path_factory) -> Path:
    """44 pairs of `many`, whose photos have the shades 0 to 43 and drawings 100 to 143; 2 pairs of `few`, of others."""
    root = tmp_path_factory.mktemp("shaded")
    for group, count, first in (("many", 44, 0), ("few", 2, 50)):
        for side, darkest in (("photo", first), ("cartoon", 100 + first)):
            (root / group / side).mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(root / group / side / f"{number}.png"), person(darkest + number))
    return root


def shades(pictures) -> set[int]:
    return {int(picture[SIDE // 2, SIDE // 2, 0]) for picture in pictures}


def test_the_pairs_that_judge_are_those_that_every_preset_holds_back(shaded):
    train, kept, spared = spare(load([shaded], [], LIVE.groups, SIDE), LIVE.groups)
    elsewhere = collect([shaded], [], LIVE.groups, [LIVE.groups], SIDE)
    assert spared == elsewhere.spared == {"many": ("photo", "cartoon")}
    judging = shades(elsewhere.validation["many"].photo)
    assert len(judging) == 4 and shades(kept["many"].photo) == judging
    assert shades(kept["many"].cartoon) == {100 + shade for shade in judging}
    assert shades(train["many"].photos) == set(range(44)) - judging
    assert [int(name.split(".")[0]) for name in train["many"].names] == [
        int(photo[32, 32, 0]) for photo in train["many"].photos
    ]
    assert len(train["few"].photos) == len(kept["few"].photo) == 2  # it judges by what it learns from


def test_a_group_that_may_not_spare_any_trains_with_all(shaded):
    train, kept, spared = spare(load([shaded], [], LIVE.groups, SIDE), ())
    assert spared == {} and len(train["many"].photos) == len(kept["many"].photo) == 44


def test_cartoons_judge_as_they_lie_on_white():
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    alpha[:, :32] = 255
    _, kept, _ = spare({"few": Group([person(0)], [person(100)], [alpha], names=["a.png"])}, ["few"])
    laid = kept["few"].cartoon[0]
    assert laid.dtype == np.uint8 and (laid[:, 32:] == 255).all() and (laid[16:48, 16:32] == 100).all()


def test_held_out_pairs_never_enter_a_batch(shaded, tmp_path, monkeypatch):
    moved, honest = set(), augment.move

    def move(picture, matrix):
        moved.add(int(picture[SIDE // 2, SIDE // 2, 0]) if picture.ndim == 3 else 255)
        return honest(picture, matrix)

    monkeypatch.setattr(augment, "move", move)
    more = ["--set", "feature=0", "--set", "stage1_steps=60", "--set", "validate_every=1000"]
    monkeypatch.setattr(Trainer, "step", lambda *_: dict.fromkeys(("many/change", "many/output_variance"), 1.0))
    assert run.main(["--data", str(shaded), "--out", str(tmp_path / "out"), *OPTIONS, *more]) == 0
    judging = shades(collect([shaded], [], LIVE.groups, [LIVE.groups], SIDE).validation["many"].photo)
    assert not moved & (judging | {100 + shade for shade in judging})
    assert len(moved) > 60  # nearly all others were looked at, photos and drawings
    assert json.loads((tmp_path / "out" / "config.json").read_text())["spared"] == {"many": ["photo", "cartoon"]}


def test_a_group_is_added_to_a_model_whose_other_parts_stay_to_the_bit(shaded, tmp_path):
    """basic_batch=0: the rare branch learns on the trunk as it is."""
    basic, both = tmp_path / "basic", tmp_path / "both"
    arguments = ["--data", str(shaded), *OPTIONS, "--set", "feature=0"]
    assert run.main([*arguments, "--groups", "many", "--set", "stage2_steps=0", "--out", str(basic)]) == 0
    more = ["--set", "stage1_steps=0", "--set", "basic_batch=0", "--init", str(basic), "--out", str(both)]
    assert run.main([*arguments, *more]) == 0
    before, after = checkpoint.load_generator(basic), checkpoint.load_generator(both)
    for part in ("trunk", "branches.many", "branches.few"):
        of = "branches.many" if part == "branches.few" else part
        old, new = before.get_submodule(of).state_dict(), after.get_submodule(part).state_dict()
        assert all(torch.equal(old[name], value) for name, value in new.items()) == (part != "branches.few"), part


def test_a_run_that_is_never_validated_trains_with_all_and_so_does_the_resumed_one(shaded, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--data", str(shaded), "--out", str(out), *OPTIONS, "--set", "feature=0"]
    assert run.main([*arguments, "--set", "validate_every=0", "--set", "stage2_steps=0"]) == 0
    assert "many: 44 pairs, 0 photos" in capsys.readouterr().err
    assert run.main([*arguments, "--resume"]) == 0
    assert "many: 44 pairs, 0 photos" in capsys.readouterr().err
    assert json.loads((out / "config.json").read_text())["spared"] == {}


def test_the_best_checkpoint_is_the_averaged_model_of_the_best_score(shaded, tmp_path, monkeypatch, caplog):
    """The loss has EfficientNet-Lite0's features, so they judge nothing: what the drawings differ by from theirs does.

    Scripted drawings of the basic group, mostly white: step 2's white is nearest."""
    monkeypatch.delenv("LIVETOON_INCEPTION", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    values, out = iter([-1.0, 1.0, 0.0]), tmp_path / "out"
    monkeypatch.setattr(LiveLearner, "_draw", lambda _, photos, group: torch.full_like(photos, next(values)))
    with caplog.at_level("INFO", logger="trainer"):
        assert run.main(["--data", str(shaded), "--out", str(out), *OPTIONS, "--set", "stage2_steps=0"]) == 0
    rows = {(step, name): value for _, step, name, value in read_csv(out / "log" / "train.csv")}
    told = [rows[step, "l1/many/photo-cartoon"] for step in (1, 2, 3)]
    assert told[1] < told[2] < told[0]
    assert not any(name.startswith(("kid/", "fid/")) or name == "l1/few/photo-cartoon" for _, name in rows)
    best = checkpoint.read_state(out / "checkpoints" / "best")
    assert (best["stage"], best["step"]) == (1, 2) and best["best"] == pytest.approx(told[1], rel=1e-4)
    kept, last = (load_file(out / "checkpoints" / name / "ema.safetensors") for name in ("best", "last"))
    assert any(not value.equal(last[name]) for name, value in kept.items())
    assert json.loads((out / "config.json").read_text())["metric_features"].startswith("none: efficientnet-lite0 is in")
    assert caplog.text.count("EfficientNet-Lite0 is in the loss and must not judge it") == 1
    assert "L1 photo-cartoon" in (out / "summary.html").read_text()
    monkeypatch.setattr(LiveLearner, "_draw", lambda _, photos, group: photos)
    assert run.main(["--data", str(shaded), "--out", str(out), *OPTIONS, "--resume"]) == 0
    best = checkpoint.read_state(out / "checkpoints" / "best")
    assert best["stage"] == 2  # both groups are learned there, and both judge, though one alone could spare pictures
    rows = {(stage, step, name): value for stage, step, name, value in read_csv(out / "log" / "train.csv")}
    judging = [rows[2, best["step"], f"l1/{group}/photo-cartoon"] for group in LIVE.groups]
    assert best["best"] == pytest.approx(np.mean(judging), rel=1e-4)
    assert rows[2, 2, "l1/few/photo-cartoon"] > 0 and rows[2, 2, "change/few/photo-cartoon"] == 0


def test_the_averaged_model_is_what_is_judged(shaded):
    torch.manual_seed(0)
    train, kept, spared = spare(load([shaded], [], LIVE.groups, SIDE), LIVE.groups)
    validation = Validation(replace(LIVE, validate_every=2), kept, spared, paired=True)
    made = LiveLearner(Trainer(build("live", groups=LIVE.groups), LIVE, None), train, validation=validation)
    for value in made.trainer.ema.parameters():
        value.mul_(0.5)
    assert made.validate(1, 1) == {}
    photos, cartoons = (network_input(each, SIDE) for each in (kept["many"].photo, kept["many"].cartoon))
    missed = []
    for network in (made.trainer.ema, made.trainer.generator.eval()):
        with torch.no_grad():
            drawn = network(photos, "many")
        missed.append(change(drawn[:, 3:] * drawn[:, :3] + 1 - drawn[:, 3:], cartoons))
    found = made.validate(1, 2)
    assert found["score"] == found["l1/many/photo-cartoon"] == pytest.approx(missed[0], rel=1e-5)
    assert missed[0] != pytest.approx(missed[1], rel=1e-3)


def test_features_that_are_in_no_loss_judge_by_kid(shaded, tmp_path):
    out = tmp_path / "out"
    assert run.main(["--data", str(shaded), "--out", str(out), *OPTIONS, "--set", "feature=0"]) == 0
    rows = {(stage, step, name): value for stage, step, name, value in read_csv(out / "log" / "train.csv")}
    last = {name for stage, step, name in rows if (stage, step) == (2, 2)}
    figures = ("kid", "fid", "l1", "change")
    assert {f"{figure}/{group}/photo-cartoon" for figure in figures for group in LIVE.groups} <= last
    assert json.loads((out / "config.json").read_text())["metric_features"] == "efficientnet-lite0"
    best = checkpoint.read_state(out / "checkpoints" / "best")
    score = np.mean([rows[best["stage"], best["step"], f"kid/{group}/photo-cartoon"] for group in LIVE.groups])
    assert best["judge"] == "kid of every group by efficientnet-lite0"
    assert best["best"] == pytest.approx(score, rel=1e-4)


def test_a_run_that_began_with_all_pairs_goes_on_with_all(shaded, tmp_path, capsys):
    """Runs and checkpoints from before pairs were held out name no spared groups, no judge and no watch."""
    unseen = ["--set", "feature=0"]
    out, arguments = tmp_path / "out", ["--data", str(shaded), *OPTIONS, *unseen]
    assert run.main([*arguments, "--out", str(out), "--set", "stage2_steps=0"]) == 0
    assert "many: 40 pairs and 4 that judge" in capsys.readouterr().err
    config, state = out / "config.json", out / "checkpoints" / "last" / "state.json"
    for path, new in ((config, ("identity", "spared", "metric_features")), (state, ("watch", "judge", "best"))):
        before = json.loads(path.read_text())
        before.get("preset", {}).pop("validate_every", None)
        path.write_text(json.dumps({name: value for name, value in before.items() if name not in new}))
    for more in ([], ["--set", "stage2_steps=3"]):  # and once more, from what the resumed run wrote
        assert run.main([*arguments, "--out", str(out), "--resume", *more]) == 0
        assert "many: 44 pairs, 0 photos" in capsys.readouterr().err
        assert json.loads(config.read_text())["spared"] == {}


def test_a_run_that_named_the_groups_that_spared_pairs_goes_on_with_the_same(shaded, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--data", str(shaded), "--out", str(out), *OPTIONS, "--set", "feature=0"]
    assert run.main([*arguments, "--set", "stage2_steps=0"]) == 0
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"spared": ["many"]}))
    capsys.readouterr()
    assert run.main([*arguments, "--resume", "--set", "validate_every=0"]) == 0
    assert "many: 40 pairs and 4 that judge" in capsys.readouterr().err
    assert json.loads((out / "config.json").read_text())["spared"] == {"many": ["photo", "cartoon"]}


@pytest.mark.parametrize("copies", [True, False])
def test_the_watch_speaks_when_drawings_are_their_photos(copies, shaded):
    torch.manual_seed(0)
    made = LiveLearner(Trainer(build("live", groups=LIVE.groups), LIVE, None), load([shaded], [], LIVE.groups, SIDE))
    made.watch._window = 2
    if copies:
        generator, weight = made.trainer.generator, next(made.trainer.generator.parameters())

        def logits(photo: torch.Tensor, group: str) -> torch.Tensor:
            """The photo itself where the person is, wherever that is drawn."""
            return torch.cat([torch.atanh(photo.clamp(-0.999, 0.999)), photo[:, :1]], dim=1) + 0 * weight.sum()

        generator.logits = logits
    told = []
    for step in range(2):
        figures = made.step(1, step, made.batches(1, step))
        told += made.advice()
    assert figures["many/change"] < 0.01 if copies else figures["many/change"] > 0.05
    assert [line.split(":")[0] for line in told] == (
        ["the drawings are their photos, nearly unchanged"] if copies else []
    )
    assert not told or ("cartoon/" in told[0] and "cycle" not in told[0])  # there is no such option here


def test_a_resumed_watch_goes_on_where_it_stopped(shaded):
    torch.manual_seed(0)
    data = load([shaded], [], LIVE.groups, SIDE)
    first, second = (LiveLearner(Trainer(build("live", groups=LIVE.groups), LIVE, None), data) for _ in range(2))
    first.step(1, 0, first.batches(1, 0))
    second.resume(second.parts(), json.loads(json.dumps(first.state())))
    assert second.watch.state_dict() == first.watch.state_dict() != LiveLearner(second.trainer, data).watch.state_dict()


@pytest.mark.parametrize(
    ("before", "best"),
    [
        ({"best": 0.25, "judge": "l1"}, 0.25),
        ({"best": 0.25}, 0.25),
        ({"best": 0.25, "judge": "kid by inception-fid"}, float("inf")),
        ({"best": None, "judge": "l1"}, float("inf")),
    ],
    ids=["the same judge", "none named", "another judge", "no score yet"],
)
def test_a_score_counts_as_long_as_the_judge_is_the_same(before, best):
    assert loop._best(before, {"judge": "l1"}) == best
