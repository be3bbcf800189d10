"""Drawings without a photo teach the live generator how faces look."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from livetoon.errors import UsageError
from trainer.adversary import Adversary, surrounded, window
from trainer.checkpoint import load_network, restore, save
from trainer.data import load
from trainer.live import LiveLearner
from trainer.live_step import Batch, Trainer
from trainer.networks import build
from trainer.presets import PRESETS, resolve
from trainer.run import main

SIDE = 64
STYLE = dataclasses.replace(PRESETS["live-style"], size=SIDE, feature=0.0)


def test_the_judge_learns_to_tell_drawings_from_what_was_drawn():
    torch.manual_seed(0)
    judge, random = Adversary(1e-3, width=8), np.random.default_rng(0)
    for _ in range(60):
        real, drawn = (
            torch.from_numpy(random.normal(mean, 0.1, (4, 3, 44, 44)).astype(np.float32)) for mean in (0.5, -0.5)
        )
        figures = judge.learn(real, drawn)
    assert figures["judge"] < 0.1 and figures["real"] > 0.7
    assert judge.term(drawn).item() > 3 * judge.term(real).item()


def test_drawings_pull_the_generator_towards_their_colours():
    """The pairs say white, the drawings say blue: with the term the drawing becomes bluer."""
    reached = {}
    for weight in (0.0, 3.0):
        torch.manual_seed(0)
        preset = dataclasses.replace(STYLE, adversarial=weight)
        made = Trainer(build("live", groups=preset.groups), preset, None, adversary=Adversary(2e-3) if weight else None)
        random = torch.Generator().manual_seed(1)
        photo = torch.rand(4, 3, SIDE, SIDE, generator=random) * 2 - 1
        blue = torch.tensor([-0.6, -0.2, 0.8]).view(1, 3, 1, 1).expand(4, 3, SIDE, SIDE).contiguous()
        batch = Batch(photo, torch.full_like(photo, 0.8), torch.ones(4, 1, SIDE, SIDE), real=blue)
        for _ in range(60):
            figures = made.step({"everyone": batch}, 2e-3, 0.5, (20, 20))
        drawn, _ = made.draw(photo, "everyone")
        reached[weight] = (drawn[:, 2] - drawn[:, 0]).mean().item()
    assert {"everyone/adversarial", "everyone/judge", "everyone/real"} <= figures.keys()
    assert reached[3.0] > reached[0.0] + 0.1


def test_what_lies_around_the_person_is_another_drawing_and_only_the_middle_is_seen():
    real = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    alpha = torch.zeros(2, 1, 8, 8)
    alpha[..., 2:6, 2:6] = 1
    laid = surrounded(torch.full((2, 3, 8, 8), 5.0), alpha, real)
    assert (laid[0, :, 0] == 1).all() and (laid[1, :, 0] == 0).all() and (laid[:, :, 3, 3] == 5).all()
    places = [window(256, (seed, 0)) for seed in range(40)]
    assert {each[1].stop - each[1].start for each in places} == {176}
    assert min(each[1].start for each in places) >= 24 and max(each[1].stop for each in places) <= 232
    assert len({each[1].start for each in places}) > 5


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    pixels[:6] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path):
    """Two pairs, and three drawings of nobody in another folder."""
    for name in ("a", "b"):
        picture(tmp_path / f"data/everyone/photo/{name}.png", 1)
        picture(tmp_path / f"data/everyone/cartoon/{name}.png", 2)
    for name in ("x", "y", "z"):
        picture(tmp_path / f"drawings/everyone/cartoon/{name}.png", 3)
    return tmp_path / "data", tmp_path / "drawings"


def test_drawings_without_a_photo_are_read_where_they_are_wanted(data):
    assert len(load(data, [], ["everyone"], SIDE, drawings=True)["everyone"].drawings) == 3
    assert not load(data, [], ["everyone"], SIDE)["everyone"].drawings


def test_a_resumed_run_goes_on_with_its_judge(data, tmp_path):
    pictures = load(data, [], ["everyone"], SIDE, drawings=True)

    def learner() -> LiveLearner:
        preset = dataclasses.replace(STYLE, batch=2, stage1_steps=4)
        adversary = Adversary(1e-3, width=8)
        return LiveLearner(Trainer(build("live", groups=preset.groups), preset, None, adversary=adversary), pictures)

    torch.manual_seed(0)
    first = learner()
    for step in range(2):
        first.step(1, step, first.batches(1, step))
    save(tmp_path / "last", first.parts(), {"stage": 1, "step": 2})
    second = learner()
    restore(tmp_path / "last", second.parts())
    for made in (first, second):
        for step in (2, 3):
            made.step(1, step, made.batches(1, step))
    for one, other in zip(first.parts().networks.values(), second.parts().networks.values(), strict=True):
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_the_command_says_how_many_drawings_there_are(data, tmp_path, capsys):
    few = ("--set", f"size={SIDE}", "--set", "feature=0", "--set", "batch=2", "--set", "stage1_steps=1")
    folders = ("--data", str(data[0]), "--data", str(data[1]))
    assert main(["--preset", "live-style", *folders, *few, "--log", "none", "--out", str(tmp_path / "run")]) == 0
    assert "everyone: 2 pairs, 0 photos without a drawing, 3 drawings without a photo" in capsys.readouterr().err
    assert load_network(tmp_path / "run/checkpoints/last/judge.safetensors").network_name == "discriminator"


def test_published_order_is_refused():
    with pytest.raises(UsageError, match="no other program to follow"):
        resolve("live-style", [], None, None, True, False)
