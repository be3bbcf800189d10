"""Quantization-aware training: the same drawing as the INT8 graph's, weights that suit it, and a run like any other."""

import copy
import dataclasses
import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from calib.quantize import LARGEST_WEIGHT, int8_convolutions, sources
from calib.ranges import PERCENT
from engine.live_graph import LiveGraphs
from livetoon.errors import UsageError
from trainer import checkpoint, losses, run
from trainer.data import Group
from trainer.live import LiveLearner
from trainer.live_step import Batch, Trainer
from trainer.networks import build
from trainer.presets import PRESETS, QAT, fields, resolve
from trainer.qat import Rounding

SIDE = 32
SMALL = {"widths": (8, 16, 16, 16), "blocks": (0, 1, 0), "refine": 1}
GROUPS = ("many", "few")
LIVE = dataclasses.replace(PRESETS["live"], groups=GROUPS, size=SIDE, feature=0.0, batch=2, validate_every=0)
TINY = [
    *("--preset", "live", "--qat", "--groups", "many,few", "--log", "none"),
    *(word for name in ("size=64", "feature=0", "stage2_steps=2", "validate_every=1") for word in ("--set", name)),
]  # fmt: skip


class Dot(nn.Module):
    """One 1x1 convolution of two channels, as a generator."""

    groups = ("many",)

    def __init__(self, weight: tuple[float, float]):
        super().__init__()
        self.trunk = nn.Conv2d(2, 1, 1, bias=False)
        self.trunk.weight.data = torch.tensor(weight).view(1, 2, 1, 1)

    def logits(self, x, group):
        return self.trunk(x)

    def forward(self, x, group, raw=False):
        return self.logits(x, group)


