"""Checkpoints, whole and broken; reading generators: every way in, and files that are no generators."""

import hashlib
import json

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from livetoon.errors import ModelError, TrainingError
from trainer import checkpoint
from trainer.networks import build, names

# sha256 over "NAME SHAPE" of each tensor in the published baseline file, sorted, one a line
BASELINE_TENSORS = "6c55ffda27d91ebcd65317b4b9a5158e387c95a30d3939e4d33ed4d0f11e67d3"


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("live")])
def test_every_live_network_comes_back_the_same(name, tmp_path):
    made = build(name, groups=["many", "few"]).eval()
    checkpoint.save_generator(tmp_path / "g.safetensors", made)
    loaded = checkpoint.load_generator(tmp_path / "g.safetensors")
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        drawn = loaded(x, "few")
        assert torch.equal(drawn, made(x, "few"))
    assert drawn.shape == (1, 4, 64, 64)
    assert drawn[:, 3].min() >= 0


def test_the_published_baseline_file_is_read(tmp_path):
    """It names a network in its metadata, but no settings; here is a file of the same tensors."""
    tensors = build("live-dense", groups=["any"]).state_dict()
    described = "\n".join(f"{name} {tuple(tensors[name].shape)}" for name in sorted(tensors))
    assert hashlib.sha256(described.encode()).hexdigest() == BASELINE_TENSORS
    save_file(tensors, tmp_path / "baseline.safetensors", {"network": "live generator without branches"})
    generator = checkpoint.load_generator(tmp_path / "baseline.safetensors")
    assert generator.network_name == "live-dense"
    assert all(torch.equal(value, tensors[name]) for name, value in generator.state_dict().items())


def test_files_that_are_no_generators_are_named(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    made = build("live", groups=["many"])
    checkpoint.save_generator(tmp_path / "g.safetensors", made)
    for path, words in [
        ("cut.safetensors", "not a safetensors file"),
        ("other.safetensors", "names no network"),
        ("none.safetensors", "not a safetensors file"),
        (".", "no checkpoint in it"),
    ]:
        with pytest.raises(ModelError, match=words):
            checkpoint.load_generator(tmp_path / path)


def parts():
    """A generator, its average, an optimizer that has moved once and a tensor more."""
    made, average = (build("live", groups=["many"], widths=(4, 8, 8, 8), blocks=(0, 1, 0)) for _ in range(2))
    optimizer = torch.optim.AdamW(made.parameters())
    made(torch.zeros(2, 3, 32, 32), "many").sum().backward()
    optimizer.step()
    return checkpoint.Parts({"generator": made, "ema": average}, {"optimizer": optimizer}, {"pool": torch.ones(2)})


@pytest.fixture
def saved(tmp_path):
    """RUN/checkpoints/last, at step 1 of stage 1."""
    folder = tmp_path / "checkpoints" / "last"
    checkpoint.save(folder, parts(), {"stage": 1, "step": 1})
    return folder


def test_a_checkpoint_comes_back_whole(saved):
    first, second = parts(), parts()
    checkpoint.save(saved, first, {"stage": 2, "step": 3})
    state = checkpoint.restore(saved, second)
    assert (state["stage"], state["step"]) == (2, 3)
    for name, before in first.networks.items():
        after = second.networks[name].state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.state_dict().items())
    assert torch.equal(first.extra["pool"], second.extra["pool"])
    before, after = (each.optimizers["optimizer"].state_dict()["state"] for each in (first, second))
    assert all(torch.equal(after[index]["exp_avg"], slot["exp_avg"]) for index, slot in before.items())
    assert [path.name for path in saved.parent.iterdir()] == ["last"]


def test_there_is_no_latest_before_the_first_whole_one(saved, tmp_path):
    assert checkpoint.latest(tmp_path) == saved
    saved.rename(saved.with_name(".last.new"))
    assert checkpoint.latest(tmp_path) is None


def test_the_checkpoint_set_aside_outlives_a_save_that_fails(saved, tmp_path, monkeypatch):
    """A kill between the two renames leaves .last.old alone; the next save must not begin with its end."""
    saved.rename(saved.with_name(".last.old"))
    assert checkpoint.latest(tmp_path) == saved.with_name(".last.old")

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ModelError, match="No space left on device"):
        checkpoint.save(saved, parts(), {"stage": 1, "step": 2})
    assert checkpoint.restore(checkpoint.latest(tmp_path), parts())["step"] == 1
    monkeypatch.undo()
    checkpoint.save(saved, parts(), {"stage": 1, "step": 3})
    assert checkpoint.restore(checkpoint.latest(tmp_path), parts())["step"] == 3
    assert [path.name for path in saved.parent.iterdir()] == ["last"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_never_replace_a_checkpoint(value, saved, tmp_path):
    """A finite loss may have had a gradient that was not."""
    broken = parts()
    with torch.no_grad():
        next(iter(broken.networks["ema"].parameters())).view(-1)[0] = value
    with pytest.raises(TrainingError, match="weights of `ema` are no numbers: what was saved before is kept"):
        checkpoint.save(saved, broken, {"stage": 1, "step": 2})
    assert checkpoint.restore(checkpoint.latest(tmp_path), parts())["step"] == 1
    assert [path.name for path in saved.parent.iterdir()] == ["last"]


@pytest.mark.parametrize(
    "name",
    ["generator.safetensors", "ema.safetensors", "optimizer.safetensors", "extra.safetensors", "state.json"],
)
@pytest.mark.parametrize("harm", ["cut", "missing", "another"])
def test_a_broken_file_of_a_checkpoint_is_named(saved, name, harm):
    file = saved / name
    if harm == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif harm == "missing":
        file.unlink()
    elif file.suffix == ".json":
        file.write_text(json.dumps({"version": 1}))
    else:
        save_file({"a.b": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match=name) as caught:
        checkpoint.restore(saved, parts())
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_another_size_are_refused_in_one_sentence(tmp_path):
    made = build("live", groups=["many"], widths=(4, 8, 8, 8), blocks=(0, 1, 0))
    made.settings["widths"] = [4, 8, 8, 16]
    checkpoint.save_generator(tmp_path / "g.safetensors", made)
    with pytest.raises(ModelError, match="does not fit network live") as caught:
        checkpoint.load_generator(tmp_path / "g.safetensors")
    assert len(str(caught.value).splitlines()) == 1


def test_moments_are_laid_out_as_their_parameters_after_a_round_trip(tmp_path):
    """Fused Adam walks both side by side in memory; files hold tensors contiguous."""
    torch.manual_seed(0)

    def fresh() -> checkpoint.Parts:
        made = build("live", groups=["many"], widths=(4, 8, 8, 8), blocks=(0, 1, 0)).to(
            memory_format=torch.channels_last
        )
        return checkpoint.Parts({"generator": made}, {"optimizer": torch.optim.Adam(made.parameters(), fused=True)})

    def move(parts: checkpoint.Parts) -> None:
        x = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
        parts.networks["generator"](x, "many").square().sum().backward()
        parts.optimizers["optimizer"].step()
        parts.optimizers["optimizer"].zero_grad()

    first, second = fresh(), fresh()
    move(first)
    checkpoint.save(tmp_path / "last", first, {"stage": 1, "step": 1})
    checkpoint.restore(tmp_path / "last", second)
    for parts in (first, second):
        move(parts)
    states = [parts.networks["generator"].state_dict() for parts in (first, second)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
