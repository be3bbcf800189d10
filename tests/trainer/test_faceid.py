"""Learning a face-ID network: the loss, that it learns, that it goes on bit for bit, and what people do wrong."""

import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional

from livetoon.errors import DataError, ModelError, TrainingError, UsageError
from trainer import arcface, faceid
from trainer.identity_files import load_face_id
from trainer.people import Faces, Recipe, find

SMALL = Recipe(dimensions=32, width=8, size=32, steps=80, batch=16, rate=3e-3)
SETTINGS = ["--dimensions", "8", "--width", "4", "--size", "16", "--batch", "4"]
TINY = Recipe(dimensions=8, width=4, size=16, steps=6, batch=4)


@pytest.fixture(autouse=True)
def one_thread():
    """Maps of a few pixels are computed sooner by one thread than handed out to several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def textures(folder, people=6, each=12, side=40):
    """People as smooth random textures, moved, noisy, and tinted so much that colour tells nothing."""
    random = np.random.default_rng(5)
    for person in range(people):
        face = cv2.resize(random.uniform(-1, 1, (5, 5)), (side, side), interpolation=cv2.INTER_CUBIC)
        (folder / f"person{person}").mkdir(parents=True)
        for index in range(each):
            matrix = np.float32([[1, 0, random.uniform(-2, 2)], [0, 1, random.uniform(-2, 2)]])
            moved = cv2.warpAffine(face, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)[..., None]
            picture = random.uniform(70, 180, 3) + 50 * moved + random.normal(0, 6, (side, side, 3))
            path = folder / f"person{person}" / f"{person}-{index}.png"
            cv2.imwrite(str(path), picture.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return textures(tmp_path_factory.mktemp("people") / "in")


def test_the_loss_is_equation_3():
    torch.manual_seed(0)
    vectors, centres = functional.normalize(torch.randn(5, 4)), torch.randn(3, 4) * 7
    labels = torch.tensor([0, 2, 1, 1, 0])
    angles = torch.acos((vectors @ functional.normalize(centres).T).double().clamp(-1, 1))
    assert angles.gather(1, labels[:, None]).max() + 0.5 < torch.pi
    powers = torch.exp(64 * torch.cos(angles))
    own = torch.exp(64 * torch.cos(angles.gather(1, labels[:, None]) + 0.5))[:, 0]
    expected = -torch.log(own / (own + powers.sum(dim=1) - powers.gather(1, labels[:, None])[:, 0])).mean()
    assert arcface.arcface_loss(vectors, centres, labels).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_loss_grows_with_the_angle_up_to_the_opposite_direction():
    """Without the straight line it would fall again from pi - margin on."""
    angles = torch.linspace(0.01, torch.pi - 0.01, 60)
    centres = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    vectors = torch.stack([angles.cos(), angles.sin(), torch.zeros(60)], dim=1).requires_grad_()
    losses = torch.stack([arcface.arcface_loss(v[None], centres, torch.tensor([0])) for v in vectors])
    assert (losses[1:-1].diff() > -1e-5).all()
    assert losses[-1] > losses[30] + 10
    losses.sum().backward()
    assert torch.isfinite(vectors.grad).all()


def test_it_learns_people_that_it_tells_apart_in_pictures_it_never_saw(folder, tmp_path):
    recipe = Recipe(**{**vars(SMALL), "hold_out": 0.4})
    people = find(folder, recipe.hold_out)
    assert not {path for path, _ in people.learned} & {path for path, _ in people.held}
    held = Faces(people.held, recipe.size, recipe.seed)
    before = arcface.verification(arcface.Learner(recipe, 6).vectors(held), held.labels)
    figures = arcface.learn(folder, tmp_path / "out.safetensors", recipe)
    assert figures["pairs"] == before["pairs"] == 72
    assert before["accuracy"] < 0.75
    assert figures["accuracy"] > 0.85
    assert figures["equal_error_rate"] < 0.2


def test_verification_of_perfect_and_of_blind_vectors():
    labels = np.repeat(np.arange(4), 5)
    perfect = functional.one_hot(torch.from_numpy(labels), 4).float()
    assert arcface.verification(perfect, labels) == {"accuracy": 1.0, "equal_error_rate": 0.0, "pairs": 80}
    blind = arcface.verification(torch.ones(20, 4) / 2, labels)
    assert (blind["accuracy"], blind["equal_error_rate"]) == (0.5, 0.5)


def tensors_of(out):
    state = load_file(out.with_suffix(".learning") / "state.safetensors")
    return {**state, **{f"out.{key}": value for key, value in load_file(out).items()}}


def same(first, second):
    first, second = tensors_of(first), tensors_of(second)
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


class Ticks:
    """A clock that moves a second at every look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def test_a_run_that_stops_and_goes_on_is_the_same_to_the_bit(folder, tmp_path):
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    arcface.learn(folder, whole, TINY)
    stops = [arcface.learn(folder, parted, TINY, resume, 0.1, clock=Ticks())["step"] for resume in (False, True)]
    assert 0 < stops[0] < stops[1] <= 6
    assert arcface.learn(folder, parted, TINY, resume=True)["step"] == 6
    assert arcface.learn(folder, parted, TINY, resume=True) == {"step": 6}
    assert same(whole, parted)


