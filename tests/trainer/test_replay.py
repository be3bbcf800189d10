"""Published steps, replayed by ours; and files that hold a wrong number, or one that nobody compares."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from livetoon.errors import ModelError
from trainer.replay import check_reference

STEPS = ["cyclegan", "ece285", "face2webtoon", "fewshot", "keypoint", "photo2cartoon", "ugatit"]


def opened(folder, system: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    path = folder / f"losses_{system}.safetensors"
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


def outside(rows) -> list[str]:
    return [name for name, difference, allowed in rows if allowed is not None and not difference <= allowed]


@pytest.mark.parametrize("system", STEPS)
def test_published_steps_are_ours(system, reference):
    tensors, metadata = opened(reference, system)
    rows = check_reference(tensors, metadata, reference)
    assert outside(rows) == []
    compared = {name.split(" ")[0] for name, *_ in rows}
    wanted = {key for key in tensors if not key.startswith(("weights/", "input/"))}
    assert wanted <= compared
    left_out = {name for name, _, allowed in rows if allowed is None}
    assert all("Gspecific/" in name for name in left_out)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("loss/step1/G/loss_cycle_A", 1.01),
        ("output/step1/G/fake_B", 0.99),
        ("grad/step1/G/G_A", 1.05),
        ("weights/G_A/model.1.weight", 1.05),
    ],
)
def test_a_wrong_value_lies_outside(key, change, reference):
    tensors, metadata = opened(reference, "cyclegan")
    tensors[key] = tensors[key] * change
    bad = outside(check_reference(tensors, metadata, reference))
    assert bad and (key.startswith("weights/") or any(name.startswith(key) for name in bad))


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("loss/step1/G/loss_beauty", "loss_beauty: no loss term that is known"),
        ("output/step1/D/beauty", "no output that is known"),
        ("weights/G_C/model.1.weight", "weights/G_C: no network of a training step that is known"),
        ("beauty/step1/G", "beauty"),
    ],
)
def test_a_tensor_that_nobody_compares_is_an_error(key, sentence, reference):
    tensors, metadata = opened(reference, "cyclegan")
    with pytest.raises(ModelError, match=sentence):
        check_reference(tensors | {key: torch.zeros(1)}, metadata, reference)


def test_a_network_that_the_step_needs_and_lacks_is_named(reference, tmp_path):
    tensors, metadata = opened(reference, "keypoint")
    with pytest.raises(ModelError, match=r"keypoint_predictor\.safetensors is missing"):
        check_reference(tensors, metadata, tmp_path)
