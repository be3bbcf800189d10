"""MobileFaceNet: the public keys, the order of its layers, its rules, and the recorded numbers where they are."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from livetoon.errors import ModelError
from trainer.networks import build
from trainer.networks.mobilefacenet import Bottleneck, MobileFaceNet128

SHARED = Path(__file__).parents[4] / "shared"
# sha256 over "NAME SHAPE" of each tensor, one a line; below they are compared with the public lists
PUBLIC_TENSORS = {
    "mobilefacenet": "6b82f33b8fa1b6e3e672b9a737e00f2b63751609c47a3e6cb04dee4a0a025bd4",
    "mobilefacenet-128": "a219e78faa3c8e9319a2cdd71e8e59fb99d0809bc0978aa33d7a7ded17bffcf9",
}
TINY = {"dimensions": 8, "width": 4, "blocks": (1, 2, 1), "size": 32}
NETWORKS = ["mobilefacenet", "mobilefacenet-128"]


@pytest.fixture(autouse=True)
def one_thread():
    """Maps of a few pixels are computed sooner by one thread than handed out to several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shapes(tensors) -> list[str]:
    return [f"{name} {tuple(value.shape)}" for name, value in tensors.items()]


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_and_shapes_are_the_public_ones(name):
    described = "\n".join(shapes(build(name).state_dict()))
    assert hashlib.sha256(described.encode()).hexdigest() == PUBLIC_TENSORS[name]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared folder beside the repository")
def test_the_hashes_are_those_of_the_public_lists():
    lists = {
        "mobilefacenet": json.loads((SHARED / "reference/keys/mobilefacenet_512.json").read_text())["state_dict"],
        "mobilefacenet-128": {
            name: value.shape
            for name, value in torch.load(
                SHARED / "models/mobilefacenet_128d_state_dict.pt", map_location="cpu", weights_only=True
            ).items()
        },
    }
    for name, public in lists.items():
        described = sorted(f"{key} {tuple(shape)}" for key, shape in public.items())
        assert described == sorted(shapes(build(name).state_dict()))


@pytest.mark.parametrize("name", NETWORKS)
def test_settings_make_the_same_network_again(name):
    made = build(name, **TINY).eval()
    again = build(name, **json.loads(json.dumps(made.settings))).eval()
    again.load_state_dict(made.state_dict())
    faces = torch.randn(3, 3, 32, 32)
    assert made(faces).shape == (3, 8)
    assert torch.equal(made(faces), again(faces))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_picture_does_not_depend_on_the_others_of_its_batch(name):
    made = build(name, **TINY).train()
    faces = torch.randn(3, 3, 32, 32)
    for _ in range(30):  # until the normalization knows its maps: those of fresh weights are nearly zero
        made(faces)
    made.eval()
    assert torch.allclose(made(faces)[1:2], made(faces[1:2]), atol=1e-5)
    assert (made(faces)[0] - made(faces)[1]).abs().max() > 0.1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [0, 8, 100])
def test_a_side_that_cannot_be_halved_four_times_is_refused(name, size):
    with pytest.raises(ModelError, match=f"size {size}: expected a multiple of 16"):
        build(name, **{**TINY, "size": size})


def test_a_bottleneck_adds_its_input_only_where_shapes_stay():
    x = torch.randn(2, 4, 6, 6)
    for block, kept in ((Bottleneck(4, 4, inner=8), True), (Bottleneck(4, 4, inner=8, stride=2), False)):
        torch.nn.init.zeros_(block.project.bn.weight)
        y = block.eval()(x)
        assert torch.equal(y, x) if kept else not y.any()


def test_the_narrow_end_of_a_bottleneck_has_no_activation():
    y = Bottleneck(4, 6, inner=8).eval()(torch.randn(2, 4, 6, 6))
    slopes = [name for name, _ in Bottleneck(4, 6, inner=8).named_parameters() if "prelu" in name]
    assert y.min() < 0
    assert slopes == ["conv.prelu.weight", "conv_dw.prelu.weight"]


def test_layers_lists_every_convolution_in_the_order_of_work():
    network = MobileFaceNet128(**TINY).eval()
    seen = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    network(torch.randn(1, 3, 32, 32))
    assert [each for pair in network.layers() for each in pair] == seen
