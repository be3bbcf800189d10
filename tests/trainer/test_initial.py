"""What a run starts from: weights of earlier ones, part by part, and files that do not fit."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from livetoon.errors import ModelError, TrainingError, UsageError
from trainer import checkpoint
from trainer.group_names import check_names
from trainer.initial import start_translation
from trainer.networks import build
from trainer.translation import TranslationLearner


def saved(learner: TranslationLearner, run, stage: int = 2):
    """The learner's checkpoint as RUN/checkpoints/last; its weights are shaken first, so that no two are alike."""
    torch.manual_seed(7)
    with torch.no_grad():
        for network in learner.parts().networks.values():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.01)
    checkpoint.save(run / "checkpoints" / "last", learner.parts(), {"stage": stage, "step": 1} | learner.state())
    return run


def same(one, other) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_run_goes_on_as_another_with_everything_that_fits(tiny, learner, tmp_path):
    first, second = learner(tiny("fewshot")), learner(tiny("fewshot-no-selective", "seed=1"))
    assert not same(first.networks.to_cartoon, second.networks.to_cartoon)
    assert start_translation(second, saved(first, tmp_path)) == ["many", "few", "other"]
    for (name, network), (_, taken) in zip(first.networks.named(), second.networks.named(), strict=True):
        assert same(network, taken), name
    assert same(second.ema["ema"], first.networks.to_cartoon) and same(second.ema["ema_back"], first.networks.to_photo)


def test_a_basic_model_gives_every_branch_a_copy_and_the_class_heads_start_anew(tiny, learner, tmp_path):
    basic, second = learner(tiny("basic")), learner(tiny("fewshot"))
    heads = {domain: second.networks.judges[domain]["global"].conv_cls.weight_orig.clone() for domain in second.pooled}
    assert start_translation(second, saved(basic, tmp_path)) == []
    trunk = basic.networks.to_cartoon.trunk
    for part, holder in second.networks.to_cartoon.trunk.items():
        assert same(holder, trunk[part])
    for group in ("many", "few", "other"):
        for part in ("stem", "out"):
            assert same(second.networks.to_cartoon.branches[group][part], trunk[part])
    judge, before = second.networks.judges["photo"]["global"], basic.networks.judges["photo"]["global"]
    assert same(judge.model, before.model)
    assert torch.equal(judge.conv_cls.weight_orig, heads["photo"])


@pytest.mark.parametrize(("stage", "kept"), [(2, ["many", "few"]), (1, ["many"])])
def test_what_a_branch_has_learned_outlives_the_start_of_stage_2(stage, kept, tiny, learner, tmp_path):
    """A run that stands in stage 1 has branches that nothing has moved yet."""
    first = learner(replace(tiny("fewshot"), groups=("many", "few")))
    second = learner(replace(tiny("fewshot"), groups=("many", "few", "new")))
    second.learned = start_translation(second, saved(first, tmp_path, stage))
    assert second.learned == kept
    second.begin(2)
    for mine, theirs in (
        (second.networks.to_cartoon, first.networks.to_cartoon),
        (second.networks.to_photo, first.networks.to_photo),
        (second.ema["ema"], first.networks.to_cartoon),
    ):
        assert same(mine.branches["few"], theirs.branches["few" if stage == 2 else "many"])
        assert same(mine.branches["new"], theirs.branches["many"])


def test_one_generators_file_starts_the_generator_alone(tiny, learner, tmp_path):
    first, second = learner(tiny("basic")), learner(tiny("basic", "seed=1"))
    file = saved(first, tmp_path) / "checkpoints" / "last" / "ema.safetensors"
    back = {name: value.clone() for name, value in second.networks.to_photo.state_dict().items()}
    start_translation(second, file)
    assert same(second.networks.to_cartoon, first.ema["ema"])
    assert all(torch.equal(value, back[name]) for name, value in second.networks.to_photo.state_dict().items())


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("cyclegan", (), "generator.safetensors: holds a ugatit network, the preset a cyclegan"),
        ("basic", ("width=8",), "generator.safetensors: of another size than the preset's network"),
        ("ugatit", (), "generator.safetensors: of another size than the preset's network"),
        ("basic", ("blocks=2",), "generator.safetensors: of another size than the preset's network"),
        ("basic", ("judge_width=8",), "cartoon_global.safetensors: of another size than the preset's network"),
    ],
    ids=["network", "width", "full", "blocks", "discriminators"],
)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(name, overrides, sentence, tiny, learner, tmp_path):
    run = saved(learner(tiny("basic")), tmp_path)
    with pytest.raises(TrainingError, match=r"--init .*" + sentence) as caught:
        start_translation(learner(tiny(name, *overrides)), run)
    assert len(str(caught.value).splitlines()) == 1


def test_a_live_network_is_no_start_for_a_translation(tiny, learner, tmp_path):
    checkpoint.save_generator(tmp_path / "live.safetensors", build("live", groups=["many"]))
    with pytest.raises(TrainingError, match="holds a live network, the preset a ugatit"):
        start_translation(learner(tiny("basic")), tmp_path / "live.safetensors")


@pytest.mark.parametrize("harm", ["nowhere", "cut", "unnamed", "empty folder"])
def test_files_that_are_no_weights_are_named(harm, tiny, learner, tmp_path):
    path = tmp_path / "weights.safetensors"
    if harm == "cut":
        checkpoint.save_generator(path, build("live", groups=["many"]))
        path.write_bytes(path.read_bytes()[:5000])
    elif harm == "unnamed":
        save_file({"a": torch.zeros(1)}, path)
    elif harm == "empty folder":
        path.mkdir()
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        start_translation(learner(tiny("basic")), path)


def test_names_that_torch_needs_cannot_be_groups():
    check_names(["women", "men"])
    with pytest.raises(UsageError, match=r"^--groups: 'keys' cannot name a group \(torch uses it\); choose another"):
        check_names(["women", "keys", "training"])
