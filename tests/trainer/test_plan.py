"""The dry run: what it counts is what is then built, and it loads nothing that takes seconds."""

import dataclasses
import re
import subprocess
import sys

import pytest
import torch

from trainer import run
from trainer.initial import branched_network
from trainer.networks import build
from trainer.plan import _cost, _of_one, describe
from trainer.presets import PRESETS, Live, resolve
from trainer.translation import build_generator, build_networks

NARROW = ["width=8", "judge_width=8"]


def thin(name: str):
    """The preset with networks that are built in tenths of a second."""
    return resolve(name, [] if isinstance(PRESETS[name], Live) else NARROW)


def parameters(*networks) -> int:
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_it_lists_every_field_and_counts_what_is_built(name):
    preset = thin(name)
    said = describe(preset)
    names = [each.name for each in dataclasses.fields(preset)]
    assert [line.split()[0] for line in said.splitlines()[: len(names)]] == names
    counts = {what: int(count.replace(",", "")) for what, count in re.findall(r"(.+?)  +([\d,]+) parameters", said)}
    if isinstance(preset, Live):
        assert counts["all that learn"] == parameters(branched_network(preset))
        return
    networks = build_networks(preset)
    judges = [judge for judges in networks.judges.values() for judge in judges.values()]
    predictor = [build("keypoints", size=preset.size)] if preset.keypoint else []
    assert counts["all that learn"] == parameters(networks.to_cartoon, networks.to_photo, *judges, *predictor)
    assert counts["generator, shared"] == parameters(networks.to_cartoon.trunk)


@pytest.mark.parametrize("name", ["ugatit", "ugatit-light", "photo2cartoon", "cyclegan", "keypoint1"])
def test_a_small_picture_tells_what_a_large_one_costs(name):
    preset = dataclasses.replace(thin(name), size=178 if name == "keypoint1" else 128)
    side = 66 if name == "keypoint1" else 64
    small, whole = (build_generator(dataclasses.replace(preset, size=each)) for each in (side, preset.size))
    group = preset.groups[0]
    told = _of_one(small, side, preset, group)
    real = _cost(whole, torch.zeros(1, 3, preset.size, preset.size), group)
    assert told.operations == pytest.approx(real.operations, rel=0.03)
    assert told.kept == pytest.approx(real.kept, rel=0.05)  # pads are a larger share of small maps


def test_checkpointing_bf16_and_batches_change_what_it_says():
    def gigabytes(*overrides: str) -> float:
        said = describe(resolve("fewshot", [*NARROW, *overrides]))
        return float(re.search(r"about ([\d.]+) GB", said)[1])

    whole = gigabytes()
    assert gigabytes("batch=2") > 1.8 * whole
    assert max(gigabytes("checkpointing=on"), gigabytes("bf16=on")) < 0.7 * whole


def test_the_command_prints_it_and_makes_no_folder(tmp_path, capsys):
    out = tmp_path / "out"
    assert run.main(["--preset", "live", "--out", str(out), "--dry-run", "--set", "stage1_steps=7"]) == 0
    said = capsys.readouterr().out
    assert "stage1_steps           7" in said
    assert re.search(r"stage 1 +7 steps of about [\d.]+ s \(\d+ GFLOP\)", said)
    assert not out.exists()


def test_neither_help_nor_dry_run_loads_what_takes_seconds():
    """`--help` has no torch, and the dry run not torch's compiler, which its meta device loads."""
    program = """
import sys
from trainer import run
try:
    run.main(["--help"])
except SystemExit:
    pass
assert "torch" not in sys.modules
for name in ("fewshot", "cyclegan", "live"):
    assert run.main(["--preset", name, "--dry-run"]) == 0
assert "torch._dynamo" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
