"""The training benchmark: its opponent learns the same from the same pictures, and a run gives its rows. No speed is
asserted."""

import json
import os
from dataclasses import replace

import pytest
import torch

from benchmarks import training
from trainer.presets import resolve
from trainer.step import Step

os.environ["OMP_NUM_THREADS"] = "1"  # of the measuring processes: such maps are computed sooner than handed out
torch.set_num_threads(1)

SMALL = ["width=4", "judge_width=4", "size=96"]


def both_sides(name: str, *changes: str) -> tuple[training.Side, training.Side, object]:
    """Ours, in the order in which the public one moves, and the public one: same weights, same pictures."""
    preset = resolve(name, [*SMALL, *changes])
    face_id = training.RANDOM if preset.face_id else None
    ours, public = (training.Side(training.Job(preset, side, False, 1, face_id)) for side in (False, True))
    rules = replace(training.family(preset, face_id)[1], discriminators_first=preset.network != "cyclegan")
    optimizers = training._optimizers(ours.networks, preset, fused=False)
    taken = Step(ours.networks, rules, optimizers)
    ours._step = lambda seen: taken([seen])
    return ours, public, training.pictures(preset, 1)


@pytest.mark.parametrize(("name", "passes"), [("ugatit-light", 8), ("photo2cartoon", 8), ("cyclegan", 6)])
def test_the_public_order_makes_more_passes_for_the_same_terms(name, passes):
    ours, public, seen = both_sides(name)
    mine, theirs = ours(seen), public(seen)
    assert public.passes(seen) == passes
    assert ours.passes(seen) == 6
    terms = {term: value for term, value in mine.items() if term.startswith(("G/", "D/"))}
    assert terms.keys() == theirs.keys()
    for term, value in terms.items():
        assert value == pytest.approx(theirs[term], rel=1e-4), term


def test_the_public_order_moves_the_networks_as_ours_does():
    ours, public, seen = both_sides("ugatit-light", "weight_decay=0")
    before = [p.detach().clone() for p in ours.networks.to_cartoon.parameters()]
    ours(seen), public(seen)
    for mine, theirs, old in zip(
        ours.networks.to_cartoon.parameters(), public.networks.to_cartoon.parameters(), before, strict=True
    ):
        # Adam's first move is the rate in the direction of the gradient's sign: nearly all must agree on it.
        alike = ((mine - theirs).abs() < 5e-5).float().mean()
        assert alike > 0.9
        assert not torch.equal(mine, old)


def test_the_few_shot_step_sees_every_group_and_reaches_the_face_network_on_one_side_alone():
    preset = resolve("fewshot", SMALL)
    ours, public = (training.Side(training.Job(preset, side, False, 1, training.RANDOM)) for side in (False, True))
    seen = training.pictures(preset, 1)
    mine, theirs = ours(seen), public(seen)
    assert seen.groups == list(preset.groups)
    assert (ours.passes(seen), public.passes(seen)) == (6, 8)
    assert mine["D/cartoon/global/group"] == pytest.approx(theirs["D/cartoon/global/group"], rel=1e-4)
    assert all(p.grad is None for p in ours.networks.face_id.parameters())
    assert any(p.grad is not None for p in public.networks.face_id.parameters())


def test_a_run_measures_both_sides_in_processes_of_their_own(tmp_path, capsys):
    arguments = ["--presets", "cyclegan", "--size", "32", "--width", "4", "--steps", "2", "--precision", "bf16"]
    assert training.main([*arguments, "--json", str(tmp_path / "t.json")]) == 0
    written = json.loads((tmp_path / "t.json").read_text())
    assert [row["precision"] for row in written["rows"]] == ["bf16"]
    for row in written["rows"]:
        assert (row["preset"], row["size"], row["batch"], row["steps"]) == ("cyclegan", 32, 1, 2)
        assert row["ratio_to_public"] == pytest.approx(row["step_s"] / row["public_step_s"], rel=0.3)
        assert row["peak_memory_gb"] > 0 < row["peak_memory_ratio"]
        assert row["images_per_s"] == pytest.approx(2 / row["step_s"], rel=0.2)
    assert written["machine"]["versions"]["torch"] == torch.__version__
    said = capsys.readouterr().out
    assert "cyclegan" in said
    assert written["machine"]["processor"] in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--presets", "live"], "--presets live: has no public order"),
        (["--presets", "keypoint3"], "--presets keypoint3: has no public order"),
        (["--presets", "nobody"], "nobody"),
        (["--size", "100"], "size=100"),
        (["--steps", "0"], "--steps 0: expected at least 1"),
        (["--precision", "int3"], "--precision int3: expected one of fp32, bf16"),
        (["--face-id", "none.pth"], "--face-id none.pth: no such file"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_built(arguments, said, capsys):
    assert training.main(arguments) == 2
    assert said in capsys.readouterr().err
