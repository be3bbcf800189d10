"""Selective backpropagation: the rare groups never move the trunk; only their own branches learn from them."""

import dataclasses

import pytest
import torch

from livetoon.errors import TrainingError
from trainer.live_step import Batch, Trainer
from trainer.networks import build
from trainer.presets import PRESETS

SMALL = dataclasses.replace(PRESETS["live"], groups=("many", "few", "other"), size=64, feature=0.0)


def batch(seed: int, count: int = 2) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        photo=torch.rand(count, 3, 64, 64, generator=random) * 2 - 1,
        cartoon=torch.rand(count, 3, 64, 64, generator=random) * 2 - 1,
        alpha=(torch.rand(count, 1, 64, 64, generator=random) > 0.5).float(),
    )


def trainer(preset=SMALL) -> Trainer:
    torch.manual_seed(0)
    made = Trainer(build("live", groups=preset.groups), preset, None)
    made.step({"many": batch(0)}, 1e-3, 0.5, (0, 0))
    made.start_stage_2()
    return made


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(before, module) -> bool:
    return all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_rare_groups_leave_the_trunk_as_the_basic_group_alone_would_to_the_bit():
    steep = dataclasses.replace(SMALL, pixel=1000.0)  # gradients far beyond the clipping limit
    alone, together = trainer(steep), trainer(steep)
    start = weights(alone.generator.trunk)
    alone.step({"many": batch(1)}, 1e-3, 0.9, (0, 0))
    together.step({"many": batch(1), "few": batch(2), "other": batch(3)}, 1e-3, 0.9, (0, 0))
    assert not same(start, alone.generator.trunk)
    for name, value in alone.generator.trunk.named_parameters():
        other = dict(together.generator.trunk.named_parameters())[name]
        assert torch.equal(value, other), name


def test_a_step_on_a_rare_group_alone_moves_its_branch_and_nothing_else():
    made = trainer()
    trunk, many, few = (
        weights(m) for m in (made.generator.trunk, *(made.generator.branches[g] for g in ("many", "few")))
    )
    other = weights(made.generator.branches["other"])
    made.step({"few": batch(2)}, 1e-3, 0.9, (0, 0))
    assert same(trunk, made.generator.trunk)
    assert same(many, made.generator.branches["many"])
    assert same(other, made.generator.branches["other"])
    assert not same(few, made.generator.branches["few"])


def test_rare_branches_start_as_copies_of_the_basic_one():
    made = trainer()
    assert same(weights(made.generator.branches["many"]), made.generator.branches["few"])


def test_photos_without_a_drawing_are_learned_from_the_averaged_branch():
    made = trainer()
    before = weights(made.generator.branches["few"])
    still = batch(5, 2)
    identity = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).repeat(2, 1, 1)
    empty = torch.zeros(0, 3, 64, 64)
    mixed = Batch(still.photo, empty, torch.zeros(0, 1, 64, 64), clean=still.photo, motion=identity)
    made.step({"few": mixed}, 1e-3, 0.9, (0, 0))
    assert not same(before, made.generator.branches["few"])


def test_a_marked_person_is_the_alpha_that_a_photo_without_a_drawing_teaches():
    """With the person marked nowhere, then everywhere, the same photo must push the alpha apart."""
    drawn = []
    for mark in (0.0, 1.0):
        made = trainer()
        still = batch(5, 2)
        identity = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).repeat(2, 1, 1)
        marked = torch.full((2, 1, 64, 64), mark)
        mixed = Batch(still.photo, torch.zeros(0, 3, 64, 64), marked, clean=still.photo, motion=identity)
        for _ in range(5):
            made.step({"many": mixed}, 5e-3, 0.9, (0, 0))
        with torch.no_grad():
            drawn.append(made.generator.eval()(still.photo, "many")[:, 3].mean().item())
    assert drawn[1] > drawn[0] + 0.05


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_term():
    made = trainer()
    broken = batch(1)
    broken.cartoon[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingError, match="loss term `pixel` is nan"):
        made.step({"many": broken}, 1e-3, 0.9, (0, 0))


class Taken(torch.nn.Module):
    """A look term whose every value is known: how dark a drawing is, against its photo."""

    def __init__(self):
        super().__init__()
        self.photos = []

    def forward(self, drawn, photo, random):
        self.photos.append(photo)
        return (drawn.mean() - photo.mean()).square()


def test_for_whom_a_drawing_is_taken_teaches_rare_groups_alone():
    """Its weight moves the rare branch, and leaves trunk and basic branch as they are without it, to the bit."""
    ends = []
    for weight in (0.0, 100.0):
        made = trainer(dataclasses.replace(SMALL, looks=weight))
        made.looks = Taken()
        figures = made.step({"many": batch(1), "few": batch(2)}, 1e-3, 0.9, (0, 0))
        assert figures["few/looks"] > 0 and "many/looks" not in figures
        assert len(made.looks.photos) == 1
        ends.append(made.generator)
    without, with_term = ends
    assert same(weights(without.trunk), with_term.trunk)
    assert same(weights(without.branches["many"]), with_term.branches["many"])
    assert not same(weights(without.branches["few"]), with_term.branches["few"])


def test_whom_a_photo_shows_is_looked_up_in_its_undegraded_form():
    pair, photo = batch(1, 1), batch(2, 1)
    whole = Batch(torch.cat([pair.photo, photo.photo]), pair.cartoon, pair.alpha, clean=photo.cartoon)
    assert torch.equal(whole.looked_at, torch.cat([pair.photo, photo.cartoon]))
    assert torch.equal(pair.looked_at, pair.photo)


def test_a_look_term_that_is_not_a_number_stops_the_run_before_anything_moves():
    made = trainer(dataclasses.replace(SMALL, looks=1.0))
    made.looks = lambda drawn, photo, random: drawn.mean() * float("nan")
    before = weights(made.generator)
    with pytest.raises(TrainingError, match="loss term `looks` is nan"):
        made.step({"few": batch(2)}, 1e-3, 0.9, (0, 0))
    assert same(before, made.generator)


def test_rare_drawings_have_a_weight_of_their_own_for_their_features():
    """It moves the rare branch, and leaves the basic one as it is without it, to the bit."""
    ends = []
    for weight in (0.0, 100.0):
        made = trainer(dataclasses.replace(SMALL, feature=0.5, rare_feature=weight))
        made.features = lambda pictures: [torch.nn.functional.avg_pool2d(pictures, 2)]
        figures = made.step({"many": batch(1), "few": batch(2)}, 1e-3, 0.9, (0, 0))
        assert figures["few/feature"] > 0 and figures["many/feature"] > 0
        ends.append(made.generator)
    without, with_weight = ends
    assert same(weights(without.branches["many"]), with_weight.branches["many"])
    assert not same(weights(without.branches["few"]), with_weight.branches["few"])
