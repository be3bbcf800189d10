"""Runs through the door that users use: resume, kill, Ctrl-C, bad options, bad data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from trainer import run

TINY = [
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
        assert process.poll() is None and time.monotonic() < limit, process.stderr.read()
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
    assert run.main(command(pairs, out, "--resume")) == 0
    for name, tensors in weights(whole).items():
        for key, value in weights(out)[name].items():
            assert value.equal(tensors[key]), (name, key)


def test_ctrl_c_saves_and_says_how_to_go_on(pairs, tmp_path):
    out = tmp_path / "stopped"
    process = start(command(pairs, out, "--set", "stage1_steps=100000"))
    wait_for(out / "checkpoints" / "last" / "state.json", process)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    assert "--resume goes on" in printed
    assert json.loads((out / "checkpoints" / "last" / "state.json").read_text())["step"] > 0


def test_two_runs_in_one_folder_are_refused(pairs, tmp_path):
    out = tmp_path / "twice"
    first = start(command(pairs, out, "--set", "stage1_steps=100000"))
    wait_for(out / "checkpoints" / "last" / "state.json", first)
    second = subprocess.run(
        [sys.executable, "-m", "trainer.run", *command(pairs, out, "--resume")], capture_output=True, text=True
    )
    first.kill()
    first.wait()
    assert second.returncode == 1
    assert "another run writes there" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--preset", "none"], 2, "--preset none: unknown"),
        (["--set", "batches=3"], 2, "--set batches=3: expected name=value"),
        (["--set", "batch=many"], 2, "--set batch=many: expected a int"),
        (["--set", "size=100"], 2, "multiple of 16"),
        (["--groups", "kids,kids"], 2, "expected different names"),
        (["--groups", "many,none"], 1, "none: no pairs"),
        (["--resume"], 1, "nothing to resume"),
        (["--init", "nowhere.safetensors"], 1, "nowhere.safetensors"),
        (["--masks", "nowhere.onnx"], 1, "--masks nowhere.onnx: not a network that can be read"),
    ],
)
def test_bad_options_get_one_sentence(arguments, code, sentence, pairs, tmp_path, capsys):
    assert run.main([*command(pairs, tmp_path / "out"), *arguments]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_a_finished_run_is_not_overwritten(whole, pairs, capsys):
    assert run.main(command(pairs, whole)) == 2
    assert "add --resume" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_is_named(pairs, tmp_path, capsys):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(pairs, data)
    (data / "few" / "photo" / "0.png").write_bytes(b"\x89PNG broken")
    assert run.main(command(data, tmp_path / "out")) == 1
    assert "0.png: not a picture" in capsys.readouterr().err


def test_init_takes_weights_and_gives_unknown_groups_the_basic_branch(whole, pairs, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(pairs, data)
    shutil.copytree(data / "few", data / "new")
    out = tmp_path / "out"
    arguments = [
        "--data",
        str(data),
        "--out",
        str(out),
        *TINY,
        "--groups",
        "many,new",
        "--init",
        str(whole),
        "--set",
        "learning_rate=0",
        "--set",
        "stage1_steps=1",
        "--set",
        "stage2_steps=0",
        "--set",
        "weight_decay=0",
    ]
    assert run.main(arguments) == 0
    before, after = weights(whole)["ema"], weights(out)["generator"]
    assert after["branches.new.out.weight"].equal(before["branches.many.out.weight"])
    assert after["trunk.up4.weight"].equal(before["trunk.up4.weight"])
