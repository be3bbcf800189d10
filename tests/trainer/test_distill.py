"""A teacher's drawings become pairs, and the live network learns from them; stopped, repeated and wrong calls."""

import json
import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from faces.pictures import read
from trainer import distill, run
from trainer.checkpoint import load_generator, save_generator
from trainer.distill_pairs import read_note, white_border
from trainer.distill_teacher import open_teacher
from trainer.networks import build

TINY = ("size=64", "width=4", "judge_width=4", "judge_layers=5,4", "stage1_steps=2", "stage2_steps=1")


def options(*settings: str) -> list[str]:
    return [word for setting in (*settings, "validate_every=0") for word in ("--set", setting)]


@pytest.fixture(scope="module")
def teacher(pairs, tmp_path_factory):
    """A few-shot run of both stages, 64 px, groups many and few."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    arguments = ["--data", str(pairs), "--groups", "many,few", "--no-face-id", "--out", str(out), "--log", "none"]
    assert run.main([*arguments, *options(*TINY)]) == 0
    return out


@pytest.fixture
def live(tmp_path):
    """A live network's file: it gives an alpha."""
    torch.manual_seed(0)
    save_generator(tmp_path / "live.safetensors", build("live", groups=["many"], widths=(4, 8, 8, 8), blocks=(0, 1, 0)))
    return tmp_path / "live.safetensors"


