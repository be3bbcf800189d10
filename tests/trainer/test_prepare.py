"""Any pictures become a data folder: aligned, sorted, without doubles and bad ones, and a stopped call goes on."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skimage import data

from faces.align import COORDINATES, TEMPLATE, align_matrix, crop, move
from faces.groups import shares
from faces.looks import Looker
from faces.pictures import read
from livetoon.errors import DataError, UsageError
from trainer import prepare
from trainer.collect import collect
from trainer.prepare_face import aligned
from trainer.prepare_plan import TOLD_APART, Settings
from trainer.prepare_report import contact_sheet, write_needs_points

EYES = np.array([(204.5, 102.5), (247.0, 105.0)])  # px of the astronaut, middle of each eye
HAND_SET = np.array([(204, 102), (247, 105), (223, 126), (200, 139), (247, 141)], float)
MIRRORED = (np.array([299, 0]) - HAND_SET * (1, -1))[[1, 0, 2, 4, 3]]


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """(300, 300, 3) uint8 RGB: the astronaut's head, with the places above still right."""
    return np.ascontiguousarray(data.astronaut()[:300, :300])


def save(path: Path, picture: np.ndarray, *how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), *how)


def mirrored(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, ::-1])


def call(*arguments, capsys) -> tuple[int, str, str]:
    code = prepare.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def report(out: Path) -> dict[str, dict]:
    """Entries by the path of their source in IN."""
    pictures = json.loads((out / "report.json").read_text())["pictures"]
    return {os.path.relpath(entry["source"], out.parent / "in"): entry for entry in pictures}


