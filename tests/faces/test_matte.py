from itertools import pairwise

import cv2
import numpy as np
import pytest

from faces import matte as command
from faces import weights
from faces.align import align_matrix, crop
from faces.landmarks import five
from faces.matte import SIDE, Matte, Steady, on_white
from livetoon.errors import DataError

FPS = 30

@pytest.fixture(scope="module")
def matte() -> Matte:
    return Matte()


@pytest.fixture(scope="module")
def aligned(finders, portrait) -> np.ndarray:
    mesh = finders.fit_detection(portrait, finders.wide(portrait)[0])
    return crop(portrait, align_matrix(five(mesh.points)))


def face(x, y, scale, shape) -> np.ndarray:
    """(H, W) bool: from brow to chin of a face of `scene`."""
    mask = np.zeros(shape[:2], np.uint8)
    cv2.ellipse(mask, (round(x), round(y + 20 * scale)), (round(32 * scale), round(42 * scale)), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def test_the_person_of_a_photo_is_told_from_the_room(matte, portrait):
    alpha = matte(portrait)
    assert alpha.shape == portrait.shape[:2] and alpha.dtype == np.uint8
    assert (alpha[60:170, 190:260] > 200).mean() > 0.98, "face"
    assert (alpha[300:420, 180:330] > 200).mean() > 0.95, "suit"
    assert (alpha[:60, 20:100] < 60).mean() > 0.9, "flag"


def test_an_aligned_crop_has_an_alpha(matte, aligned):
    alpha = matte(aligned)
    assert (alpha[100:190, 95:160] > 200).mean() > 0.98, "face"
    assert (alpha[:60, :30] < 60).mean() > 0.9, "background beside the head"


@pytest.mark.parametrize(
    ("width", "height"),
    [(640, 480), (480, 640), (1280, 720), (1600, 400), (300, 1200)],
)
def test_frames_of_any_shape(matte, scene, width, height):
    scale = height / 320 if height < width else width / 240
    place = (width / 2, height * 0.5, scale)
    frame = scene((*place, 0), width=width, height=height)
    alpha = matte(frame)
    assert alpha.shape == (height, width)
    assert (alpha[face(*place, frame.shape)] > 127).mean() > 0.9


def test_a_room_with_nobody_is_all_background(matte, scene):
    assert matte(scene()).max() < 30


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 1, 3), (3, 900, 3), (2200, 3000, 3)])
def test_the_smallest_and_large_pictures(matte, shape):
    assert matte(np.full(shape, 90, np.uint8)).shape == shape[:2]


def test_a_large_picture_has_the_alpha_of_a_smaller_one(matte, portrait):
    large = matte(cv2.resize(portrait, (2560, 2560), interpolation=cv2.INTER_CUBIC))
    assert cv2.absdiff(cv2.resize(large, (512, 512), interpolation=cv2.INTER_AREA), matte(portrait)).mean() < 3


def test_an_unsure_hole_in_a_person_is_the_person_and_a_sure_one_is_not():
    alpha = np.zeros((72, 128), np.float32)
    alpha[20:, 30:100] = 0.95
    alpha[40:50, 40:50] = 0.4  # a dark patch on a suit
    alpha[60:, 60:70] = 0.4  # one that the picture's lower side cuts
    alpha[40:50, 75:90] = 0.02  # between an arm and the body
    alpha[20:24, 60:70] = 0.4  # hair that the wind takes: open towards the room
    filled = command.whole(alpha)
    assert (filled[40:50, 40:50] == 1).all() and (filled[60:, 60:70] == 1).all()
    unchanged = np.ones(alpha.shape, bool)
    unchanged[40:50, 40:50] = unchanged[60:, 60:70] = False
    assert (filled[unchanged] == alpha[unchanged]).all()


def test_the_parts_of_a_long_picture_cover_it():
    for height, width in ((300, 1200), (1200, 300), (400, 1600), (100, 181), (50, 700)):
        parts = command._parts(height, width)
        assert len(parts) > 1 and parts[0].start == 0 and parts[-1].stop == max(height, width)
        assert all(one.stop - other.start >= 0.45 * (one.stop - one.start) for one, other in pairwise(parts))
    assert command._parts(480, 640) == [slice(0, 640)] and command._parts(3, 900) == [slice(0, 900)]


def test_edges_lie_where_the_picture_has_them(matte):
    """A bright person of blocks before a dark wall: the small alpha's edge is drawn on the picture's own."""
    frame = np.full((480, 640, 3), 40, np.uint8)
    frame[200:, 220:420] = 200
    small = np.zeros((SIDE, SIDE), np.float32)
    small[53:, 44:84] = 1
    square, inside = command.squeezed(frame)
    soft = cv2.blur(small, (5, 5))
    alpha = command.refined(soft[inside], cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)[inside], frame)
    plain = cv2.resize(soft, (640, 480))
    truth = frame[..., 0] > 100
    near = np.s_[300:400, 200:240]
    assert np.abs(alpha[near] / 255 - truth[near]).mean() < 0.4 * np.abs(plain[near] - truth[near]).mean()


