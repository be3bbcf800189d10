"""The published augmentation against pixels moved by hand, and against the published program's own outputs."""

import json
import math
import random
from pathlib import Path

import pytest
import torch

from livetoon.errors import ModelError
from trainer import ada_published

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "ada_geometry.safetensors"


def noise(size: int) -> torch.Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def small_reference() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A file of the reference's layout whose outputs follow from moving pixels by hand."""
    image = noise(8)
    shifted = torch.zeros_like(image)
    shifted[:, 1:, :-2] = image[:, :-1, 2:]  # -0.33 * 8 = -2.64 -> -2, 0.13 * 8 = 1.04 -> 1
    nearest = torch.zeros_like(image)
    nearest[:, 1:, :-3] = image[:, :-1, 3:]  # the nearest pixel of -2.64 is -3
    piped = image.flip(2).rot90(1, (1, 2))
    tensors = {
        "input/image": image,
        "output/x_flip/0": image.flip(2),
        "output/random_rotation90/0": image.rot90(-1, (1, 2)),
        "output/integer_translation/0": shifted,
        "output/fractional_translation/3": nearest,
        "output/isotropic_scaling/0": image,  # 0.95 -> 1.05, 8.4 pixels -> 8
        "output/padwhite_of_integer_translation_0": torch.where(shifted == 0, 1.0, shifted),
        "output/pipeline/0": piped,
        "output/strength_rule": torch.tensor([[0.9, 0.8, 0.01], [0.7, 0.4, 0.0], [0.2, 0.0, 0.0]], dtype=torch.float64),
    }
    silent = [["random", 0.1]] * 12
    silent[0:1] = [["random", 0.9], ["choice", 90.0]]
    draws = {
        "x_flip/0": [["flipped", 1.0]],
        "random_rotation90/0": [["random", 0.5], ["choice", -90.0]],
        "integer_translation/0": [["random", 0.5], ["uniform", -0.33], ["uniform", 0.13]],
        "fractional_translation/3": [["random", 0.5], ["uniform", -0.33], ["uniform", 0.13]],
        "isotropic_scaling/0": [["random", 0.5], ["lognormal", 0.95]],
        "pipeline/0": {"strength": 0.3, "draws": [["flipped", 1.0], *silent]},
        "remark": "not a list of draws",
    }
    columns = "share, r_t, strength after the block of 10 (tune_kimg 1, target 0.6)"
    return tensors, {"draws": json.dumps(draws), "columns_strength_rule": columns}


def test_a_small_reference_is_replayed():
    tensors, metadata = small_reference()
    results = ada_published.check_reference(tensors, metadata)
    assert {name for name, _, _ in results} == set(tensors) - {"input/image"}
    assert all(difference <= tolerance for _, difference, tolerance in results), results


@pytest.mark.parametrize("name", sorted(set(small_reference()[0]) - {"input/image"}))
def test_a_change_in_any_reference_tensor_is_seen(name):
    tensors, metadata = small_reference()
    changed = tensors[name].clone()
    changed[(-1,) * changed.dim()] += 0.01
    results = ada_published.check_reference(tensors | {name: changed}, metadata)
    assert [n for n, difference, tolerance in results if difference > tolerance] == [name]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("output/x_flip/1", torch.zeros(3, 8, 8)),
        ("output/pipeline/1", torch.zeros(3, 8, 8)),
        ("output/noise/0", torch.zeros(3, 8, 8)),
        ("weights/conv", torch.zeros(3, 8, 8)),
        ("output/x_flip/0", torch.zeros(3, 8, 9)),
        ("output/x_flip/0", torch.zeros(3, 8, 8, dtype=torch.int32)),
        ("output/x_flip/0", torch.full((3, 8, 8), math.nan)),
        ("input/image", torch.zeros(8, 8)),
        ("output/strength_rule", torch.zeros(12, 2)),
        ("output/strength_rule", torch.full((1, 3), 0.123)),
    ],
)
def test_a_reference_tensor_that_does_not_belong_is_named(name, tensor):
    tensors, metadata = small_reference()
    with pytest.raises(ModelError, match=name.removeprefix("output/")):
        ada_published.check_reference(tensors | {name: tensor}, metadata)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([["random", 0.5], ["uniform", 0.1]], "expected a number `uniform`, found the end"),
        ([["random", 0.5], ["uniform", 0.1], ["uniform", 0.1], ["uniform", 0.1]], "is left over"),
        ([["random", 0.5], ["angle", 0.1], ["uniform", 0.1]], "expected a number `uniform`, found \\['angle'"),
        ([["random", 0.5], ["uniform", None], ["uniform", 0.1]], "uniform is None"),
        ([0.5, 0.1, 0.1], "expected a number `random`"),
    ],
)
def test_draws_that_do_not_fit_are_named(entry, message):
    tensors, metadata = small_reference()
    draws = json.loads(metadata["draws"]) | {"integer_translation/0": entry}
    with pytest.raises(ModelError, match=message):
        ada_published.check_reference(tensors, metadata | {"draws": json.dumps(draws)})


@pytest.mark.parametrize(
    "change",
    [
        {"draws": "{"},
        {"draws": "[]"},
        {"columns_strength_rule": "block of 0"},
        {"columns_strength_rule": "block of 999999999999"},
        {"columns_strength_rule": "block of 10 (tune_kimg 0)"},
    ],
)
def test_a_broken_header_is_named(change):
    tensors, metadata = small_reference()
    with pytest.raises(ModelError, match=next(iter(change)) if "draws" in change else "strength_rule"):
        ada_published.check_reference(tensors, metadata | change)


def test_a_zoom_beyond_reason_is_refused():
    with pytest.raises(ModelError, match="a zoom by"):
        ada_published.zoom(noise(8), 1e9)


def test_numbers_drawn_fit_the_chain_at_any_strength():
    source = random.Random(3)
    image = noise(16)
    for strength in (0.0, 0.2, 0.5, 1.0):
        for _ in range(10):
            drawn = ada_published.draw_published(strength, source)
            y = ada_published.published_geometry(image, strength, drawn)
            assert y.shape == image.shape and (y != 0).all()
            if strength == 0:
                assert torch.equal(y, ada_published.white(image))
    with pytest.raises(ModelError, match="strength"):
        ada_published.draw_published(1.5, source)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="no reference files beside the repository")
def test_the_published_program_is_reproduced():
    from safetensors import safe_open

    with safe_open(REFERENCE, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    results = ada_published.check_reference(tensors, metadata)
    assert len(results) == len(tensors) - 1
    assert all(difference <= tolerance for _, difference, tolerance in results), results
