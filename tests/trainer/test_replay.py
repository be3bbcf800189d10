"""Published steps, replayed by ours; and files that hold a wrong number, or one that nobody compares.

The files of the public programs are used where they are; the others, of other sizes, are made here (recorded.py).
"""

import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from livetoon.errors import ModelError
from tests.trainer import recorded
from trainer import interop
from trainer.identity_files import save_face_id
from trainer.presets import FEW_SHOT_OWN
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


# Files of our own making, which need nothing beside the repository.

U_GAT_IT = {"adv_weight": 1, "cycle_weight": 10, "identity_weight": 10, "cam_weight": 1000}
FEW_SHOT = {**U_GAT_IT, "cycle_weight": 50, "cls_weight": 1, "faceid_weight": 0}


def ugatit(path, light: bool = True):
    generator = ("ugatit", {"groups": ["one"], "width": 4, "blocks": 2 if light else 1, "light": light})
    layers, batch, side = ((5, 4), 2, 40) if light else ((6, 5), 1, 48)
    weights = U_GAT_IT if light else {**U_GAT_IT, "adv_weight": 2, "identity_weight": 3}
    return recorded.Family(generator, layers, batch, side, seed=3 + light, weights=weights).write(path)


def few_shot(path, count: int, face_id=None):
    groups = [f"g{row}" for row in range(count)]
    generator = ("photo2cartoon", {"groups": groups, "width": 4, "own": FEW_SHOT_OWN, "heads": count})
    weights = FEW_SHOT | ({"faceid_weight": 1} if face_id else {})
    made = recorded.Family(generator, (5, 4), count, 48, seed=count, weights=weights, face_id=face_id)
    return made.write(path, steps=1)  # hourglasses take seconds


def cyclegan(path):
    return recorded.cyclegan(path, width=6, blocks=3, side=40, seed=3, lambdas=(10.0, 4.0, 0.3))


def checked(path, capsys) -> tuple[int, list[str]]:
    """The exit code of `check`, and what lies outside its tolerance or is said instead."""
    code = interop.main(["check", "--threads", "1", str(path)])
    lines = capsys.readouterr().out.splitlines()[1:]
    return code, [line.split()[0] for line in lines if line.endswith("  FAIL")] or lines[-1:]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file of each kind that takes tenths of a second."""
    folder = tmp_path_factory.mktemp("recorded")
    return {"ugatit": ugatit(folder / "ugatit.safetensors"), "cyclegan": cyclegan(folder / "cyclegan.safetensors")}


@pytest.mark.parametrize("kind", ["ugatit", "cyclegan"])
def test_steps_of_another_size_are_ours(kind, made, capsys):
    code, said = checked(made[kind], capsys)
    assert code == 0, said
    assert "ok:" in said[0]


def test_a_step_of_the_full_network_and_of_other_weights_is_ours(tmp_path, capsys):
    code, said = checked(ugatit(tmp_path / "a.safetensors", light=False), capsys)
    assert code == 0, said


def test_a_few_shot_step_of_five_groups_with_faces_is_ours_but_for_the_stale_gradient(tmp_path, face_id):
    save_face_id(tmp_path / "mobilefacenet_512.safetensors", face_id.network, face_id.crop)
    path = few_shot(tmp_path / "a.safetensors", 5, face_id)
    stale = "grad/step1/Gspecific/genA2B"
    rewrite(path, lambda tensors: tensors.update({stale: torch.zeros(1, 17)}))  # published, and left out
    with safe_open(path, "pt") as file:
        rows = check_reference(load_file(path), file.metadata(), tmp_path)
    assert outside(rows) == []
    assert [name for name, _, allowed in rows if allowed is None] == [stale]
    compared = {name for name, _, allowed in rows if allowed is not None}
    of_others = {"grad/step1/Gspecific_clean/genB2A", "loss/step1/G/G_id_loss_A_new", "loss/step1/G/loss_specific"}
    assert of_others <= compared


def rewrite(path, change) -> None:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata)


def largest_row(table: torch.Tensor) -> torch.Tensor:
    return table[table[:, 0].argmax()]


@pytest.mark.parametrize(
    ("kind", "key", "change"),
    [
        ("ugatit", "loss/step1/D/D_ad_cam_loss_LB", lambda t: t.mul_(1.001)),
        ("ugatit", "loss/step1/G/G_cam_loss_A", lambda t: t.mul_(1.001)),
        ("ugatit", "loss/step2/G/Generator_loss", lambda t: t.mul_(1.01)),
        ("ugatit", "output/step1/G/fake_B2A2B", lambda t: t.view(-1)[5].add_(0.01)),
        ("ugatit", "grad/step1/G/genB2A", lambda t: largest_row(t).mul_(1.2)),
        ("ugatit", "grad/step2/D/disGA", lambda t: t.mul_(1.2)),
        ("ugatit", "after/step1/genA2B", lambda t: t[3, 4].add_(1e-3)),
        ("ugatit", "after/step2/disLB", lambda t: t[0, 0].add_(0.1)),
        ("ugatit", "after/step1_u/disGB/model.4.weight_u", lambda t: t.neg_()),
        ("cyclegan", "loss/step1/G/loss_cycle_B", lambda t: t.mul_(10 / 4)),
        ("cyclegan", "loss/step1/G/loss_idt_B", lambda t: t.mul_(4 / 10)),
        ("cyclegan", "grad/step1/D/D_A", lambda t: largest_row(t).mul_(1.2)),
        ("cyclegan", "after/step2/G_B", lambda t: t[2, 1].add_(1e-2)),
    ],
)
def test_one_changed_value_fails_and_is_named(kind, key, change, made, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    path.write_bytes(made[kind].read_bytes())
    rewrite(path, lambda tensors: change(tensors[key]))
    code, said = checked(path, capsys)
    assert code == 1
    assert set(said) == {key}


@pytest.mark.parametrize("key", ["weights/genA2B/UpBlock1_2.norm1.rho", "weights/disLA/model.4.weight_orig"])
def test_a_changed_weight_fails_in_what_comes_of_it(key, made, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    path.write_bytes(made["ugatit"].read_bytes())
    rewrite(path, lambda tensors: tensors[key].mul_(0.7).add_(0.05))
    code, said = checked(path, capsys)
    assert code == 1
    assert any(name.startswith("loss/step1/") for name in said)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("loss/step1/G/G_beauty_loss_A", "G_beauty_loss_A: no loss term that is known"),
        ("output/step1/G/fake_C", "fake_C: no output that is known"),
        ("notes", "1 tensors are neither loaded nor compared, notes among them"),
        ("weights/genA2B/UpBlock1_9.conv1.weight", "keys"),
    ],
)
def test_a_tensor_more_fails(key, sentence, made, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    path.write_bytes(made["ugatit"].read_bytes())
    rewrite(path, lambda tensors: tensors.update({key: torch.zeros(1)}))
    code = interop.main(["check", str(path)])
    said = capsys.readouterr().out
    assert code == 1
    assert re.search(sentence, said) and len(said.splitlines()) == 2, said
