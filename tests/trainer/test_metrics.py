"""Distances of sets of features against their definitions, feature networks, and the validator on small sets."""

import logging
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from livetoon.errors import DataError, ModelError, UsageError
from trainer import inception, metrics


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return (float(a @ b) / len(a) + 1) ** 3


def slow_kid(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 4 of arXiv 1801.01401, pair by pair."""
    within_x = np.mean([kernel(x[i], x[j]) for i, j in permutations(range(len(x)), 2)])
    within_y = np.mean([kernel(y[i], y[j]) for i, j in permutations(range(len(y)), 2)])
    return within_x + within_y - 2 * np.mean([kernel(a, b) for a in x for b in y])


def normal(seed: int, count: int, dimensions: int = 12, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, dimensions))


def test_kid_of_whole_sets_is_its_definition(monkeypatch):
    x, y = normal(1, 9), normal(2, 9, shift=0.3)
    assert metrics.kid(x, y) == pytest.approx((slow_kid(x, y), 0.0), rel=1e-12)
    monkeypatch.setattr(metrics, "ROWS", 4)  # the kernel in several parts
    assert metrics.kid(x, y)[0] == pytest.approx(slow_kid(x, y), rel=1e-12)


def test_kid_over_subsets_is_the_mean_of_their_definitions():
    x, y = normal(1, 8), normal(2, 11, shift=0.3)
    mean, deviation = metrics.kid(x, y, subsets=5, subset_size=4, rng=np.random.default_rng(7))
    rng = np.random.default_rng(7)
    in_x = [rng.choice(8, 4, replace=False) for _ in range(5)]
    in_y = [rng.choice(11, 4, replace=False) for _ in range(5)]
    expected = [slow_kid(x[a], y[b]) for a, b in zip(in_x, in_y, strict=True)]
    assert mean == pytest.approx(np.mean(expected)) and deviation == pytest.approx(np.std(expected))


def test_kid_is_unbiased_for_one_distribution_and_grows_with_a_shift():
    same = [metrics.kid(normal(2 * s, 20), normal(2 * s + 1, 20))[0] for s in range(200)]
    assert min(same) < 0  # an unbiased estimate of zero must go below it
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(len(same))
    shifted = [metrics.kid(normal(1, 200), normal(2, 200, shift=shift))[0] for shift in (0, 0.25, 0.5, 1)]
    assert shifted == sorted(shifted) and shifted[1] > 10 * abs(shifted[0])


def test_face2webtoons_protocol_takes_the_smaller_set_whole():
    x, y = normal(1, 4), normal(2, 9)
    mean, _ = metrics.kid(x, y, subsets=None, subset_size=None, rng=np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.choice(4, 4, replace=False), rng.choice(4, 4, replace=False)
    parts = [rng.choice(9, 4, replace=False) for _ in range(2)]  # 9 // 4 subsets of 4
    assert mean == pytest.approx(np.mean([slow_kid(x, y[part]) for part in parts]))


def test_fid_is_the_closed_form_of_gaussians():
    rng = np.random.default_rng(0)
    white = rng.normal(size=(300, 5))
    white = (white - white.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T  # covariance 1 exactly
    spread_x, spread_y, shift = np.array([1, 2, 3, 0.5, 1.5]), np.array([2, 2, 1, 0.5, 0.1]), np.arange(5) / 4
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    x, y = white * spread_x @ turn, (white[rng.permutation(300)] * spread_y + shift) @ turn
    expected = (shift**2).sum() + ((spread_x - spread_y) ** 2).sum()
    assert metrics.fid(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [3, 40], ids=["fewer than dimensions", "more"])
def test_fid_is_the_matrix_square_root_of_the_definition(count):
    from scipy.linalg import sqrtm

    x, y = normal(1, count, 6), normal(2, count + 1, 6, shift=0.4) * np.arange(1, 7)
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b) - 2 * np.trace(sqrtm(a @ b)).real
    assert metrics.fid(x, y) == pytest.approx(expected, rel=1e-4)  # sqrtm loses digits where a @ b is singular


@pytest.mark.parametrize("count", [2, 5, 90])
def test_fid_of_a_set_and_itself_is_zero(count):
    x = normal(4, count, 30) * 100
    assert metrics.fid(x, x[::-1]) == pytest.approx(0, abs=1e-6)
    assert metrics.fid(x, x + 1) == pytest.approx(30)


@pytest.mark.parametrize("measure", [metrics.kid, metrics.fid])
def test_sets_that_cannot_be_compared_are_refused(measure):
    with pytest.raises(DataError, match="needs 2 in each"):
        measure(normal(1, 1), normal(2, 5))
    with pytest.raises(DataError, match="of one network"):
        measure(normal(1, 5, 3), normal(2, 5, 4))
    broken = normal(1, 5)
    broken[2, 3] = np.nan
    assert np.isnan(measure(broken, normal(2, 5))).all()


def test_a_subset_of_one_picture_is_refused():
    with pytest.raises(UsageError, match="subsets of 1"):
        metrics.kid(normal(1, 5), normal(2, 5), subset_size=1)


def test_change_is_a_share_of_the_range():
    black, white = -torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert metrics.change(black, white) == 1 and metrics.change(white, white) == 0


@pytest.fixture(scope="module")
def lite0():
    return metrics.open_features("efficientnet-lite0")


def noise(seed: int, count: int, size: int = 64) -> torch.Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_features_tell_pictures_apart_and_do_not_depend_on_company(lite0):
    pictures = noise(1, 2)
    features = lite0(pictures)
    assert features.shape == (2, 1280) and features.dtype == np.float32 and lite0.name == "efficientnet-lite0"
    assert np.abs(features[0] - features[1]).max() > 0.01
    np.testing.assert_allclose(lite0(pictures[1:]), features[1:], atol=1e-4)


def test_features_are_those_that_the_network_classifies_by(lite0):
    from trainer.features import efficientnet_lite0

    network = efficientnet_lite0().eval()
    picture = noise(2, 1, 224)
    with torch.no_grad():
        scores = network((picture * 127.5 + 127.5 - 127) / 128)
        again = network._fc(torch.from_numpy(lite0(picture)))
    torch.testing.assert_close(again, scores, atol=1e-4, rtol=1e-4)


def test_other_shapes_and_networks_are_refused(lite0, monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"expected \(N, 3, S, S\)"):
        lite0(torch.zeros(2, 4, 8, 8))
    with pytest.raises(UsageError, match="expected one of auto"):
        metrics.open_features("vgg")
    monkeypatch.delenv(inception.VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=inception.VARIABLE):
        metrics.open_features("inception")
    assert metrics.open_features("auto").name == "efficientnet-lite0"


def test_inception_has_the_published_count_of_parameters():
    """torchvision documents 27,161,264 with its side output of 3,326,696, the class scores being 2049 * 1000."""
    network = inception.Inception("inception-torchvision")
    assert sum(value.numel() for value in network.parameters()) == 27_161_264 - 3_326_696 - 2_049_000


def written(path: Path, classes: int) -> inception.Inception:
    """A weight file laid out as the public ones, of a network with random weights."""
    torch.manual_seed(classes)
    network = inception.Inception(inception.CLASSES[classes]).eval()
    tensors = {**network.state_dict(), "fc.weight": torch.zeros(classes, 1), "AuxLogits.fc.bias": torch.zeros(1)}
    torch.save(tensors, path)
    return network


def test_inception_features_are_those_of_pictures_brought_to_its_size(tmp_path, monkeypatch):
    path, picture = tmp_path / "weights.pth", noise(3, 1)
    network = written(path, 1008)
    monkeypatch.setenv(inception.VARIABLE, str(path))
    features = metrics.open_features()
    with torch.no_grad():
        expected = network(F.interpolate(picture, size=(299, 299), mode="bilinear")).numpy()
    assert expected.shape == (1, 2048) and features.name == "inception-fid"
    np.testing.assert_allclose(features(picture), expected, rtol=1e-3, atol=1e-6)


def test_torchvisions_file_is_read_too(tmp_path):
    expected = written(tmp_path / "weights.pth", 1000).state_dict()
    read = inception.load(tmp_path / "weights.pth")
    assert read.name == "inception-torchvision" and not any(each.requires_grad for each in read.parameters())
    assert all(torch.equal(value, expected[name]) for name, value in read.state_dict().items())


def test_the_two_inceptions_pool_differently():
    torch.manual_seed(0)
    ours, other = inception.Inception("inception-fid").eval(), inception.Inception("inception-torchvision").eval()
    other.load_state_dict(ours.state_dict())
    with torch.no_grad():
        first, second = ours(noise(5, 1, 75)), other(noise(5, 1, 75))
    assert (first - second).abs().max() > 1e-3 * first.abs().max()


def test_inception_weights_in_torch_hubs_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.delenv(inception.VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert inception.installed() is None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for name in (inception.FILES[1], inception.FILES[0]):
        (tmp_path / "hub" / "checkpoints" / name).write_bytes(b"")
        assert inception.installed().name == name  # the network of the FID paper goes first


@pytest.mark.parametrize("content", [None, b"", b"no weights", "other"], ids=["missing", "empty", "text", "other"])
def test_a_file_that_is_not_inception_is_one_sentence(content, tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    if content == "other":
        torch.save({"fc.weight": torch.zeros(10, 2)}, path)
    elif content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(inception.VARIABLE, str(path))
    with pytest.raises(ModelError, match=r"weights\.pth: ") as refused:
        metrics.open_features()
    assert "\n" not in str(refused.value)


def pictures(seed: int, count: int, size: int = 32) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8))


class Counted:
    """Mean and spread of each channel: a feature network that is quick and counts its pictures."""

    name = "channels"
    device = torch.device("cpu")
    seen = 0

    def __call__(self, x: torch.Tensor) -> np.ndarray:
        self.seen += len(x)
        return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1).numpy()


def darker(x, group):
    return x * 0.5 - 0.5


def brighter(x, group):
    return x * 2 + 1


def test_the_validator_measures_three_directions_of_two_pictures(lite0):
    validator = metrics.Validator({"kids": pictures(1, 2)}, {"kids": pictures(2, 2)}, lite0)
    figures = validator(darker, brighter)
    directions = ("photo-cartoon", "cartoon-photo", "photo-reconstruction")
    assert set(figures) == {f"{name}/kids/{way}" for name in ("kid", "fid", "change") for way in directions}
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["change/kids/photo-reconstruction"] == pytest.approx(0, abs=1e-6)
    assert figures["fid/kids/photo-reconstruction"] == pytest.approx(0, abs=1e-3)
    assert figures["fid/kids/photo-cartoon"] > 1
    assert validator.network == "efficientnet-lite0"


def test_the_validators_figures_are_those_of_the_sets_it_names():
    photos, cartoons, count = pictures(1, 11), pictures(2, 9), Counted()
    figures = metrics.Validator({"kids": photos}, {"kids": cartoons}, count)(darker, brighter)
    x, y = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2) / 127.5 - 1 for each in (photos, cartoons))
    assert figures["kid/kids/photo-cartoon"] == pytest.approx(metrics.kid(count(darker(x, "")), count(y))[0], rel=1e-4)
    assert figures["fid/kids/cartoon-photo"] == pytest.approx(metrics.fid(count(brighter(y, "")), count(x)), rel=1e-4)
    assert figures["change/kids/photo-cartoon"] == pytest.approx(metrics.change(x, darker(x, "")), rel=1e-5)


def test_real_features_are_made_once():
    count = Counted()
    validator = metrics.Validator({"kids": pictures(1, 3)}, {"kids": pictures(2, 4)}, count)
    validator(darker)
    assert count.seen == 3 + 4  # drawn photos, real cartoons
    validator(darker)
    assert count.seen == 3 + 4 + 3


def test_identity_is_the_cosine_of_the_faces_in_photo_and_drawing(face_id):
    photos, cartoons = pictures(1, 9), pictures(2, 3)
    measured = metrics.Validator({"kids": photos}, {"kids": cartoons}, Counted(), identity=face_id)
    figures = measured(darker, brighter)
    x = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 127.5 - 1
    expected = [float(a @ b) for a, b in zip(face_id(x), face_id(darker(x, "")), strict=True)]
    assert min(expected) > -1 and max(expected) < 0.9999
    assert figures["identity/kids/photo-cartoon"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert figures["identity/kids/photo-reconstruction"] == pytest.approx(1, abs=1e-5)
    assert "identity/kids/cartoon-photo" not in figures  # a cartoon's face is nobody's


def test_l1_of_pairs_is_their_distance_from_the_cartoons_and_needs_no_features():
    photos, cartoons = {"a": pictures(1, 11), "b": pictures(3, 4)}, {"a": pictures(2, 11), "b": pictures(4, 4)}
    validator = metrics.Validator(photos, cartoons, None, paired=True)
    found = validator(darker, groups=["a"])
    drawn, real = (torch.from_numpy(np.stack(each["a"])) / 127.5 - 1 for each in (photos, cartoons))
    assert set(found) == {"l1/a/photo-cartoon", "change/a/photo-cartoon"} and validator.network == "no features"
    assert found["l1/a/photo-cartoon"] == pytest.approx(metrics.change(darker(drawn, ""), real), rel=1e-5)
    shuffled = metrics.Validator(photos, {"a": cartoons["a"][::-1], "b": cartoons["b"]}, None, paired=True)(darker)
    assert shuffled["l1/a/photo-cartoon"] != found["l1/a/photo-cartoon"] and "l1/b/photo-cartoon" in shuffled
    with pytest.raises(DataError, match="validation of a: 11 photos, 10 cartoons; expected pairs"):
        metrics.Validator(photos, {"a": cartoons["a"][1:], "b": cartoons["b"]}, None, paired=True)


def test_a_group_is_drawn_by_its_own_branch():
    photos, cartoons = {"a": pictures(1, 2), "b": pictures(1, 2)}, {"a": pictures(2, 2), "b": pictures(2, 2)}
    figures = metrics.Validator(photos, cartoons, Counted())(lambda x, group: x if group == "a" else darker(x, group))
    assert figures["change/a/photo-cartoon"] == 0 < figures["change/b/photo-cartoon"]
    assert not any("reconstruction" in name or "cartoon-photo" in name for name in figures)  # no way back


def test_sets_of_one_picture_are_left_out_and_named_once(caplog):
    caplog.set_level(logging.WARNING, "trainer")
    photos, cartoons = {"kids": pictures(1, 2), "elderly": pictures(1, 3)}, {"kids": pictures(2, 1)}
    validator = metrics.Validator(photos, cartoons, Counted())
    figures = validator(darker, brighter)
    assert validator(darker, brighter) == figures
    assert {name.split("/", 1)[1] for name in figures} == {"kids/photo-reconstruction", "elderly/photo-reconstruction"}
    assert [record.getMessage() for record in caplog.records] == [
        "validation: 1 cartoon(s) of kids, 2 are needed to measure them",
        "validation: 0 cartoon(s) of elderly, 2 are needed to measure them",
    ]


def test_face2webtoons_pictures_are_96_pixels():
    sizes = set()

    class Sized(Counted):
        def __call__(self, x):
            sizes.add(tuple(x.shape[2:]))
            return super().__call__(x)

    validator = metrics.Validator({"a": pictures(1, 2)}, {"a": pictures(2, 5)}, Sized(), "face2webtoon")
    assert np.isfinite(list(validator(darker, brighter).values())).all()
    assert sizes == {(96, 96)} and validator.network == "channels at 96 px"


def test_pictures_and_drawings_of_a_wrong_kind_are_refused():
    with pytest.raises(DataError, match=r"validation photos of a: uint8 \(32, 32, 3\), expected"):
        metrics.Validator({"a": [*pictures(1, 1, 16), *pictures(1, 1)]}, {"a": pictures(2, 2)}, Counted())
    with pytest.raises(DataError, match="float64"):
        metrics.Validator({"a": [np.zeros((8, 8, 3))] * 2}, {}, Counted())
    with pytest.raises(UsageError, match="expected one of paper, face2webtoon"):
        metrics.Validator({}, {}, Counted(), "mine")
    validator = metrics.Validator({"a": pictures(1, 2)}, {"a": pictures(2, 2)}, Counted())
    with pytest.raises(DataError, match="expected the same shape"):
        validator(lambda x, group: x[:, :, :8])