def changing(alphas) -> float:
    """Mean difference of one alpha from the next, in grey levels."""
    return float(np.mean([np.abs(after - before).mean() for before, after in pairwise(alphas)]))


def test_a_still_person_in_noise_has_a_still_alpha(matte, scene):
    """One scene with a camera's noise: frame by frame the steadied alpha changes less than half as much."""
    frame, random = scene((320, 260, 1.6, 0)), np.random.default_rng(0)
    steady, alone, steadied = Steady(), [], []
    for index in range(15):
        noisy = (frame + random.normal(0, 5, frame.shape)).clip(0, 255).astype(np.uint8)
        alone.append(matte(noisy).astype(int))
        steadied.append(matte(noisy, steady, index / FPS).astype(int))
    assert changing(steadied[5:]) < 0.5 * changing(alone[5:])


def test_a_person_who_walks_is_followed_at_once(matte, scene):
    steady = Steady()
    for index in range(12):
        place = (160 + 20 * index, 260, 1.6)
        frame = scene((*place, 0))
        followed, alone = matte(frame, steady, index / FPS), matte(frame)
        assert (followed[face(*place, frame.shape)] > 127).mean() > 0.9, index
        assert cv2.absdiff(followed, alone).mean() < 4, index


@pytest.mark.parametrize("t", [0.0, -1.0, 10.0], ids=["same time", "back", "long after"])
def test_a_time_that_does_not_go_on_starts_anew(matte, scene, t):
    steady = Steady()
    matte(scene((160, 260, 1.6, 0)), steady, 0.0)
    other = scene((480, 260, 1.6, 0))
    assert np.array_equal(matte(other, steady, t), matte(other))


@pytest.mark.parametrize(
    "picture",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32), None,
     np.zeros((0, 9, 3), np.uint8)],
    ids=["grey", "rgba", "float", "none", "empty"],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_one_sentence(matte, picture):
    with pytest.raises(DataError, match="expected a picture"):
        matte(picture)


def test_before_white_only_the_person_is_left():
    picture = np.full((2, 2, 3), 100, np.uint8)
    alpha = np.array([[0, 255], [51, 204]], np.uint8)
    assert np.abs(on_white(picture, alpha)[..., 0].astype(int) - [[255, 100], [224, 131]]).max() <= 1


def write(path, rgb):
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return path


def test_the_command_cuts_a_person_out(matte, portrait, tmp_path):
    source, target = write(tmp_path / "a.png", portrait), tmp_path / "new" / "cut.png"
    assert command.main([str(source), str(target)]) == 0
    cut = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(cut[..., 2::-1], portrait)
    assert np.array_equal(cut[..., 3], matte(portrait))


def test_a_folder_is_cut_out_picture_by_picture_and_a_bad_one_is_named(portrait, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "b.jpg"):
        write(folder / name, portrait[:200, 100:340])
    (folder / "c.jpg").write_bytes(b"")
    assert command.main([str(folder), str(out)]) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg.png", "a.png.png", "b.png"]
    first, last = capsys.readouterr().err.splitlines()
    assert "c.jpg" in first and "1 of 4 pictures could not be read" in last


def test_a_folder_of_bad_pictures_leaves_nothing_behind(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "in" / name).write_bytes(b"")
    assert command.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    assert "none of 2 pictures could be read" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_network_of_another_kind_is_named(portrait, tmp_path, capsys):
    write(tmp_path / "a.png", portrait)
    network = weights.path("age_sex.onnx")
    assert command.main([str(tmp_path / "a.png"), str(tmp_path / "x.png"), "--network", str(network)]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{network} is another kind of network" in said and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("source", "target", "code", "sentence"),
    [
        ("missing.jpg", "x.png", 1, "missing.jpg does not exist"),
        ("a.png", "a.png", 2, "IN and OUT are the same"),
        ("a.png", "x.jpg", 2, "give OUT the ending .png"),
        ("a.png", "nothing", 2, "OUT is the folder"),
        ("empty.png", "x.png", 1, "empty.png: an empty file"),
        ("cut.png", "x.png", 1, "cut.png: broken off"),
        ("words.png", "x.png", 1, "words.png: not a picture"),
        ("nothing", "x", 1, "holds no picture"),
        ("nothing", "a.png", 2, "OUT is the file"),
        (".", "inside", 2, "OUT lies inside IN"),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(portrait, tmp_path, capsys, source, target, code, sentence):
    write(tmp_path / "a.png", portrait)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:9000])
    (tmp_path / "words.png").write_text("no picture")
    (tmp_path / "nothing").mkdir()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert command.main([str(tmp_path / source), str(tmp_path / target)]) == code
    (said,) = capsys.readouterr().err.splitlines()
    assert sentence in said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