def write_table(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def five(points: np.ndarray) -> dict[str, float]:
    return dict(zip(COORDINATES, points.ravel().tolist(), strict=True))


def hand_set(folder: Path, **points: np.ndarray) -> Path:
    """Points for every picture in `folder`: those of its stem in `points`, or the face's own. Nothing is searched."""
    rows = [{"file": path.name, **five(points.get(path.stem, HAND_SET))} for path in sorted(folder.glob("*.*g"))]
    write_table(folder.parent / "points.csv", rows)
    return folder.parent / "points.csv"


def crops(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.glob("*/*/*"))}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, face):
    """A folder with one of everything, done once: IN, OUT."""
    root = tmp_path_factory.mktemp("mixed")
    source = root / "in"
    save(source / "a.png", face)
    save(source / "other" / "A.png", mirrored(face))
    shutil.copy(source / "a.png", source / "copy.png")
    save(source / "again.jpg", cv2.resize(face, None, fx=0.8, fy=0.8), [cv2.IMWRITE_JPEG_QUALITY, 50])
    save(source / "blurred.png", cv2.GaussianBlur(face, (0, 0), 5))
    save(source / "tiny.png", cv2.resize(face, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    save(source / "wall.png", np.full((200, 300, 3), 120, np.uint8))
    (source / "broken.jpg").write_bytes((source / "again.jpg").read_bytes()[:4000])
    (source / "empty.png").write_bytes(b"")
    (source / "notes.txt").write_text("no picture")
    (source / ".hidden").mkdir()
    shutil.copy(source / "a.png", source / ".hidden" / "b.png")
    # Too blurred to be found, but somebody knows where the face is.
    write_table(root / "points.csv", [{"file": "blurred.png", **five(HAND_SET)}])
    counts = prepare.prepare(source, root / "out", Settings(), points=root / "points.csv", jobs=1)
    return source, root / "out", counts


def seen(mixed) -> str:
    """The group that live video would draw the kept face as."""
    _, out, _ = mixed
    (path,) = out.rglob("a.png")
    return TOLD_APART[int(shares(Looker()(read(path)), TOLD_APART).argmax())]


def test_what_is_kept_and_why_the_rest_is_not(mixed):
    _, out, counts = mixed
    became = {name: entry.get("reason", "kept") for name, entry in report(out).items()}
    assert became == {
        "a.png": "kept",
        "other/A.png": "kept",
        "copy.png": "duplicate",
        "again.jpg": "near-duplicate",
        "blurred.png": "blurred",
        "tiny.png": "tiny",
        "wall.png": "no face",
        "broken.jpg": "unreadable",
        "empty.png": "unreadable",
    }
    assert counts["kept"] == 2 and counts["other_files"] == 1
    assert counts["groups"] == {seen(mixed): {"photo": 2}}
    details = {name: entry["detail"] for name, entry in report(out).items() if "detail" in entry}
    assert details["again.jpg"] == "a near copy of a" and details["copy.png"] == "the same file as a"
    assert "under 64" in details["tiny.png"] and "under 0.2" in details["blurred.png"]
    assert details["empty.png"].startswith("an empty file")


def test_files_of_one_name_are_both_kept(mixed):
    _, out, _ = mixed
    assert list(crops(out)) == [f"{seen(mixed)}/photo/a.png", f"{seen(mixed)}/photo/other-A.png"]


def test_a_crop_is_the_one_of_live_video(mixed, face):
    _, out, _ = mixed
    entry = report(out)["a.png"]
    points = np.array(entry["points"], np.float32)
    assert np.abs(points[:2] - EYES).max() < 3
    matrix = align_matrix(points)
    placed = points @ matrix[:, :2].T + matrix[:, 2]
    assert np.linalg.norm(placed - TEMPLATE, axis=1).max() < 16
    found = read(out / entry["file"]).astype(int)
    assert found.shape == (256, 256, 3)
    assert np.abs(found - crop(face, matrix)).mean() < 1.5  # points in the report are rounded to 0.1 px


def test_contact_sheets_show_every_picture_with_its_reason(mixed):
    _, out, _ = mixed
    sheet = f"contact-{seen(mixed)}.jpg"
    assert sorted(path.name for path in out.glob("contact-*")) == ["contact-dropped.jpg", sheet]
    kept, dropped = read(out / sheet), read(out / "contact-dropped.jpg")
    assert kept.shape[0] == dropped.shape[0] and dropped.shape[1] > kept.shape[1]
    # Below each of the seven tiles there is black writing.
    below = dropped[44 + 128 : 44 + 128 + 40]
    assert all((below[:, 8 + tile * 136 : 136 + tile * 136].min(axis=2) < 100).any() for tile in range(7))


def test_a_second_call_does_nothing_again(mixed, capsys):
    source, out, _ = mixed
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*")}
    code, said, _ = call(source, out, "--json", "--points", source.parent / "points.csv", capsys=capsys)
    counts = json.loads(said)
    assert code == 0 and counts["already_done"] == 9 and counts["kept"] == 2
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*/*")} == before


def test_only_what_changed_is_done_again(tmp_path, face):
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "a.png", face)
    save(source / "again.png", cv2.resize(face, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
    save(source / "other.png", mirrored(face))
    points = hand_set(source, again=HAND_SET * 0.8, other=MIRRORED)

    def run(**changes) -> dict:
        return prepare.prepare(source, out, Settings(group="kids", **changes), points=points, jobs=1)

    assert run()["dropped"] == {"near-duplicate": 1}
    whole = crops(out)

    (out / "kids/photo/a.png").unlink()
    assert run()["already_done"] == 2 and crops(out) == whole

    assert run(format="jpg")["already_done"] == 0
    assert list(crops(out)) == ["kids/photo/a.jpg", "kids/photo/other.jpg"]

    save(source / "a.png", np.full((300, 300, 3), 9, np.uint8))
    assert run(format="jpg")["dropped"] == {"blurred": 1}
    assert list(crops(out)) == ["kids/photo/again.jpg", "kids/photo/other.jpg"]  # the copy is the best one left


def test_files_that_others_put_in_out_are_left_alone(tmp_path, face):
    source, out = tmp_path / "in", tmp_path / "out"
    save(source / "a.png", face)
    (out / "kids/photo").mkdir(parents=True)
    (out / "kids/photo/A.png").write_bytes(b"somebody else's")
    prepare.prepare(source, out, Settings(group="kids"), points=hand_set(source), jobs=1)
    made = crops(out)
    assert len(made) == 2 and made["kids/photo/A.png"] == b"somebody else's"


@pytest.mark.parametrize(
    ("source", "out", "sentence"),
    [
        ("in", "in/out", "out: lies in IN, whose pictures the crops would become"),
        ("in", "in", "in: is IN itself"),
        ("in", "link/out", "out: lies in IN"),
        ("data/kids/photo", "data", "photo: holds crops of OUT"),
        ("data/kids/photo/more", "data", "more: holds crops of OUT"),
        ("data/kids", "data", "kids: holds crops of OUT"),
    ],
)
def test_crops_never_become_pictures(source, out, sentence, tmp_path, face, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "data/kids/photo/more"):
        save(Path(folder, "a.png"), face)
    Path("link").symlink_to("in")
    with pytest.raises(UsageError, match=sentence):
        prepare.prepare(Path(source), Path(out), Settings(group="kids"), jobs=1)


def test_pictures_may_lie_beside_the_groups_of_out(tmp_path, face):
    save(tmp_path / "data/raw/a.png", face)
    points = hand_set(tmp_path / "data/raw")
    for _ in range(2):
        counts = prepare.prepare(tmp_path / "data/raw", tmp_path / "data", Settings(group="kids"), points=points)
        assert counts["kept"] == 1 and counts["dropped"] == {}


def test_the_points_of_the_crops_are_written_for_every_group_and_are_read_by_training(tmp_path, face, capsys):
    """By their places below OUT, in px of the crop, whatever its size."""
    out, groups = tmp_path / "out", ("kids", "elderly")
    for group, picture, more in (("kids", face, []), ("elderly", mirrored(face), ["--size", 128, "--format", "jpg"])):
        save(tmp_path / "in" / group / "a.png", picture)
        points = hand_set(tmp_path / "in" / group, a=HAND_SET if group == "kids" else MIRRORED)
        for domain in ("photo", "cartoon"):
            options = ("--group", group, "--domain", domain, "--points", points, *more)
            assert call(tmp_path / "in" / group, out, *options, capsys=capsys)[0] == 0
    listed = out / "crop_points.csv"
    files = [row["file"] for row in csv.DictReader(listed.read_text().splitlines())]
    assert files == list(crops(out)) and len(files) == 4
    found = collect([out], [], groups, [groups], 64, listed).train
    for group, set_by_hand in (("kids", HAND_SET), ("elderly", MIRRORED)):
        expected = move(align_matrix(set_by_hand, 64), set_by_hand).ravel()
        np.testing.assert_allclose(found[group].points[0], expected, atol=0.06)
    with pytest.raises(DataError, match=r"points.csv: its points of a.png are not those of .*, but of another picture"):
        collect([out], [], ["kids"], [("kids",)], 64, tmp_path / "in" / "points.csv")

    (out / "kids/photo/a.png").unlink()
    options = ("--group", "elderly", "--points", points, *more)
    assert call(tmp_path / "in/elderly", out, *options, capsys=capsys)[0] == 0
    assert "kids/photo/a.png" not in listed.read_text() and "kids/cartoon/a.png" in listed.read_text()
    code, _, said = call(tmp_path / "in/kids", out, "--points", listed, capsys=capsys)
    assert code == 2 and "holds points of the crops in OUT; name a table of the pictures in IN" in said


def drawing(face: np.ndarray) -> np.ndarray:
    """The face with flat colours and black lines."""
    flat = cv2.pyrMeanShiftFiltering(face, 8, 24) // 24 * 24
    lines = cv2.adaptiveThreshold(
        cv2.medianBlur(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), 5), 255, cv2.ADAPTIVE_THRESH_MEAN_C, 0, 9, 4
    )
    return cv2.bitwise_and(flat, flat, mask=lines)


def test_drawings_are_found_or_wait_for_points_and_join_their_photo(tmp_path, face, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    drawn = drawing(face)
    save(source / "photos/a.png", face)
    save(source / "drawings/a.png", drawn)
    turned = np.ascontiguousarray(drawn[::-1, ::-1])  # no search sees a face that stands on its head
    save(source / "drawings/b.png", turned)
    photos = (source / "photos", out, "--points", hand_set(source / "photos"))
    assert call(*photos, "--group", "elderly", capsys=capsys)[0] == 0
    code, said, _ = call(source / "drawings", out, "--domain", "cartoon", capsys=capsys)
    assert code == 0 and "for 1 drawings write five points each into" in said
    found = report(out)["drawings/a.png"]
    assert found["file"] == "elderly/cartoon/a.png"  # beside the photo of its name
    assert np.abs(np.array(found["points"])[:2] - EYES).max() < 8
    assert report(out)["drawings/b.png"]["reason"] == "no face"

    needs = out / "needs_points.csv"
    assert needs.read_text().splitlines() == [",".join(["file", *COORDINATES]), "b.png" + "," * 10]
    write_table(needs, [{"file": "b.png", **five(299 - HAND_SET)}])
    again = (source / "drawings", out, "--domain", "cartoon", "--points", needs)
    for _ in range(2):
        assert call(*again, capsys=capsys)[0] == 0
        entry = report(out)["drawings/b.png"]
        assert entry["status"] == "kept" and entry["points_from"] == "table"
        np.testing.assert_array_equal(read(out / entry["file"]), aligned(turned, 299 - HAND_SET, 256))
        assert "b.png,95" in needs.read_text()  # what somebody filled in is never lost


@pytest.mark.parametrize("content", [b"file;left_eye_x\nb.png;3\n", "file,ä\n".encode("latin-1")])
def test_points_that_cannot_be_understood_are_not_written_over(content, tmp_path):
    (tmp_path / "needs_points.csv").write_bytes(content)
    entry = {"domain": "cartoon", "source": str(tmp_path / "in/b.png"), "reason": "no face"}
    with pytest.raises(DataError, match=r"needs_points\.csv: (its columns have changed|not a table in UTF-8)"):
        write_needs_points(tmp_path, tmp_path / "in", [entry])
    assert (tmp_path / "needs_points.csv").read_bytes() == content


def left_half(path: Path, side: int = 32) -> None:
    """A network that takes the left half of any picture for the person."""
    mask = np.zeros((1, side, side, 1), np.float32)
    mask[:, :, : side // 2] = 1
    nodes = [
        helper.make_node("Mul", ["image", "zero"], ["nothing"]),
        helper.make_node("ReduceMax", ["nothing", "axes"], ["grey"], keepdims=1),
        helper.make_node("Add", ["grey", "half"], ["mask"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([3]), "axes"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(mask, "half"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, side, side, 3])
    out = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, side, side, 1])
    graph = helper.make_graph(nodes, "left", [image], [out], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_white_backgrounds_and_another_size(tmp_path, face, capsys):
    save(tmp_path / "in/a.png", face)
    left_half(tmp_path / "left.onnx")
    options = ("--points", hand_set(tmp_path / "in"), "--white", "--masks", tmp_path / "left.onnx")
    assert call(tmp_path / "in", tmp_path / "out", "--group", "kids", "--size", 128, *options, capsys=capsys)[0] == 0
    found = read(tmp_path / "out/kids/photo/a.png")
    assert found.shape == (128, 128, 3)
    assert (found[:, 72:] == 255).all() and found[40:90, :56].mean() < 230


def test_groups_come_from_the_table(tmp_path, face):
    source, out = tmp_path / "in", tmp_path / "out"
    points = five(HAND_SET)
    for index, name in enumerate(("named", "young", "old", "between", "unwanted", "unlisted")):
        save(source / f"{name}.png", np.roll(face, index, axis=0))
    rows = [
        {"file": "in/named.png", "group": "kids", "age": 33, "sex": "M", **points},
        {"file": "young.png", "group": "", "age": 20, "sex": "F", **points},
        {"file": "old.png", "group": "pensioners", "age": 70, "sex": "M", **points},
        {"file": "between.png", "group": "", "age": 50, "sex": "M", **points},
        {"file": "unwanted.png", "group": "", "age": 20, "sex": "M", **points},
    ]
    write_table(tmp_path / "table.csv", rows)
    settings = Settings(groups=("kids", "young-women", "elderly"), near=0)
    prepare.prepare(source, out, settings, table=tmp_path / "table.csv", jobs=1)
    became = {name: entry.get("group") or entry["detail"] for name, entry in report(out).items()}
    assert became == {
        "named.png": "kids",
        "young.png": "young-women",
        "old.png": "elderly",
        "between.png": "50 years belong to no group for sure",
        "unwanted.png": "young-men is none of kids, young-women, elderly",
        "unlisted.png": "not in table.csv",
    }


def test_a_face_of_another_group_is_left_out(tmp_path, face):
    save(tmp_path / "in/a.png", face)
    points = hand_set(tmp_path / "in")
    (seen,) = prepare.prepare(tmp_path / "in", tmp_path / "all", Settings(), points=points, jobs=1)["groups"]
    wanted = tuple(group for group in ("young-women", "young-men", "kids", "elderly") if group != seen)
    with pytest.raises(DataError, match=r"none of the 1 pictures .*1 no group.*contact-dropped\.jpg"):
        prepare.prepare(tmp_path / "in", tmp_path / "out", Settings(groups=wanted), points=points, jobs=1)
    assert report(tmp_path / "out")["a.png"]["detail"] == f"looks like {seen}, which is not wanted"


def test_drawings_over_their_photos_stay_pixel_on_pixel(tmp_path, face):
    out = tmp_path / "out"
    save(tmp_path / "in/photos/a.png", face)
    save(tmp_path / "in/photos/b.png", mirrored(face))
    save(tmp_path / "in/drawings/a.png", 255 - face)  # whatever it shows
    save(tmp_path / "in/drawings/b.png", cv2.resize(face, (200, 200)))
    points = hand_set(tmp_path / "in/photos", b=MIRRORED)
    prepare.prepare(tmp_path / "in/photos", out, Settings(group="kids"), points=points, jobs=1)
    prepare.prepare(tmp_path / "in/drawings", out, Settings(domain="cartoon", over_photos=True), jobs=1)
    np.testing.assert_array_equal(read(out / "kids/cartoon/a.png"), aligned(255 - face, HAND_SET, 256))
    became = report(out)
    assert became["drawings/b.png"]["detail"] == "200x200 px, but its photo has 300x300: not drawn over it"


def test_the_published_crop_holds_for_photos_and_the_drawings_over_them(tmp_path, face, capsys):
    """Eyes are level in it and the head's box fills it; points of the crops follow, and another crop is made anew."""
    save(tmp_path / "in/photos/ann.png", face)
    save(tmp_path / "in/drawings/ann.png", 255 - face)
    usual, out = tmp_path / "usual", tmp_path / "out"
    assert call(tmp_path / "in/photos", usual, "--group", "kids", capsys=capsys)[0] == 0
    for folder, domain, more in (("photos", "photo", ["--group", "kids"]), ("drawings", "cartoon", ["--over-photos"])):
        options = ["--domain", domain, "--crop", "photo2cartoon", *more]
        assert call(tmp_path / "in" / folder, out, *options, capsys=capsys)[0] == 0
    photo, drawing = (read(out / f"kids/{domain}/ann.png") for domain in ("photo", "cartoon"))
    assert np.abs(255 - photo[60:200, 60:200].astype(int) - drawing[60:200, 60:200]).max() <= 1
    assert not np.array_equal(photo, read(usual / "kids/photo/ann.png"))
    with open(out / "crop_points.csv", newline="") as file:
        points = [[float(row[name]) for name in COORDINATES] for row in csv.DictReader(file)]
    assert points[0] == points[1]
    placed = np.array(points[0]).reshape(5, 2)
    assert abs(placed[0, 1] - placed[1, 1]) < 3 and np.abs(placed - TEMPLATE).max() < 12
    assert call(tmp_path / "in/photos", out, "--group", "kids", capsys=capsys)[0] == 0
    assert np.array_equal(read(out / "kids/photo/ann.png"), read(usual / "kids/photo/ann.png"))


def test_points_that_are_on_no_face_have_no_published_crop(tmp_path, face, capsys):
    save(tmp_path / "in/ann.png", np.full_like(face, 120))
    options = ["--points", hand_set(tmp_path / "in"), "--crop", "photo2cartoon", "--min-sharpness", "0"]
    code, _, err = call(tmp_path / "in", tmp_path / "out", *options, capsys=capsys)
    assert code == 1 and "1 no face" in err
    assert "68 points were not found, which --crop" in report(tmp_path / "out")["ann.png"]["detail"]


def test_points_beside_the_picture_are_those_of_another(tmp_path, face):
    save(tmp_path / "in/a.png", face)
    save(tmp_path / "in/small.png", face[:90, :90])
    points = hand_set(tmp_path / "in")
    prepare.prepare(tmp_path / "in", tmp_path / "out", Settings(group="kids"), points=points, jobs=1)
    assert report(tmp_path / "out")["small.png"]["detail"] == "its points lie beside the picture of 90x90 px"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere", "out"], 1, "nowhere: no such folder"),
        (["empty", "out"], 1, "empty: no pictures in it"),
        (["in", "in"], 2, "is IN itself"),
        (["in", "out", "--white"], 2, "--white needs --masks"),
        (["in", "out", "--masks", "m.onnx"], 2, "add --white"),
        (["in", "out", "--over-photos"], 2, "add --domain cartoon"),
        (["in", "out", "--white", "--masks", "m.onnx"], 2, "--masks m.onnx: no such file"),
        (["in", "out", "--groups", "pirates"], 2, "pirates cannot be told from a face"),
        (["in", "out", "--groups", "kids", "--group", "kids"], 2, "leave --groups out"),
        (["in", "out", "--group", "a/b"], 2, "--group: 'a/b' cannot name a group (expected letters"),
        (["in", "out", "--group", "my kids"], 2, "--group: 'my kids' cannot name a group (expected letters"),
        (["in", "out", "--group", "children"], 2, "--group: 'children' cannot name a group (torch uses it)"),
        (["in", "out", "--groups", "kids,keys"], 2, "--groups: 'keys' cannot name a group (torch uses it)"),
        (["in", "out", "--group", "trainA"], 2, "--group: 'trainA' cannot name a group (it means something else"),
        (["in", "out", "--table", "group.csv"], 1, "group.csv: line 2: 'type' cannot name a group (torch uses it)"),
        (["in", "out", "--size", "8"], 2, "--size: expected 32 to 1024, got 8"),
        (["in", "out", "--jobs", "0"], 2, "--jobs: expected 1 to 256, got 0"),
        (["in", "out", "--min-sharpness", "nan"], 2, "--min-sharpness: expected 0 to 10"),
        (["in", "out", "--table", "t.csv"], 1, "t.csv: No such file"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_wrong_use_is_one_sentence(arguments, code, sentence, tmp_path, face, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(Path("in/a.png"), face)
    Path("empty").mkdir()
    Path("group.csv").write_text("file,group\na.png,type\n")
    found, _, said = call(*arguments, capsys=capsys)
    assert found == code
    assert sentence in said and len(said.strip().splitlines()) == 1
    assert not list(Path().glob("out/*/*/*"))


def test_a_sheet_of_many_pictures_has_an_end(tmp_path):
    contact_sheet(tmp_path / "a.jpg", "many", [(tmp_path / "gone.png", f"name {n}\n") for n in range(5000)])
    assert read(tmp_path / "a.jpg").shape[0] == 44 + 20 * (128 + 44 + 8)


def test_help_loads_nothing_heavy():
    code = (
        "import sys, trainer.prepare as p; p.arguments(); sys.exit(bool({'numpy', 'cv2', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
