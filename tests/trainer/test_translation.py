"""The learner of unpaired translation: averages, sheets, validation, advice, and what a checkpoint of it holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from livetoon.errors import ModelError
from trainer import checkpoint
from trainer.metrics import FeatureExtractor
from trainer.translation import SHOWN
from trainer.validation import Judges, Validation


def weights(module) -> list[torch.Tensor]:
    return [value.detach().clone() for value in module.parameters()]


def test_the_average_follows_the_generator_and_is_never_trained(tiny, learner):
    made = learner(tiny("ugatit-light", "learning_rate=0.01"))
    made.enter(1)
    start, average = weights(made.networks.to_cartoon), weights(made.ema["ema"])
    assert all(map(torch.equal, start, average))
    made.step(1, 0, made.batches(1, 0))
    now = weights(made.networks.to_cartoon)
    for before, after, kept in zip(start, now, weights(made.ema["ema"]), strict=True):
        assert torch.allclose(kept, before + 0.9 * (after - before), atol=1e-6)  # a young run's average is quick
    assert not any(value.requires_grad for value in made.ema["ema"].parameters())


def test_without_an_average_the_generator_itself_is_kept(tiny, learner):
    made = learner(tiny("ugatit-light", "ema=0"))
    made.enter(1)
    made.step(1, 0, made.batches(1, 0))
    assert made.ema["ema"] is made.networks.to_cartoon and made.ema["ema_back"] is made.networks.to_photo
    made.sheet(1, 1)
    assert made.networks.to_cartoon.training


@pytest.mark.parametrize(
    ("name", "stage", "rows", "columns"),
    [("fewshot", 1, 4, 1), ("fewshot", 2, 4, 3), ("cyclegan", 1, 3, 1), ("baseline1", 1, 4, 3)],
)
def test_a_sheet_has_a_column_for_each_photo_of_the_groups_that_learn(name, stage, rows, columns, tiny, learner):
    """Photo, drawing, reconstruction, and where the attention lies of those that have one."""
    made = learner(tiny(name))
    sheet = made.sheet(stage, 1)
    assert sheet.shape == (32 * rows, 32 * columns * SHOWN, 3) and sheet.dtype == np.uint8
    assert np.array_equal(sheet, made.sheet(stage, 2))
    drawn = sheet[32:64].astype(int)
    assert np.abs(drawn - sheet[:32]).mean() > 5


def test_every_terms_figure_is_a_number_and_the_watch_reads_them(tiny, learner):
    made = learner(tiny("cyclegan"))
    made.enter(1)
    made.watch._window = 2
    for step in range(2):
        figures = made.step(1, step, made.batches(1, step))
        assert all(np.isfinite(value) for value in figures.values())
        if not step:
            assert made.advice() == []
    made.watch.step({}, change=0.0)
    assert any("nearly unchanged" in line for line in made.watch.step({}, change=0.0))


def test_validation_comes_when_it_is_due_and_judges_all_three_directions(tiny, learner):
    preset = tiny("fewshot", "validate_every=3")
    made = learner(preset)
    judges = Judges(FeatureExtractor("places", lambda pictures: pictures.flatten(1)[:, ::97]))
    made.validation = Validation(preset, made.data.validation, judges=judges)
    assert made.validate(1, 1) == {} == made.validate(1, 2)
    found = made.validate(1, 3)
    ways = ("photo-cartoon", "cartoon-photo", "photo-reconstruction")
    kids = {name for name in found if name.startswith("kid/")}
    assert kids == {f"kid/many/{way}" for way in ways}  # no other branch has learned anything yet
    assert found["score"] == found["kid/many/photo-cartoon"]
    last = made.validate(2, preset.stage2_steps)
    assert {f"kid/{group}/{way}" for group in preset.groups for way in ways} <= set(last)
    mean = np.mean([last[f"kid/{group}/photo-cartoon"] for group in preset.groups])
    assert last["score"] == pytest.approx(mean)
    assert made.networks.to_cartoon.training


def test_a_checkpoint_of_another_preset_is_named(tiny, learner, tmp_path):
    checkpoint.save(tmp_path / "last", learner(tiny("basic")).parts(), {"stage": 1, "step": 1})
    for other in (tiny("basic", "width=8"), tiny("cyclegan"), tiny("fewshot")):
        with pytest.raises(ModelError, match="safetensors: "):
            checkpoint.restore(tmp_path / "last", learner(other).parts())


def test_the_pools_of_a_resumed_run_hold_the_same_fakes(tiny, learner, tmp_path):
    preset = replace(tiny("cyclegan"), pool=2)
    first, second = learner(preset), learner(preset)
    first.enter(1)
    for step in range(3):
        first.step(1, step, first.batches(1, step))
    checkpoint.save(tmp_path / "last", first.parts(), {"stage": 1, "step": 3} | first.state())
    parts = second.parts()
    second.resume(parts, checkpoint.restore(tmp_path / "last", parts))
    for domain, kept in first.pooled.items():
        assert len(kept) == 2 and all(map(torch.equal, kept, second.pooled[domain]))


def test_activation_checkpointing_changes_no_step(tiny, learner):
    plain, spared = (learner(tiny("fewshot", f"checkpointing={value}")) for value in ("off", "on"))
    figures = []
    for made in (plain, spared):
        made.begin(2)
        made.enter(2)
        figures.append(made.step(2, 0, made.batches(2, 0)))
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)
    ours, theirs = (weights(made.networks.to_cartoon) for made in (plain, spared))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_compile_compiles_every_part_of_the_generators_and_nothing_else(tiny, learner, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    networks = learner(tiny("fewshot", "compile=on")).networks
    holders = [h for net in (networks.to_cartoon, networks.to_photo) for h in (net.trunk, *net.branches.values())]
    parts = {id(part) for holder in holders for part in holder.values()}
    assert {id(part) for part in compiled} == parts and len(compiled) == len(parts) == 2 * (6 + 3 * 2)
    compiled.clear()
    learner(tiny("fewshot"))
    assert compiled == []


def test_a_compiled_step_gives_the_same_figures(tiny, learner, monkeypatch):
    """Captured as graphs, which then run as they are: a real backend would compile for minutes."""
    graphs, whole = [], torch.nn.Module.compile

    def as_it_is(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: whole(self, backend=as_it_is))
    figures = []
    for value in ("off", "on"):
        made = learner(tiny("cyclegan", "own=stem,out", f"compile={value}"))
        made.enter(1)
        figures.append(made.step(1, 0, made.batches(1, 0)))
        assert bool(graphs) == (value == "on")
    torch.compiler.reset()
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)
