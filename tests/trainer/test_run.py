"""Runs of the live generator through the door that users use: resume, kill, bad options, bad data."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from safetensors.torch import load_file

from livetoon import lock as files_lock
from livetoon.errors import TrainingError
from trainer import checkpoint, lock, loop, run
from trainer.live_step import Trainer
from trainer.networks import build

TINY = [
    "--preset",
    "live",
    "--log",
    "none",
    "--groups",
    "many,few",
    "--set",
    "size=64",
    "--set",
    "feature=0",
    "--set",
    "batch=2",
    "--set",
    "stage1_steps=6",
    "--set",
    "stage2_steps=4",
    "--set",
    "validate_every=0",
]


def command(pairs: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(pairs), "--out", str(out), *TINY, *more]


def weights(out: Path) -> dict:
    folder = out / "checkpoints" / "last"
    return {name: load_file(folder / f"{name}.safetensors") for name in ("generator", "ema", "optimizer")}


def start(arguments: list[str], **environment: str) -> subprocess.Popen:
    code = (
        "import sys, trainer.loop as l; l.SAVE_EVERY_S = 0; from trainer.run import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 120
    while not path.exists():
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            pytest.fail(process.communicate()[1])
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """An uninterrupted run of both stages."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run.main(command(pairs, out)) == 0
    return out


def test_a_run_leaves_what_it_promises(whole):
    assert json.loads((whole / "config.json").read_text())["preset"]["groups"] == ["many", "few"]
    assert (whole / "log" / "train.csv").read_text().count("few/pixel") == 1
    assert {p.name for p in (whole / "samples").iterdir()} == {"stage1-000006.jpg", "stage2-000004.jpg"}


