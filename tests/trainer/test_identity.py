"""The frozen face-ID network: what is cut out, and what takes a gradient."""

import cv2
import numpy as np
import pytest
import torch

from livetoon.errors import ModelError
from trainer.identity import CROPS, TO_FACE, FaceIdentity, cut_face
from trainer.losses import face_distance
from trainer.networks import build

TINY = {"dimensions": 8, "width": 4, "blocks": (1, 1, 1), "size": 32}


@pytest.fixture(autouse=True)
def one_thread():
    """Maps of a few pixels are computed sooner by one thread than handed out to several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def identity(crop: str = "published", name: str = "mobilefacenet") -> FaceIdentity:
    torch.manual_seed(1)
    return FaceIdentity(build(name, **TINY), crop)


def places(side: int) -> torch.Tensor:
    """A picture whose values say where: column, row, column + row."""
    row, column = torch.meshgrid(*[torch.arange(side, dtype=torch.float32)] * 2, indexing="ij")
    return torch.stack([column, row, column + row])[None]


def test_the_published_box_is_cut_with_its_corners_aligned():
    face = cut_face(places(256), "published", 112)[0]
    # photo2cartoon: top int(256 / 2.1 * 0.47) = 57, bottom int(256 - 256 / 2.1 * 0.3) = 219, left 128 - 162 / 2
    corners = [face[:2, y, x].tolist() for y, x in ((0, 0), (0, 111), (111, 0), (111, 111))]
    assert np.allclose(corners, [(47, 57), (208, 57), (47, 218), (208, 218)], atol=1e-3)


def test_our_crop_is_cut_as_opencv_does_and_at_every_size_alike():
    random = np.random.default_rng(0)
    picture = cv2.GaussianBlur(random.uniform(0, 255, (256, 256, 3)).astype(np.float32), (0, 0), 4)
    expected = cv2.warpAffine(picture, np.float32(TO_FACE), (112, 112), flags=cv2.INTER_LINEAR)
    face = cut_face(torch.from_numpy(picture).permute(2, 0, 1)[None], "livetoon", 112)[0].permute(1, 2, 0).numpy()
    assert np.abs(face - expected).max() < 0.5  # OpenCV rounds places to 1/32 px
    large, small = (cut_face(places(side), "livetoon", 112)[0, :2] for side in (256, 128))
    assert torch.allclose((large + 0.5) / 2, small + 0.5, atol=1e-3)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("name", ["mobilefacenet", "mobilefacenet-128"])
def test_vectors_have_length_one_and_the_gradient_reaches_the_picture_alone(crop, name):
    network = identity(crop, name)
    drawn = torch.rand(2, 3, 64, 64, requires_grad=True)
    with torch.no_grad():
        person = network(torch.rand(2, 3, 64, 64))
    vectors = network(drawn)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))
    face_distance(vectors, person).sum().backward()
    assert drawn.grad.abs().sum() > 0
    assert not person.requires_grad
    assert all(weight.grad is None and not weight.requires_grad for weight in network.parameters())


def test_training_mode_does_not_reach_it():
    held = torch.nn.ModuleList([identity()]).train()
    before = {name: value.clone() for name, value in held.state_dict().items()}
    held[0](torch.rand(4, 3, 64, 64))
    assert not any(module.training for module in held[0].modules())
    assert all(torch.equal(value, before[name]) for name, value in held.state_dict().items())


def test_the_128_network_is_fed_in_imagenets_scale():
    network, faces = identity("livetoon", "mobilefacenet-128"), torch.rand(2, 3, 32, 32) * 2 - 1
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = network.network(((faces + 1) / 2 - mean) / deviation)
    assert torch.allclose(network.embed(faces), expected / expected.norm(dim=1, keepdim=True), atol=1e-5)


def test_an_unknown_crop_is_refused():
    with pytest.raises(ModelError, match="face crop 'head': expected one of published, livetoon"):
        identity("head")