def test_a_kill_in_the_middle_of_a_save_loses_nothing(folder, tmp_path):
    """The process kills itself inside the second write of a state."""
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    program = f"""
import itertools, os, signal, sys
from pathlib import Path
import torch
from trainer import arcface
from trainer.people import Recipe
torch.set_num_threads(1)
write, calls = arcface.save_file, itertools.count(1)
def save_file(tensors, path, metadata):
    if next(calls) == 2:
        Path(path).write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(tensors, path, metadata)
arcface.save_file = save_file
arcface.SAVE_EVERY_S = 0
arcface.learn(Path({str(folder)!r}), Path({str(killed)!r}), Recipe(**{vars(TINY)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    load_face_id(killed)
    arcface.learn(folder, killed, TINY, resume=True)
    arcface.learn(folder, whole, TINY)
    assert same(whole, killed)


def presses(monkeypatch, at: int, times: int) -> None:
    """Somebody presses Ctrl-C so many times in step `at`."""
    honest = arcface.Learner.step

    def step(self, number, *batch):
        for _ in range(times if number == at else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return honest(self, number, *batch)

    monkeypatch.setattr(arcface.Learner, "step", step)


def test_ctrl_c_saves_a_whole_step_and_says_how_to_go_on(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.safetensors"
    recipe = Recipe(**{**vars(TINY), "steps": 100_000})
    handler = signal.getsignal(signal.SIGINT)
    presses(monkeypatch, at=2, times=1)
    figures = arcface.learn(folder, out, recipe)
    assert figures["step"] == 3
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_face_id(out).network.settings["width"] == 4
    resumed = arcface.Learner(recipe, 6)
    state = out.with_suffix(".learning") / "state.safetensors"
    assert arcface._restore(state, resumed, find(folder)) == figures["step"]


@pytest.mark.parametrize(
    ("every", "sentence"),
    [(240, "nothing was saved yet"), (-1, "saved last: step 2; the same command with --resume goes on from there")],
)
def test_a_second_ctrl_c_ends_at_once_and_says_what_was_saved(every, sentence, folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(arcface, "SAVE_EVERY_S", every)
    presses(monkeypatch, at=2, times=2)
    with pytest.raises(KeyboardInterrupt):
        arcface.learn(folder, tmp_path / "out.safetensors", TINY)
    assert caplog.messages == [f"stopped at once; {sentence}"]


def test_a_loss_that_is_no_number_stops_with_what_was_saved(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.safetensors"
    arcface.learn(folder, out, TINY, minutes=0.05, clock=Ticks())
    saved = tensors_of(out)
    monkeypatch.setattr(arcface, "arcface_loss", lambda *_: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(TrainingError, match="the ArcFace loss is nan; what was saved is kept"):
        arcface.learn(folder, out, TINY, resume=True)
    assert all(torch.equal(value, saved[key]) for key, value in tensors_of(out).items())


def test_a_full_disk_keeps_what_was_saved(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.safetensors"
    arcface.learn(folder, out, TINY, minutes=0.05, clock=Ticks())
    saved = tensors_of(out)

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(arcface, "save_file", full)
    with pytest.raises(ModelError, match=r"cannot be saved, what was saved before is kept .*No space left"):
        arcface.learn(folder, out, TINY, resume=True)
    assert all(torch.equal(value, saved[key]) for key, value in tensors_of(out).items())
    assert sorted(path.name for path in out.with_suffix(".learning").iterdir()) == [".lock", "state.safetensors"]


def test_what_cannot_be_resumed_is_explained(folder, tmp_path):
    out = tmp_path / "out.safetensors"
    with pytest.raises(TrainingError, match="nothing to resume there"):
        arcface.learn(folder, out, TINY, resume=True)
    arcface.learn(folder, out, TINY, minutes=0.05, clock=Ticks())
    with pytest.raises(UsageError, match="its learning has begun; add --resume"):
        arcface.learn(folder, out, TINY)
    with pytest.raises(UsageError, match="--resume: --width is 8, but it was begun with 4"):
        arcface.learn(folder, out, Recipe(**{**vars(TINY), "width": 8}), resume=True)
    with pytest.raises(UsageError, match="the people or their pictures are not those"):
        arcface.learn(textures(tmp_path / "others", people=3, each=2), out, TINY, resume=True)
    state = out.with_suffix(".learning") / "state.safetensors"
    for broken in (state.read_bytes()[:999], b"", None):
        if broken is None:
            save_file({"a": torch.zeros(1)}, state)
        else:
            state.write_bytes(broken)
        with pytest.raises(ModelError, match="not the state of a face-ID network's learning, or broken"):
            arcface.learn(folder, out, TINY, resume=True)


def test_two_runs_in_one_place_are_refused(folder, tmp_path):
    from trainer.lock import alone

    (tmp_path / "out.learning").mkdir()
    with alone(tmp_path / "out.learning"), pytest.raises(TrainingError, match="another run writes there"):
        arcface.learn(folder, tmp_path / "out.safetensors", TINY)


def test_heads_are_cut_as_a_run_cuts_them(folder):
    """A face in the middle of a head, and nothing of what is around it."""
    head = np.zeros((256, 256, 3), np.uint8)
    head[57:219, 47:209] = (200, 100, 50)
    cut = arcface._cutter(Recipe(**{**vars(TINY), "crop": "published"}))(head)
    assert (cut == (200, 100, 50)).all()
    assert not (arcface._cutter(TINY)(head) == (200, 100, 50)).all()


def test_batches_show_every_picture_before_any_twice_and_vary_them(folder):
    faces = Faces(find(folder).learned, 16, seed=3)
    pictures, labels = zip(*(faces.batch(step, 8) for step in range(9)), strict=True)
    assert sorted(np.concatenate(labels)) == sorted(faces.labels)
    pictures = np.concatenate(pictures)
    assert pictures.shape == (72, 3, 16, 16)
    assert pictures.dtype == np.float32
    assert -1 <= pictures.min() < pictures.max() <= 1
    assert np.array_equal(faces.batch(5, 8)[0], pictures[40:48])
    again = np.concatenate([faces.batch(step, 8)[0] for step in range(9, 18)])
    assert not {picture.tobytes() for picture in pictures} & {picture.tobytes() for picture in again}


def test_pictures_beyond_what_memory_keeps_are_the_same(folder, monkeypatch):
    kept = Faces(find(folder).learned, 16, seed=3)
    monkeypatch.setattr("trainer.people.KEPT_BYTES", 5 * kept.side**2 * 3)
    read_again = Faces(find(folder).learned, 16, seed=3)
    assert len(read_again.kept) == 5
    assert np.array_equal(kept.batch(0, 30)[0], read_again.batch(0, 30)[0])


def one_sentence(capsys, *argv):
    code = faceid.main([str(each) for each in argv])
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    return code, said


def test_folders_that_cannot_teach_are_explained(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    textures(tmp_path / "one", people=1)
    textures(tmp_path / "single", people=3, each=1)
    textures(tmp_path / "few", people=2, each=2)
    out = ("--out", tmp_path / "o.safetensors", *SETTINGS)
    for place, words in [
        ("none", "no such folder"),
        ("empty", "no folder of a person with two pictures or more; expected at least two people"),
        ("one", "1 folder of a person with two pictures or more"),
        ("single", "no folder of a person"),
    ]:
        code, said = one_sentence(capsys, "train", tmp_path / place, *out)
        assert code == 1
        assert words in said
    code, said = one_sentence(capsys, "train", tmp_path / "few", *out, "--hold-out", "0.2")
    assert "expected people with 10 pictures or more" in said
    (tmp_path / "few" / "person0" / "broken.png").write_bytes(b"\x89PNG")
    code, said = one_sentence(capsys, "train", tmp_path / "few", *out)
    assert (code, "broken.png" in said) == (1, True)
    (tmp_path / "few" / "person0" / "broken.png").unlink()
    cv2.imwrite(str(tmp_path / "few" / "person0" / "dot.png"), np.zeros((8, 8, 3), np.uint8))
    code, said = one_sentence(capsys, "train", tmp_path / "few", *out)
    assert "8x8 px shows no face" in said
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--batch", "1"),
        ("--steps", "0"),
        ("--width", "0"),
        ("--size", "100"),
        ("--rate", "nan"),
        ("--margin", "2.0"),
        ("--hold-out", "0.9"),
        ("--pictures", "feet"),
        ("--crop", "nose"),
        ("--seed", "-1"),
        ("--minutes", "0.0"),
        ("--device", "abacus"),
        ("--out", "face.onnx"),
    ],
)
def test_options_are_checked_before_anything_is_read(option, value, tmp_path, capsys):
    code, said = one_sentence(capsys, "train", tmp_path / "none", "--out", tmp_path / "o.safetensors", option, value)
    assert code == 2
    assert said.startswith(f"python -m trainer.faceid: {option} {value}: expected")


def test_train_and_compare_as_commands(folder, tmp_path, capsys):
    out = tmp_path / "o.safetensors"
    json_out = tmp_path / "o.json"
    options = [*SETTINGS, "--steps", "40", "--hold-out", "0.4", "--json", str(json_out)]
    assert faceid.main(["train", str(folder), "--out", str(out), *options]) == 0
    assert json.loads(json_out.read_text())["pairs"] == 72
    said = capsys.readouterr()
    assert "equal_error_rate" in said.out
    assert "6 people, 48 pictures to learn from, 24 held out" in said.err
    first, second = (str(folder / f"person{index}" / f"{index}-0.png") for index in (0, 1))
    cosines = []
    for other, pictures in ((first, "faces"), (second, "faces"), (second, "heads")):
        assert faceid.main(["compare", str(out), first, other, "--json", "--pictures", pictures]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert figures["distance"] == pytest.approx(1 - figures["cosine"])
        cosines.append(figures["cosine"])
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert len({round(cosine, 6) for cosine in cosines}) == 3
    code, said = one_sentence(capsys, "compare", out, first, tmp_path / "none.png")
    assert (code, "none.png" in said) == (1, True)
    code, said = one_sentence(capsys, "compare", first, first, first)
    assert (code, "expected .pth, .pt, .safetensors or .onnx" in said) == (1, True)


def test_help_loads_no_torch():
    program = "import sys; from trainer import faceid; faceid.arguments(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_people_of_a_single_picture_are_left_out_and_counted(tmp_path, capsys):
    textures(tmp_path / "in", people=3, each=2)
    (tmp_path / "in" / "person1" / "1-0.png").unlink()
    people = find(tmp_path / "in")
    assert people.names == ("person0", "person2")
    assert "1 people with a single picture are left out" in capsys.readouterr().err
    with pytest.raises(DataError, match="expected a folder for each person"):
        find(tmp_path / "in" / "person0" / "0-0.png")