def command(teacher: Path, photos: Path, out: Path, *more: str) -> list[str]:
    return [str(teacher), str(photos), "--out", str(out), "--size", "64", *more]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def grey(folder: Path, name: str = "a", value: int = 90) -> Path:
    """A folder with one grey photo, without any white."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), np.full((64, 64, 3), value, np.uint8))
    return folder


def test_two_commands_make_a_live_network_of_any_generator(teacher, pairs, tmp_path, capsys):
    data, out = tmp_path / "distilled", tmp_path / "live"
    assert distill.main(command(teacher, pairs, data)) == 0
    assert "next: python -m trainer.run --preset live" in capsys.readouterr().out
    assert len(files(data)) == 2 * (6 + 2)
    arguments = ["--preset", "live", "--data", str(data), "--groups", "many,few", "--out", str(out), "--log", "none"]
    steps = ("size=64", "batch=2", "feature=0", "stage1_steps=3", "stage2_steps=2")
    assert run.main([*arguments, *(word for step in steps for word in ("--set", step))]) == 0
    drawn = load_generator(out)(torch.rand(1, 3, 64, 64) * 2 - 1, "few")
    assert drawn.shape == (1, 4, 64, 64)
    assert 0 <= drawn[:, 3].min() <= drawn[:, 3].max() <= 1


def test_each_drawing_is_what_the_teacher_draws_of_its_photo(teacher, pairs, tmp_path):
    assert distill.main(command(teacher, pairs, tmp_path / "data", "--groups", "few")) == 0
    place = tmp_path / "data" / "few"
    assert read(place / "photo" / "1.png").tobytes() == read(pairs / "few" / "photo" / "1.png").tobytes()
    x = torch.from_numpy(read(pairs / "few" / "photo" / "1.png")).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = load_generator(teacher)(x, "few").image[0].permute(1, 2, 0)
    drawn = read(place / "cartoon" / "1.png").astype(np.float32) / 127.5 - 1
    assert np.abs(drawn - expected.numpy()).max() < 0.02  # 8 bits, and batches of another size


def test_mirror_average_draws_a_mirrored_photo_mirrored(teacher, pairs):
    photo = read(pairs / "many" / "photo" / "0.png")
    averaged = open_teacher(teacher, mirror_average=True)
    (one, other), _ = averaged([photo, photo[:, ::-1]], "many")
    assert np.abs(one.astype(int) - other[:, ::-1]).max() <= 1
    (plain, mirrored), _ = open_teacher(teacher)([photo, photo[:, ::-1]], "many")
    assert np.abs(plain.astype(int) - mirrored[:, ::-1]).max() > 3


def test_a_second_call_skips_what_is_done_and_another_teacher_does_not(teacher, pairs, live, tmp_path, capsys):
    data = tmp_path / "data"
    assert distill.main(command(teacher, pairs, data, "--group", "many", "--json")) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["made"], first["already_done"]) == (8, 0)
    before = files(data)
    (data / "many" / "cartoon" / "1.png").unlink()
    assert distill.main(command(teacher, pairs, data, "--group", "many", "--json")) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["made"], again["already_done"]) == (1, 7)
    assert files(data) == before
    assert distill.main(command(live, pairs, data, "--group", "many", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["made"] == 8
    assert files(data).keys() == before.keys()


def test_photos_of_one_name_are_all_drawn_and_foreign_drawings_stay(live, tmp_path):
    first, second, data = grey(tmp_path / "first"), grey(tmp_path / "second", value=30), tmp_path / "data"
    third = grey(tmp_path / "third", "b")
    (data / "many" / "cartoon").mkdir(parents=True)
    shutil.copy(first / "a.png", data / "many" / "cartoon" / "b.png")
    foreign = (data / "many" / "cartoon" / "b.png").read_bytes()
    for _ in range(2):
        photos = [str(folder) for folder in (first, second, third)]
        assert distill.main([str(live), *photos, "--out", str(data), "--size", "64"]) == 0
    names = sorted(path.name for path in (data / "many" / "photo").iterdir())
    assert len(names) == 3 and "a.png" in names and "b.png" not in names
    assert (data / "many" / "cartoon" / "b.png").read_bytes() == foreign


def test_ctrl_c_keeps_what_is_drawn_and_says_how_to_go_on(teacher, pairs, tmp_path, monkeypatch, capsys):
    from trainer.distill_teacher import Teacher

    calls, draw = [], Teacher.__call__

    def interrupted(self, photos, branch):
        calls.append(branch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(self, photos, branch)

    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "__call__", interrupted)
        assert distill.main(command(teacher, pairs, tmp_path / "data", "--batch", "2")) == 130
    assert "the same command goes on" in capsys.readouterr().err
    kept = files(tmp_path / "data")
    assert len(kept) == 2 * 4
    assert distill.main(command(teacher, pairs, tmp_path / "data", "--batch", "2", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["already_done"] == 4
    assert kept.items() <= files(tmp_path / "data").items()


def test_photos_stand_on_white_by_the_teachers_alpha(live, tmp_path):
    photos, data = grey(tmp_path / "photos"), tmp_path / "data"
    assert distill.main(command(live, photos, data)) == 0
    _, (alpha,) = open_teacher(live)([read(photos / "a.png")], "many")
    expected = 90 * (alpha / 255.0) + 255 * (1 - alpha / 255.0)
    small = cv2.resize(expected.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    made = read(data / "many" / "photo" / "a.png")[..., 0]
    assert np.abs(made - small).max() <= 2
    assert made.max() > 100


def test_masks_put_photos_on_white_before_the_teacher_sees_them(teacher, tmp_path, caplog):
    """The network marks what is dark: the left half."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[3], keepdims=1),
        helper.make_node("Less", ["mean", "half"], ["dark"]),
        helper.make_node("Cast", ["dark"], ["y"], to=TensorProto.FLOAT),
    ]
    shapes = [("x", [1, 32, 32, 3]), ("y", [1, 32, 32, 1])]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.25])
    graph = helper.make_graph(nodes, "masks", [given], [made], [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "masks.onnx")
    photos, data = grey(tmp_path / "photos", value=40), tmp_path / "data"
    picture = np.full((64, 64, 3), 40, np.uint8)
    picture[:, 32:] = 140
    cv2.imwrite(str(photos / "a.png"), picture)
    assert distill.main(command(teacher, photos, data, "--masks", str(tmp_path / "masks.onnx"))) == 0
    photo = read(data / "many" / "photo" / "a.png")
    assert (photo[:, 36:] == 255).all() and (photo[:, :28] == 40).all()
    (expected,), _ = open_teacher(teacher)([photo], "many")
    assert np.abs(read(data / "many" / "cartoon" / "a.png").astype(int) - expected).max() <= 1
    assert "do not stand on white" not in caplog.text


def test_photos_that_do_not_stand_on_white_are_told_once(teacher, tmp_path, caplog):
    grey(tmp_path / "photos", "b")
    assert distill.main(command(teacher, grey(tmp_path / "photos"), tmp_path / "data")) == 0
    assert caplog.text.count("2 of 2 photos do not stand on white") == 1


def test_the_border_counts_once_around():
    photo = np.full((4, 4, 3), 255, np.uint8)
    photo[0] = 0
    assert white_border(photo) == pytest.approx(8 / 12)


def test_data_folders_of_public_projects_and_groups_the_teacher_lacks(teacher, tmp_path, capsys):
    (tmp_path / "data" / "trainA").mkdir(parents=True)
    grey(tmp_path / "data" / "trainA" / "1")
    grey(tmp_path / "data" / "trainA" / "others")
    assert distill.main(command(teacher, tmp_path / "data", tmp_path / "out")) == 1
    assert "folders 1 for the groups many, few, but numbers begin at 0" in capsys.readouterr().err
    (tmp_path / "data" / "trainA" / "0").mkdir()
    assert distill.main(command(teacher, tmp_path / "data", tmp_path / "out")) == 0
    assert "others: the teacher has no such group and draws it as many" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["few", "others"]


def test_a_public_checkpoint_teaches_too(tmp_path):
    """A released file of photo2cartoon holds one generator, its weights under published names."""
    from trainer.public_files import write_public

    torch.manual_seed(1)
    made = build("photo2cartoon", groups=["young-women"], size=256, width=4).eval()
    write_public({"generator": made}, tmp_path / "photo2cartoon.pt")
    photos = grey(tmp_path / "photos")
    assert distill.main(command(tmp_path / "photo2cartoon.pt", photos, tmp_path / "data", "--group", "mine")) == 0
    x = torch.full((1, 3, 256, 256), 90 / 127.5 - 1)
    with torch.no_grad():
        drawn = made(x, "young-women").image[0].permute(1, 2, 0).numpy()
    small = cv2.resize(drawn, (64, 64), interpolation=cv2.INTER_AREA)
    cartoon = read(tmp_path / "data" / "mine" / "cartoon" / "a.png").astype(np.float32) / 127.5 - 1
    assert np.abs(cartoon - small).max() < 0.02


def test_a_broken_photo_is_left_out_and_said(live, tmp_path, caplog, capsys):
    photos = grey(tmp_path / "photos")
    (photos / "broken.png").write_bytes(b"\x89PNG broken")
    assert distill.main(command(live, photos, tmp_path / "data", "--json")) == 0
    assert "left out" in caplog.text and "broken.png" in caplog.text
    counts = json.loads(capsys.readouterr().out)
    assert (counts["made"], counts["left_out"], counts["groups"]) == (1, 1, {"many": 1})
    (photos / "a.png").unlink()
    assert distill.main(command(live, photos, tmp_path / "none")) == 1
    assert "none of the 1 photos can be drawn" in capsys.readouterr().err


def test_a_full_disk_names_the_picture_and_keeps_what_is_drawn(live, tmp_path, capsys):
    photos, out = grey(tmp_path / "photos"), tmp_path / "data"
    assert distill.main(command(live, photos, out)) == 0
    before, limits = files(out), resource.getrlimit(resource.RLIMIT_FSIZE)
    grey(photos, "b", 40)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert distill.main(command(live, photos, out)) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{out / 'many/photo/b.png'}: File too large; what was there before is kept" in said
    assert files(out) == before


def test_a_note_of_a_broken_drawing_is_none(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    assert read_note(tmp_path / "a.png") is None


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (["--size", "100"], 2, "--size 100: expected a multiple of 16"),
        (["--batch", "0"], 2, "--batch 0: expected at least 1"),
        (["--masks", "nowhere.onnx"], 2, "--masks nowhere.onnx: no such file"),
        (["--group", "a/b"], 2, "'a/b' cannot name a group"),
        (["--groups", "many,keys"], 2, "'keys' cannot name a group"),
        (["--group", "a", "--groups", "b"], 2, "leave --groups out"),
        (["--groups", "none"], 1, "no photos of none; found groups: few, many"),
        (["--out", "{photos}"], 2, "is one of PHOTOS"),
    ],
)
def test_bad_options_get_one_sentence(more, code, sentence, live, pairs, tmp_path, capsys):
    more = [word.format(photos=pairs) for word in more]
    assert distill.main(command(live, pairs, tmp_path / "data", *more)) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_what_is_no_teacher_is_refused(pairs, tmp_path, capsys):
    save_generator(tmp_path / "judge.safetensors", build("discriminator", layers=5, width=4, head="none", groups=1))
    for teacher, sentence in (
        ("judge.safetensors", "holds a discriminator network; expected a generator"),
        ("nowhere", "nowhere: not a safetensors file"),
        ("nowhere.pt", "nowhere.pt: no such file"),
    ):
        assert distill.main(command(tmp_path / teacher, pairs, tmp_path / "data")) == 1
        assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "data").exists()
