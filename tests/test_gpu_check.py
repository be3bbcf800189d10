"""scripts/gpu_check.sh, as on a machine without a GPU: each stage fails alone, and what it found is kept."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
RESTORED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHON": sys.executable, "QUICK": "1", **variables}


def check(*stages: str, **variables: str) -> subprocess.CompletedProcess:
    """From the script's own folder, as somebody who looks around there calls it."""
    options = {"cwd": ROOT / "scripts", "env": environment(**variables), "timeout": 300}
    return subprocess.run(["./gpu_check.sh", *stages], capture_output=True, text=True, **options)


def stand_in(folder: Path, *lines: str) -> str:
    """A program in place of Python."""
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)
    return str(path)


def test_a_stage_that_fails_or_takes_too_long_does_not_stop_the_next(tmp_path):
    out = tmp_path / "out"
    run = check("wheels", "look", "training:1", "frames:200", OUT=str(out))
    stages = {each["stage"]: each for each in json.loads((out / "summary.json").read_text())}
    assert list(stages) == ["wheels", "look", "training", "frames"]
    assert stages["wheels"]["exit"] == stages["frames"]["exit"] == 0
    assert stages["wheels"]["said"].startswith("left out")
    assert stages["training"]["said"] == "stopped after 1 s"
    assert json.loads((out / "frames.json").read_text())["rows"]
    assert "x OpenCV" in (out / "frames.log").read_text()
    look = json.loads((out / "look.json").read_text())
    if torch.cuda.is_available():
        assert stages["look"]["exit"] == 0 and look["gpu"]
    else:
        assert stages["look"]["exit"] == 1 and look["gpu"] is None
        assert "no NVIDIA GPU can be described" in stages["look"]["said"]
    assert run.returncode == 1 and f"results: {out}" in run.stdout


def test_whatever_a_log_ends_with_the_summary_is_json(tmp_path):
    python = stand_in(tmp_path, r"""printf 'step 1\r\033[31m\t"torch" said \\n: \303\251\r' >&2""", "exit 3")
    check("look", OUT=str(tmp_path / "out"), PYTHON=python)
    (look,) = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert look["exit"] == 3 and look["said"].startswith("failed: ") and "torch said" in look["said"]


def test_ctrl_c_ends_the_stage_and_the_check(tmp_path):
    alive = tmp_path / "alive"
    python = stand_in(tmp_path, f"echo $$ >{alive}.new && mv {alive}.new {alive}", "exec sleep 60")
    options = {"env": environment(OUT=str(tmp_path / "out"), PYTHON=python), "start_new_session": True}
    # What is started in the background may ignore Ctrl-C, and hands that on.
    run = subprocess.Popen(
        [sys.executable, "-c", RESTORED, str(ROOT / "scripts" / "gpu_check.sh"), "look:50", "frames:50"],
        stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip
    while not alive.exists():
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=20)
    assert run.returncode == 130 and "stopped; what was found so far" in said
    deadline = time.monotonic() + 5
    while _runs(int(alive.read_text())):
        assert time.monotonic() < deadline, "the stage goes on"
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("stages", "variables", "sentence"),
    [
        (["dance"], {}, "no stage dance: choose of wheels look tests"),
        (["tests:soon"], {}, "tests:soon: a limit is whole seconds"),
        (["tests:0"], {}, "tests:0: a limit is whole seconds from 1 up"),
        (["look"], {"WHEELS": "/nowhere"}, "WHEELS=/nowhere is no folder"),
    ],
)
def test_wrong_use_is_told_before_anything_runs(tmp_path, stages, variables, sentence):
    run = check(*stages, OUT=str(tmp_path / "out"), **variables)
    assert run.returncode == 2 and sentence in run.stderr
    assert not (tmp_path / "out").exists()