def batch(seed: int = 0) -> Batch:
    """Four smooth photos, and drawings of two shades in a square."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(4, 3, 6, 6, generator=random) * 2 - 1
    photo = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    alpha = torch.zeros(4, 1, SIDE, SIDE)
    alpha[:, :, 6:26, 6:26] = 1
    return Batch(photo, torch.where(alpha > 0, torch.where(photo > 0, 0.7, -0.7), 1.0), alpha)


def learned(groups: tuple[str, ...] = GROUPS, steps: int = 4) -> Trainer:
    """A small generator that has learned a little, in eval mode."""
    torch.manual_seed(0)
    made = Trainer(build("live", groups=groups, **SMALL), dataclasses.replace(LIVE, groups=groups), None)
    for _ in range(steps):
        made.step({"many": batch()}, 5e-3, 0.8, (0, 0))
    made.start_stage_2()
    made.generator.eval()
    return made


def measured(generator: nn.Module, *codes: int) -> Rounding:
    rounding = Rounding(*codes)
    for group in generator.groups:
        rounding.measure(generator, group, batch(1).photo)
    return rounding


def qat(made: Trainer, rounding: Rounding | None, **changes) -> Trainer:
    """Another trainer that goes on from its weights."""
    preset = dataclasses.replace(made.preset, **changes)
    generator = copy.deepcopy(made.ema).requires_grad_(True)
    return Trainer(generator, preset, None, made.generator.groups, rounding)


def test_numbers_are_rounded_to_their_steps_and_cut_at_the_range():
    dot, rounding = Dot((1.0, 0.3)), Rounding(largest_weight=4, largest_activation=10)
    rounding.ranges["many/trunk"] = torch.tensor(2.0)
    x = torch.tensor([0.93, 7.0]).view(1, 2, 1, 1).requires_grad_()
    drawn = rounding.logits(dot, x, "many")
    assert drawn.item() == pytest.approx(1.0 * 1.0 + 0.25 * 2.0)  # steps of 0.2 up to 2, and of 0.25 up to 1
    drawn.sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([1.0, 0.0])  # no slope outside
    assert dot.trunk.weight.grad.flatten().tolist() == pytest.approx([1.0, 2.0])
    assert dot.trunk.weight.flatten().tolist() == pytest.approx([1.0, 0.3])


def test_a_channel_of_zeros_and_a_tensor_of_zeros():
    dot, rounding = Dot((0.0, 0.0)), Rounding()
    rounding.measure(dot, "many", torch.zeros(1, 2, 4, 4))
    assert rounding.logits(dot, torch.zeros(1, 2, 4, 4), "many").abs().max() == 0


def test_it_draws_what_the_exported_int8_graph_draws():
    made = learned(steps=8)
    with torch.no_grad():  # statistics, scales and biases that folding has to take into account
        for layer in made.ema.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 2), layer.bias.uniform_(-0.5, 0.5)
                layer.running_mean.uniform_(-0.5, 0.5), layer.running_var.uniform_(0.3, 2)
        for module in made.ema.modules():
            if hasattr(module, "narrow"):
                module.narrow[1].weight.uniform_(0.2, 0.5)
    generator, x, rounding = made.ema, batch(2).photo, measured(made.ema)
    with torch.no_grad():
        drawn = [rounding.logits(generator, x, "few"), generator.logits(x, "few")]
    rounded, exact = (torch.sigmoid(torch.cat([2 * y[:, :3], y[:, 3:]], dim=1)).numpy() for y in drawn)
    model = LiveGraphs(generator, SIDE, None).graph("few", "few")
    of = [value for name, value in rounding.ranges.items() if name.startswith("few/")]
    ranges = {tensor: float(value) for tensor, value in zip(sources(model).values(), of, strict=True)}
    options = onnxruntime.SessionOptions()  # optimized, it takes integer kernels, whose sums round otherwise
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(int8_convolutions(model, ranges).SerializeToString(), options)
    (got,) = session.run(["rgba"], {"crop": x.numpy()})
    assert np.abs(got - rounded).max() < 1e-5 < 1e-2 < np.abs(got - exact).max()


def test_ranges_are_calibs_rule_on_crops_and_each_groups_own():
    made = learned()
    with torch.no_grad():
        made.ema.branches["few"]["e1"][1].weight.mul_(3)
    rounding = measured(made.ema)
    assert rounding.ranges["many/branches.many.e1.0"] == rounding.ranges["few/branches.few.e1.0"] == 1  # the picture
    f1 = torch.relu(made.ema.branches["many"]["e1"](made.ema.unshuffle(batch(1).photo))).detach().numpy()
    expected = np.mean([np.percentile(np.abs(each), PERCENT) for each in f1])
    assert rounding.ranges["many/branches.many.e2.0"] == pytest.approx(expected, rel=1e-5)
    assert rounding.ranges["few/branches.few.e2.0"] > 2 * expected
    shared = "trunk.down4.0"
    assert rounding.ranges[f"many/{shared}"] != rounding.ranges[f"few/{shared}"]
    assert rounding.knows("few") and not rounding.knows("fe")
    assert not any("branches.few" in name for name in rounding.ranges if name.startswith("many/"))


def test_a_generator_is_left_as_it_was():
    made = learned()
    before, exact = copy.deepcopy(made.ema.state_dict()), made.ema.logits(batch().photo, "few")
    rounding = measured(made.ema)
    assert not torch.equal(rounding.logits(made.ema, batch().photo, "few"), exact)
    assert torch.equal(made.ema.logits(batch().photo, "few"), exact)
    assert all(torch.equal(before[name], value) for name, value in made.ema.state_dict().items())


def test_statistics_stay_and_everything_else_learns():
    made = learned()
    aware = qat(made, measured(made.ema))
    before = copy.deepcopy(aware.generator.state_dict())
    aware.step({"many": batch(), "few": batch(3)}, 1e-3, 0.9, (0, 0))
    for name, value in aware.generator.state_dict().items():
        still = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(before[name], value) == still, name


def test_rare_groups_leave_the_trunk_as_the_basic_group_alone_would_to_the_bit():
    made = learned()
    alone, together = (qat(made, measured(made.ema), pixel=1000.0) for _ in range(2))
    alone.step({"many": batch()}, 1e-3, 0.9, (0, 0))
    together.step({"many": batch(), "few": batch(3)}, 1e-3, 0.9, (0, 0))
    for name, value in alone.generator.trunk.state_dict().items():
        assert torch.equal(together.generator.trunk.state_dict()[name], value), name
    few = together.generator.branches["few"]["e1"][0].weight
    assert not torch.equal(few, made.ema.branches["few"]["e1"][0].weight)


def test_what_is_kept_is_drawn_as_it_will_be_shipped():
    made = learned()
    aware = qat(made, measured(made.ema, 3))
    photo = batch().photo
    drawn, alpha = aware.draw(photo, "few")
    rounded = aware.rounding.logits(aware.ema, photo, "few").detach()
    assert torch.equal(drawn, torch.tanh(rounded[:, :3])) and torch.equal(alpha, torch.sigmoid(rounded[:, 3:]))
    exact = torch.cat(qat(made, None).draw(photo, "few"), dim=1)
    assert torch.equal(exact, made.ema(photo, "few"))
    assert (torch.cat([drawn, alpha], dim=1) - exact).abs().max() > 0.01


def test_rounding_that_hurts_hurts_less_once_it_was_learned():
    """With weights of three bits. As many steps without rounding do not help."""
    target = batch()
    made = learned(("many",), steps=100)
    rounding = measured(made.ema, 3)

    def missed(trainer: Trainer, rounded: bool = True) -> float:
        """L1 of the drawing on white, of the range 2."""
        logits = (
            rounding.logits(trainer.ema, target.photo, "many") if rounded else trainer.ema.logits(target.photo, "many")
        ).detach()
        laid = losses.on_white(torch.tanh(logits[:, :3]), torch.sigmoid(logits[:, 3:]))
        return (laid - target.cartoon).abs().mean().item()

    plain, exact = missed(made), missed(made, rounded=False)
    assert plain > 1.5 * exact
    usual, aware = qat(made, None, unrounded=0.0), qat(made, rounding, unrounded=0.0)
    for trainer in (usual, aware):
        for _ in range(30):
            trainer.step({"many": target}, 2e-3, 0.8, (0, 0))
    assert missed(aware) < plain - 0.5 * (plain - exact)
    assert missed(aware) < 0.85 * missed(usual)


def test_drawings_that_differ_from_the_unrounded_ones_cost():
    made = learned()
    terms = []
    for codes in ((LARGEST_WEIGHT,), (3,)):
        aware = qat(made, measured(made.ema, *codes), unrounded=100.0)
        terms.append(aware.step({"many": batch(), "few": batch(3)}, 0.0, 0.9, (0, 0)))
    fine, coarse = (each["few/unrounded"] for each in terms)
    assert 0 < 10 * fine < coarse
    assert "few/unrounded" not in qat(made, None, unrounded=100.0).step({"few": batch()}, 0.0, 0.9, (0, 0))


def pictures() -> dict[str, Group]:
    """Five pairs of the basic group, two of the other."""
    random, found = np.random.default_rng(0), {}
    for group, count in (("many", 5), ("few", 2)):
        photos, cartoons = random.integers(0, 256, (2, count, SIDE, SIDE, 3), dtype=np.uint8)
        found[group] = Group(list(photos), list(cartoons), [np.full((SIDE, SIDE), 255, np.uint8)] * count)
    return found


def test_a_resumed_run_goes_on_with_the_ranges_that_it_began_with(tmp_path):
    preset = dataclasses.replace(LIVE, qat=True, stage1_steps=0, stage2_steps=2)

    def learner() -> LiveLearner:
        torch.manual_seed(0)
        made = Trainer(build("live", groups=GROUPS, **SMALL), preset, None, GROUPS, Rounding())
        return LiveLearner(made, pictures())

    def step(made: LiveLearner, number: int) -> None:
        made.step(2, number, made.batches(2, number))

    whole = learner()
    whole.begin(2)
    whole.enter(2)
    step(whole, 0)
    checkpoint.save(tmp_path / "last", whole.parts(), {"stage": 2, "step": 1, **whole.state()})
    step(whole, 1)
    resumed = learner()
    parts = resumed.parts()
    resumed.resume(parts, checkpoint.restore(tmp_path / "last", parts))
    resumed.enter(2)
    step(resumed, 1)
    assert resumed.trainer.rounding.ranges == whole.trainer.rounding.ranges != {}
    for name, value in whole.trainer.generator.state_dict().items():
        assert torch.equal(resumed.trainer.generator.state_dict()[name], value), name


def test_a_stage_measures_the_groups_that_it_learns():
    preset = dataclasses.replace(LIVE, qat=True)
    made = LiveLearner(Trainer(build("live", groups=GROUPS, **SMALL), preset, None, (), Rounding()), pictures())
    made.enter(1)
    assert made.trainer.rounding.knows("many") and not made.trainer.rounding.knows("few")
    before = dict(made.trainer.rounding.ranges)
    with torch.no_grad():
        made.trainer.ema.branches["many"]["e1"][1].weight.mul_(3)
    made.enter(1)
    assert made.trainer.rounding.ranges == before
    made.begin(2)
    made.enter(2)
    assert made.trainer.rounding.knows("few")
    assert made.trainer.rounding.ranges["many/branches.many.e2.0"] != before["many/branches.many.e2.0"]


def test_a_run_from_weights_leaves_an_ordinary_checkpoint(pairs, tmp_path):
    torch.manual_seed(0)
    start = build("live", groups=GROUPS)
    checkpoint.save_generator(tmp_path / "start.safetensors", start)
    out = tmp_path / "out"
    arguments = ["--data", str(pairs), "--out", str(out), "--init", str(tmp_path / "start.safetensors"), *TINY]
    assert run.main(arguments) == 0
    preset = json.loads((out / "config.json").read_text())["preset"]
    assert preset["qat"] is True and (preset["stage1_steps"], preset["stage2_steps"]) == (0, 2)
    made = checkpoint.load_generator(out)
    assert made.settings == start.settings and made.state_dict().keys() == start.state_dict().keys()
    assert not torch.equal(made.trunk.down4[0].weight, start.trunk.down4[0].weight)
    assert checkpoint.read_state(out / "checkpoints" / "best")["stage"] == 2
    assert run.main([*arguments[:4], *(word for word in TINY if word != "--qat"), "--resume"]) == 2


def test_the_recipe_is_short_slow_and_for_all_groups_and_can_be_overridden():
    preset = resolve("live", ["stage2_steps=7"], qat=True)
    assert (preset.qat, preset.stage1_steps, preset.stage2_steps) == (True, 0, 7)
    assert preset.stage2_learning_rate == QAT["stage2_learning_rate"] < PRESETS["live"].stage2_learning_rate / 2
    assert resolve("live", []).qat is False and "qat" not in fields(preset)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "live"])
def test_other_presets_have_no_int8_form(name):
    with pytest.raises(UsageError, match=f"--qat: preset {name} has no INT8 form"):
        resolve(name, [], qat=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (TINY, "--qat: goes on from trained weights; name a run or a .safetensors file with --init"),
        (["--preset", "fewshot", "--qat"], "--qat: preset fewshot has no INT8 form that it could learn"),
        (["--preset", "live", "--set", "qat=on"], "--set qat=on: expected name=value with a name of groups"),
        (["--demo", "--qat"], "--qat: has no effect with --demo"),
    ],
)
def test_bad_options_get_one_sentence(arguments, sentence, pairs, tmp_path, capsys):
    data = [] if "--demo" in arguments else ["--data", str(pairs)]
    assert run.main([*data, "--out", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
