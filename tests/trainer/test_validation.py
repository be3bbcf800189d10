"""Who judges a run, when, and by what score; and that no judge is among what teaches."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from livetoon.errors import ModelError, UsageError
from trainer import checkpoint, inception, run, validation
from trainer.collect import Unpaired
from trainer.identity import FaceIdentity
from trainer.identity_files import save_face_id
from trainer.loggers import read_csv
from trainer.metrics import FeatureExtractor
from trainer.networks import build
from trainer.presets import PRESETS
from trainer.validation import Judges, Validation, open_judges

LIVE = replace(PRESETS["live"], groups=("many", "few"), size=32, stage1_steps=7, stage2_steps=4, validate_every=3)
PLACES = Judges(FeatureExtractor("places", lambda pictures: pictures.flatten(1)[:, ::97]))


def sets(*groups: str) -> dict[str, Unpaired]:
    random = np.random.default_rng(0)
    return {
        group: Unpaired(*(list(random.integers(0, 256, (3, 32, 32, 3), np.uint8)) for _ in range(2)))
        for group in groups
    }


def test_validation_is_due_every_so_often_and_at_the_end_of_a_stage():
    made = Validation(LIVE, sets("many"), judges=PLACES)
    due = [(stage, step) for stage, steps in ((1, 7), (2, 4)) for step in range(1, steps + 1) if made.due(stage, step)]
    assert due == [(1, 3), (1, 6), (1, 7), (2, 3), (2, 4)]


@pytest.mark.parametrize(
    ("every", "judges", "paired", "judge"),
    [
        (3, PLACES, True, "kid of every group by places"),
        (3, Judges(), True, "l1 of every group"),
        (3, Judges(), False, None),
        (0, PLACES, True, None),
    ],
    ids=["features", "pairs", "nobody", "switched off"],
)
def test_who_judges(every, judges, paired, judge):
    made = Validation(replace(LIVE, validate_every=every), sets("many"), judges=judges, paired=paired)
    assert made.judge == judge and made.due(1, 7) == (judge is not None)


@pytest.mark.parametrize("spared", [{}, {"many": ("photo", "cartoon")}, {"few": ("photo",)}, {"other": ("photo",)}])
@pytest.mark.parametrize("figure", ["kid", "l1"])
def test_the_score_is_the_mean_over_all_groups_that_learn_whichever_could_spare_pictures(figure, spared):
    """The rare groups are what stage 2 is for: where only the basic group could spare pictures they judge as well."""
    judges = PLACES if figure == "kid" else Judges()
    made = Validation(LIVE, sets("many", "few", "other"), spared, judges, paired=True)
    found = made(["many", "few"], lambda x, group: x * {"many": 0.5, "few": 0.1}.get(group, 1.0))
    values = [found[f"{figure}/{group}/photo-cartoon"] for group in ("many", "few")]
    assert found["score"] == pytest.approx(np.mean(values)) and f"{figure}/other/photo-cartoon" in found
    assert len({round(found[f"{figure}/{group}/photo-cartoon"], 6) for group in ("many", "few")}) == 2


@pytest.mark.parametrize(
    ("every", "spared", "told"),
    [
        (3, {"many": ("photo", "cartoon"), "few": ("photo",)}, "few (cartoon)"),
        (3, {}, "many (photo, cartoon), few (photo, cartoon)"),
        (3, {"many": ("photo", "cartoon"), "few": ("photo", "cartoon")}, None),
        (0, {}, None),
    ],
    ids=["a side", "all", "none", "never validated"],
)
def test_what_judges_although_it_trains_is_told_in_a_line(every, spared, told, caplog):
    made = Validation(replace(LIVE, validate_every=every), sets("many", "few", "other"), spared, PLACES)
    with caplog.at_level("INFO", logger="trainer"):
        made.tell(["many", "few"])
    line = f"validation by pictures that train as well: {told}; sets of 40 and more can spare some"
    assert caplog.messages == ([line] if told else [])


def test_without_a_figure_there_is_no_score():
    made = Validation(LIVE, {"many": Unpaired([np.zeros((32, 32, 3), np.uint8)], [])}, judges=PLACES)
    assert made(["many"], lambda x, group: x) == {}


@pytest.fixture
def without_inception(tmp_path, monkeypatch):
    monkeypatch.delenv(inception.VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def test_features_of_the_loss_never_judge(without_inception, tmp_path, monkeypatch):
    assert open_judges(replace(LIVE, feature=0.04)).features is None
    assert open_judges(replace(LIVE, feature=0.0)).features.name == "efficientnet-lite0"
    assert open_judges(PRESETS["fewshot"]).features.name == "efficientnet-lite0"
    network = inception.Inception("inception-fid")
    torch.save({**network.state_dict(), "fc.weight": torch.zeros(1008, 1)}, tmp_path / "weights.pth")
    monkeypatch.setenv(inception.VARIABLE, str(tmp_path / "weights.pth"))
    assert open_judges(replace(LIVE, feature=0.04)).features.name == "inception-fid"


def test_judges_leave_the_first_weights_as_they_would_be_without_them(without_inception):
    drawn = []
    for every in (0, 3):
        torch.manual_seed(0)
        open_judges(replace(LIVE, feature=0.0, validate_every=every))
        drawn.append(torch.rand(3))
    assert drawn[0].equal(drawn[1])


# Who is in a picture.


@pytest.fixture
def faces(tmp_path) -> dict[str, Path]:
    """Two networks that know nobody: `one`, the same as a .pth and in a copy, and `other`."""
    files = {}
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        files[name] = tmp_path / f"{name}.safetensors"
        save_face_id(files[name], build("mobilefacenet", dimensions=8, width=4, blocks=(1, 1, 1), size=32), "published")
    files["copy"] = Path(shutil.copy(files["one"], tmp_path / "copy.safetensors"))
    torch.save(load_file(files["one"]), tmp_path / "converted.pth")
    files["converted"], files["broken"] = tmp_path / "converted.pth", tmp_path / "broken.pth"
    files["broken"].write_bytes(b"PK no network")
    return files


def test_two_networks_of_one_shape_are_not_taken_for_one(faces, without_inception):
    one, other = (validation.load_face_id(faces[name]) for name in ("one", "other"))
    assert isinstance(open_judges(PRESETS["fewshot"], faces["other"], one).identity, FaceIdentity)
    assert open_judges(PRESETS["fewshot"], faces["one"], other).identity.size == 32
    with pytest.raises(UsageError, match=r"--identity .*converted.pth: computes what the network of --face-id does"):
        open_judges(PRESETS["fewshot"], faces["converted"], one)
    with pytest.raises(ModelError, match=r"broken\.pth"):
        open_judges(PRESETS["fewshot"], faces["broken"], one)


TRANSLATION = [
    *("--groups", "many,few", "--log", "none"),
    *(word for name in (
        "network=ugatit", "own=stem,out", "size=32", "width=4", "judge_width=4", "judge_layers=5,4", "blocks=1",
        "stage1_steps=1", "stage2_steps=1", "validate_every=1",
    ) for word in ("--set", name)),
]  # fmt: skip
PAIRS = [
    *("--preset", "live", "--groups", "many,few", "--log", "none"),
    *(word for name in (
        "size=32", "batch=2", "stage1_steps=1", "stage2_steps=1", "validate_every=1",
    ) for word in ("--set", name)),
]  # fmt: skip


@pytest.mark.parametrize("options", [TRANSLATION, PAIRS], ids=["fewshot", "live"])
def test_a_run_tells_how_alike_faces_stay(options, pairs, faces, tmp_path, without_inception):
    out, taught = tmp_path / "out", ["--face-id", str(faces["one"])] if options is TRANSLATION else []
    arguments = ["--data", str(pairs), "--out", str(out), *options, *taught]
    assert run.main([*arguments, "--identity", str(faces["other"])]) == 0
    found = {name: value for stage, _, name, value in read_csv(out / "log" / "train.csv") if stage == 2}
    ways = ("photo-cartoon", "photo-reconstruction") if taught else ("photo-cartoon",)
    expected = {f"identity/{group}/{way}" for group in ("many", "few") for way in ways}
    told = {name for name in found if name.startswith("identity/") and name.count("/") == 2}
    assert told == expected and all(-1 <= found[name] <= 1 for name in expected)
    page = (out / "summary.html").read_text()
    assert all(f"identity {way}" in page for way in ways)
    assert str(faces["other"]) in (config := (out / "config.json").read_text()) and '"metric_features"' in config
    # It judges and teaches nothing: a run goes on with another one, or with none.
    longer = [*arguments, "--resume", "--set", "stage2_steps=2"]
    assert run.main([*longer, "--identity", str(faces["other"])]) == 0
    assert run.main([*longer, "--set", "stage2_steps=3"]) == 0
    assert str(faces["other"]) not in (out / "config.json").read_text()
    assert checkpoint.read_state(checkpoint.latest(out))["step"] == 3


@pytest.mark.parametrize(
    ("identity", "more", "code", "sentence"),
    [
        ("nowhere", [], 2, "nowhere: no such file"),
        ("one", [], 2, "one.safetensors: the network of --face-id, and what teaches must not judge"),
        ("copy", [], 2, "copy.safetensors: the network of --face-id, and what teaches must not judge"),
        ("converted", [], 2, "converted.pth: computes what the network of --face-id does"),
        ("broken", [], 1, "broken.pth"),
        ("other", ["--set", "validate_every=0"], 2, "--identity: this run never validates"),
    ],
)
def test_a_judge_that_teaches_or_is_none_is_refused(
    identity, more, code, sentence, pairs, faces, tmp_path, without_inception, capsys
):
    files = ["--face-id", str(faces["one"]), "--identity", str(faces.get(identity, tmp_path / identity))]
    assert run.main(["--data", str(pairs), "--out", str(tmp_path / "out"), *TRANSLATION, *files, *more]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "checkpoints").exists()
