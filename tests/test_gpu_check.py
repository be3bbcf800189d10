"""scripts/gpu_check.sh, as on a machine without a GPU: each stage fails alone, and what it found is kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def check(*stages: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHON": sys.executable, "QUICK": "1", **variables}
    command = [str(ROOT / "scripts" / "gpu_check.sh"), *stages]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_stage_that_fails_or_takes_too_long_does_not_stop_the_next(tmp_path):
    out = tmp_path / "out"
    run = check("wheels", "look", "training:1", "frames:200", OUT=str(out))
    stages = {each["stage"]: each for each in json.loads((out / "summary.json").read_text())}
    assert list(stages) == ["wheels", "look", "training", "frames"]
    assert stages["wheels"]["exit"] == stages["frames"]["exit"] == 0
    assert stages["training"]["said"] == "stopped after 1 s"
    assert json.loads((out / "frames.json").read_text())["rows"]
    assert "x OpenCV" in (out / "frames.log").read_text()
    look = json.loads((out / "look.json").read_text())
    if torch.cuda.is_available():
        assert stages["look"]["exit"] == 0 and look["gpu"]
    else:
        assert stages["look"]["exit"] == 1 and look["gpu"] is None
        assert "no NVIDIA GPU can be used" in stages["look"]["said"]
    assert run.returncode == 1 and f"results: {out}" in run.stdout


@pytest.mark.parametrize(
    ("stages", "variables", "sentence"),
    [
        (["dance"], {}, "no stage dance: choose of wheels look tests"),
        (["tests:soon"], {}, "tests:soon: a limit is whole seconds"),
        (["look"], {"WHEELS": "/nowhere"}, "WHEELS=/nowhere is no folder"),
    ],
)
def test_wrong_use_is_told_before_anything_runs(tmp_path, stages, variables, sentence):
    run = check(*stages, OUT=str(tmp_path / "out"), **variables)
    assert run.returncode == 2 and sentence in run.stderr
    assert not (tmp_path / "out").exists()