def test_a_run_killed_while_it_works_goes_on_to_the_same_bits(whole, pairs, tmp_path):
    out = tmp_path / "killed"
    process = start(command(pairs, out))
    wait_for(out / "checkpoints" / "last" / "state.json", process)
    process.kill()
    process.wait()
    state = checkpoint.read_state(checkpoint.latest(out))
    assert (state["stage"], state["step"]) != (2, 4), "the kill came too late to test anything"
    assert run.main(command(pairs, out, "--resume")) == 0
    for name, tensors in weights(whole).items():
        for key, value in weights(out)[name].items():
            assert value.equal(tensors[key]), (name, key)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--preset", "none"], 2, "--preset none: unknown"),
        (["--set", "batches=3"], 2, "--set batches=3: expected name=value"),
        (["--set", "batch=many"], 2, "--set batch=many: expected a int"),
        (["--set", "batch=0"], 2, "--set batch=0: expected at least 1"),
        (["--set", "basic_batch=0", "--groups", "many"], 2, "--set basic_batch=0: nothing would learn in stage 2"),
        (["--set", "rare_batch=0"], 2, "--set rare_batch=0: expected at least 1"),
        (["--set", "size=100"], 2, "multiple of 16"),
        (["--set", "network=live-dense"], 2, "--set network=live-dense: has no branches"),
        (["--groups", "kids,kids"], 2, "expected different names"),
        (["--groups", "many,a.b"], 2, "--groups many,a.b: expected different names of letters"),
        (["--groups", "many,keys"], 2, "--groups: 'keys' cannot name a group"),
        (["--groups", "many,none"], 1, "none: no pairs"),
        (["--resume"], 1, "nothing to resume"),
        (["--init", "nowhere.safetensors"], 2, "--init nowhere.safetensors: no such file or folder"),
        (["--masks", "nowhere.onnx"], 2, "--masks nowhere.onnx: no such file"),
        (["--masks", __file__], 1, "not a network that can be read"),
    ],
)
def test_bad_options_get_one_sentence(arguments, code, sentence, pairs, tmp_path, capsys):
    assert run.main([*command(pairs, tmp_path / "out"), *arguments]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--photos", "nowhere.csv"], "--photos nowhere.csv: no such file"),
        (["--photos", __file__, "--photos", "nowhere.csv"], "--photos nowhere.csv: no such file"),
        (["--no-face-id"], "--no-face-id: preset live has no such loss; leave it out"),
        (["--resume", "--init", __file__], "--init: a run that is resumed goes on from its own checkpoint; leave"),
        (["--as-published"], "--as-published: live is livetoon's own, there is no other program to follow; leave it"),
    ],
)
def test_options_that_have_no_effect_or_no_file_are_told_before_anything_is_made(
    arguments, sentence, pairs, tmp_path, capsys
):
    assert run.main([*command(pairs, tmp_path / "out"), *arguments]) == 2
    assert f"trainer.run: {sentence}" in (said := capsys.readouterr().err) and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_data_a_sentence_says_how_to_prepare_some(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run.main([]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and said.startswith("python -m trainer.run: --data: no folder given; expected")
    assert "python -m trainer.prepare IN DIR" in said and "--demo" in said
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_not_overwritten(whole, pairs, capsys):
    assert run.main(command(pairs, whole)) == 2
    assert "add --resume" in capsys.readouterr().err


def killed(*_):
    raise KeyboardInterrupt


def test_a_start_that_fails_leaves_the_folder_free(pairs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for wrong in (["--init", __file__], ["--masks", __file__], ["--groups", "many,none"]):
        assert run.main(command(pairs, out, *wrong)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        assert run.main(command(pairs, out)) == 130  # ended before its first checkpoint
    assert run.main(command(pairs, out, "--set", "stage1_steps=1", "--set", "stage2_steps=0")) == 0
    assert json.loads((out / "config.json").read_text())["preset"]["stage1_steps"] == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (["--set", "batch=3"], "batch"),
        (["--groups", "many"], "groups"),
        (["--data", "{pairs}"], "data"),
        (["--masks", "{pairs}/many/photo/0.png"], "masks"),
    ],
    ids=["preset", "groups", "data", "masks"],
)
def test_a_run_goes_on_as_it_began_or_not_at_all(whole, pairs, change, field, capsys):
    before = (whole / "config.json").read_bytes()
    arguments = [each.format(pairs=pairs) for each in change]
    assert run.main(command(pairs, whole, "--resume", *arguments)) == 2
    assert f"--resume: {field} is" in capsys.readouterr().err.splitlines()[-1]
    assert (whole / "config.json").read_bytes() == before


def test_a_run_whose_config_is_broken_is_not_resumed(whole, pairs, tmp_path, capsys):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    for text in ("", "[]", '{"version": 2}'):
        (out / "config.json").write_text(text)
        assert run.main(command(pairs, out, "--resume")) == 1
        assert "config.json" in capsys.readouterr().err.splitlines()[-1]


def test_a_run_can_be_made_longer(whole, pairs, tmp_path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    assert run.main(command(pairs, out, "--resume", "--set", "stage2_steps=5")) == 0
    assert checkpoint.read_state(checkpoint.latest(out))["step"] == 5
    assert json.loads((out / "config.json").read_text())["preset"]["stage2_steps"] == 5


def test_samples_that_cannot_be_written_end_the_run(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cv2, "imwrite", lambda *_: False)
    assert run.main(command(pairs, tmp_path / "out")) == 1
    assert "stage1-000006.jpg: cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_the_lock_holds_on_windows_too(tmp_path, monkeypatch, windows_locks):
    importlib.reload(loop)
    importlib.reload(files_lock)
    try:
        refused = pytest.raises(TrainingError, match="another run writes there")
        with lock.alone(tmp_path), refused, lock.alone(tmp_path):
            pass
        with lock.alone(tmp_path):
            pass
    finally:
        monkeypatch.undo()
        importlib.reload(files_lock)


@pytest.mark.parametrize("field", ["looks_coloured", "rare_feature"])
def test_a_run_from_before_a_field_is_not_resumed_with_another_value_of_it(field, whole, pairs, tmp_path, capsys):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    config = json.loads((out / "config.json").read_text())
    del config["preset"][field]
    config["preset"] |= {"feature": 0.5}
    (out / "config.json").write_text(json.dumps(config))
    assert run.main(command(pairs, out, "--resume", "--set", "feature=0.5", "--set", "stage2_steps=5")) == 2
    assert f"--resume: {field} is" in capsys.readouterr().err.splitlines()[-1]


def test_a_picture_that_cannot_be_read_is_named(pairs, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(pairs, data)
    (data / "few" / "photo" / "0.png").write_bytes(b"\x89PNG broken")
    assert run.main(command(data, tmp_path / "out")) == 1
    assert "0.png: not a picture" in capsys.readouterr().err


def still(*groups: str) -> list[str]:
    """Options of a run that moves nothing but by copying."""
    rates = ["--set", "learning_rate=0", "--set", "stage2_learning_rate=0", "--set", "weight_decay=0"]
    return ["--groups", ",".join(groups), "--set", "stage1_steps=1", *rates]


def test_init_takes_weights_and_gives_unknown_groups_the_basic_branch(whole, pairs, tmp_path):
    data, out = Path(shutil.copytree(pairs, tmp_path / "data")), tmp_path / "out"
    shutil.copytree(data / "few", data / "new")
    arguments = command(data, out, *still("many", "new"), "--init", str(whole), "--set", "stage2_steps=0")
    assert run.main(arguments) == 0
    before, after = weights(whole)["ema"], weights(out)["generator"]
    assert after["branches.new.out.weight"].equal(before["branches.many.out.weight"])
    assert after["trunk.up4.weight"].equal(before["trunk.up4.weight"])


def test_what_a_rare_group_had_learned_outlives_init_stage_1_and_resume(whole, pairs, tmp_path):
    data, out = Path(shutil.copytree(pairs, tmp_path / "data")), tmp_path / "out"
    shutil.copytree(data / "few", data / "new")
    arguments = command(data, out, *still("many", "few", "new"))
    assert run.main([*arguments, "--init", str(whole), "--set", "stage2_steps=0"]) == 0
    assert run.main([*arguments, "--resume", "--set", "stage2_steps=1"]) == 0
    learned = weights(whole)["ema"]
    assert not learned["branches.few.out.weight"].equal(learned["branches.many.out.weight"])
    for name in ("generator", "ema"):
        after = weights(out)[name]
        assert after["branches.few.out.weight"].equal(learned["branches.few.out.weight"])
        assert after["branches.new.out.weight"].equal(learned["branches.many.out.weight"])


def test_branches_of_a_run_that_ended_in_stage_1_are_not_taken_for_learned(pairs, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run.main(command(pairs, first, "--set", "stage2_steps=0")) == 0
    arguments = command(pairs, second, *still("many", "few"), "--init", str(first), "--set", "stage2_steps=1")
    assert run.main(arguments) == 0
    after = weights(second)["ema"]
    assert after["branches.few.out.weight"].equal(after["branches.many.out.weight"])


def test_init_of_another_width_is_refused(pairs, tmp_path, capsys):
    made = build("live", groups=["many"], widths=(4, 8, 8, 8), blocks=(0, 1, 0))
    checkpoint.save_generator(tmp_path / "small.safetensors", made)
    assert run.main(command(pairs, tmp_path / "out", "--init", str(tmp_path / "small.safetensors"))) == 1
    assert "small.safetensors: widths" in capsys.readouterr().err.splitlines()[-1]
