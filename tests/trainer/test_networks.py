"""One suite over every registered network: forward, backward, branches, precision, export."""

import logging
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from trainer.networks import build, layers, names
from trainer.networks.branches import Branched, Drawing, draw
from trainer.networks.discriminators import Verdict
from trainer.presets import FEW_SHOT_OWN

TINY = {  # settings and side of a picture in px
    "cyclegan": ({"width": 4, "blocks": 2}, 32),
    "discriminator": ({"width": 4, "head": "linear", "groups": 3}, 32),
    "keypoints": ({"size": 46}, 46),
    "live": ({"widths": (4, 8, 8, 8), "blocks": (1, 1, 1), "refine": 1}, 32),
    "live-dense": ({}, 32),
    "mobilefacenet": ({"dimensions": 8, "width": 4, "blocks": (1, 1, 1), "size": 32}, 32),
    "mobilefacenet-128": ({"dimensions": 8, "width": 4, "blocks": (1, 1, 1), "size": 32}, 32),
    "patchgan": ({"width": 4}, 32),
    "photo2cartoon": ({"width": 4, "size": 64}, 64),
    "ugatit": ({"width": 4, "blocks": 1, "size": 32}, 32),
}
VARIANTS = {
    "photo2cartoon full": ("photo2cartoon", {"width": 4, "size": 64, "light": False}, 64),
    "photo2cartoon heads": ("photo2cartoon", {"width": 4, "heads": 2, "own": FEW_SHOT_OWN}, 64),
    "ugatit full": ("ugatit", {"width": 4, "blocks": 2, "size": 32, "light": False}, 32),
    "ugatit keypoint": ("ugatit", {"width": 4, "blocks": 1, "keypoint_pads": True}, 26),
    "ugatit heads": ("ugatit", {"width": 4, "blocks": 1, "heads": 2, "own": ("stem", "out")}, 32),
    "ece285": ("cyclegan", {"width": 4, "blocks": 2, "variant": "ece285"}, 32),
    "ece285 patch": ("patchgan", {"width": 4, "variant": "ece285"}, 32),
    "plain discriminator": ("discriminator", {"width": 4}, 32),
    "class map": ("discriminator", {"width": 4, "head": "convolution"}, 32),
    "deep discriminator": ("discriminator", {"width": 2, "layers": 7}, 96),
}
CASES = {**{name: (name, *case) for name, case in TINY.items()}, **VARIANTS}
GROUPS = ("one", "two")
BRANCHED = {"ugatit": ("stem", "up"), "photo2cartoon": FEW_SHOT_OWN, "cyclegan": ("encode", "out")}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny layers only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(case, seed=0, **more):
    """A network and pictures for it; nothing that starts as a constant still is one."""
    name, settings, size = CASES[case]
    torch.manual_seed(seed)
    takes_groups = name in ("live", "live-dense", "ugatit", "photo2cartoon", "cyclegan")
    network = build(name, **({"groups": GROUPS} if takes_groups else {}), **(settings | more))
    for key, parameter in network.named_parameters():
        last = key.rpartition(".")[2]
        if last in ("rho", "w_gamma", "w_beta"):
            parameter.data.uniform_(0.1, 0.9)
        elif last in ("gamma", "beta"):
            parameter.data += torch.randn_like(parameter) * 0.2
        elif last == "weight" and parameter.dim() == 1:
            parameter.data.uniform_(0.5, 1.5)
    coarse = torch.nn.functional.interpolate(torch.randn(2, 3, 5, 5), size=(size, size), mode="bicubic")
    return network, torch.tanh(coarse)


def outputs(network, x, group="one"):
    """Everything that the network gives, as tensors."""
    given = network(x, group) if hasattr(network, "groups") else network(x)
    return [each for each in (given if isinstance(given, tuple) else (given,)) if each is not None]


def test_every_registered_network_is_tested():
    assert set(names()) == set(TINY)


@pytest.mark.parametrize("case", CASES)
def test_outputs_have_their_shapes_and_ranges(case):
    network, x = made(case)
    with torch.no_grad():
        found = network.eval()(x, "one") if hasattr(network, "groups") else network.eval()(x)
        again = network(x, "one") if hasattr(network, "groups") else network(x)
    for one, two in zip(*([each for each in y if each is not None] for y in (found, again)), strict=True):
        assert torch.isfinite(one).all()
        assert torch.equal(one, two)
    if isinstance(found, Drawing):
        assert found.image.shape == x.shape and found.image.abs().max() <= 1
        if found.cam is not None:
            heads = network.settings["heads"]
            assert found.cam.shape == ((2, 2) if heads == 1 else (2, 2, heads))
            assert found.heatmap.shape[:2] == (2, 1)
    elif isinstance(found, Verdict):
        assert found.logit.shape[:2] == (2, 1)
        assert found.groups is None or found.groups.shape == (2, network.settings["groups"])


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_that_takes_part_gets_a_gradient(case):
    network, x = made(case)
    network.train()
    groups = getattr(network, "groups", ("one",))
    total = sum((each * torch.randn_like(each)).sum() for group in groups for each in outputs(network, x, group))
    total.backward()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            assert ".ConvBlock4." in name  # published, and without any part in the picture
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    moved = [p.grad.abs().max().item() > 0 for p in network.parameters() if p.requires_grad]
    assert sum(moved) > 0.9 * len(moved)  # a ReLU may stand still for a whole tiny layer


@pytest.mark.parametrize("case", ["ugatit heads", "photo2cartoon heads", "cyclegan", "live"])
def test_a_picture_of_a_joint_batch_is_drawn_as_alone(case):
    network, x = made(case, **({} if case in VARIANTS or case == "live" else {"own": ("encode",)}))
    network.eval()
    with torch.no_grad():
        if case == "live":
            both = torch.cat([network(x[:1], "one"), network(x[1:], "two")])
            alone = torch.cat([network(x, "one")[:1], network(x, "two")[1:]])
        else:
            both = network(x, GROUPS).image
            alone = torch.cat([network(x[i : i + 1], group).image for i, group in enumerate(GROUPS)])
    assert (both - alone).abs().max() < 1e-4


@pytest.mark.parametrize("name", BRANCHED)
def test_a_groups_own_parts_change_its_pictures_alone(name):
    network, x = made(name, own=BRANCHED[name])
    network.eval()
    with torch.no_grad():
        before = network(x, GROUPS).image
        for parameter in network.branches["two"].parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        after = network(x, GROUPS).image
    assert torch.equal(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-3
    network.copy_branches("one")
    with torch.no_grad():
        assert torch.equal(network(x[1:], "one").image, network(x[1:], "two").image)


@pytest.mark.parametrize("name", BRANCHED)
def test_constant_parts_pass_the_gradient_on_and_take_none(name):
    own = BRANCHED[name]
    network, x = made(name, own=own)
    network.train()
    shared = [part for part in network.parts if part not in own]
    drawn = network(x, GROUPS, constant=shared)
    assert torch.equal(drawn.image, network(x, GROUPS).image)
    drawn.image.square().sum().backward()
    assert all(parameter.grad is None for parameter in network.trunk.parameters())
    for group in GROUPS:
        grads = [p.grad for p in network.branches[group][own[0]].parameters() if p.requires_grad]
        assert any(grad is not None and grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize("name", BRANCHED)
def test_recomputed_activations_give_the_same_gradients(name):
    found = []
    for checkpointing in (False, True):
        network, x = made(name, own=BRANCHED[name])
        network.train().checkpointing = checkpointing
        network(x, GROUPS, constant=[network.parts[-2]]).image.square().sum().backward()
        found.append({key: parameter.grad for key, parameter in network.named_parameters()})
    for key, grad in found[0].items():
        assert (grad is None) == (found[1][key] is None), key
        assert grad is None or torch.equal(grad, found[1][key]), key


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_stays_close_to_float32(case):
    network, x = made(case)
    network.eval()
    with torch.no_grad():
        exact = outputs(network, x)
        with torch.autocast("cpu", torch.bfloat16):
            short = outputs(network, x)
    for one, two in zip(exact, short, strict=True):
        # A rounding is 2^-9, dozens of layers stand behind one another, and an instance norm lifts what is faint.
        assert (one - two.float()).norm() < (0.3 if "photo2cartoon" in case else 0.15) * one.norm()


def test_unknown_groups_and_parts_are_named():
    network, x = made("ugatit")
    with pytest.raises(ValueError, match="2 pictures, but 1 groups"):
        network(x, ["one"])
    with pytest.raises(ValueError, match="own=middle: expected parts of stem, down"):
        build("ugatit", groups=["one"], own=["middle"])


def test_only_the_picture_is_drawn_on_white_where_there_is_alpha():
    live, x = made("live")
    rgba = live.eval()(x, "one")
    assert torch.allclose(draw(live, x, "one"), rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:]), atol=1e-6)
    ugatit, x = made("ugatit")
    assert torch.equal(draw(ugatit, x, "one"), ugatit(x, "one").image)


# Normalization.


def plain(x, rho):
    """The definition, in float64: unbiased variances, eps inside the root."""
    x, rho = x.double(), rho.double()

    def normalized(dims):
        count = x[0].numel() if 1 in dims else x[0, 0].numel()
        centred = x - x.mean(dim=dims, keepdim=True)
        variance = centred.square().sum(dim=dims, keepdim=True) / (count - 1)
        return centred / torch.sqrt(variance + 1e-5)

    return rho * normalized((2, 3)) + (1 - rho) * normalized((1, 2, 3))


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("side", [2, 3, 16])
def test_adaptive_norm_is_its_definition(side, learning):
    x = torch.randn(2, 6, side, side) * torch.rand(2, 6, 1, 1) + torch.randn(2, 6, 1, 1)
    norm = layers.AdaLIN(6)
    norm.rho.data.uniform_(0, 1)
    gamma, beta = torch.randn(2, 6), torch.randn(2, 6)
    with torch.set_grad_enabled(learning):
        found = norm(x, gamma, beta)
    expected = plain(x, norm.rho) * gamma[:, :, None, None] + beta[:, :, None, None]
    assert (found - expected).abs().max() < 2e-5
    biased = (expected - beta[:, :, None, None]) * (side * side / (side * side - 1)) ** 0.5 + beta[:, :, None, None]
    assert (found - biased).abs().max() > 1e-3  # so biased variances would show


@pytest.mark.parametrize("learning", [True, False])
def test_instance_norm_is_its_definition(learning):
    x = torch.randn(2, 5, 7, 9) * 3 + 2
    with torch.set_grad_enabled(learning):
        found = layers.InstanceNorm()(x)
    mean, variance = x.double().mean((2, 3), keepdim=True), x.double().var((2, 3), keepdim=True, correction=0)
    assert (found - (x - mean) / torch.sqrt(variance + 1e-5)).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["AdaLIN", "LIN", "InstanceNorm"])
def test_statistics_are_taken_in_float32(kind, dtype):
    """Sums over large values overflow float16 and lose every digit in bfloat16."""
    x = (torch.randn(2, 4, 64, 64) * 8 + torch.tensor([1000.0, -500.0, 100.0, 0.0])[:, None, None]).to(dtype)
    norm = getattr(layers, kind)(*(() if kind == "InstanceNorm" else (4,)))
    rho = torch.ones(1, 4, 1, 1)
    for parameter in norm.parameters():
        if parameter.shape == rho.shape:
            parameter.data.uniform_(0, 1)
    gamma, beta = (norm.gamma, norm.beta) if kind == "LIN" else (torch.ones(2, 4), torch.zeros(2, 4))
    found = norm(x, gamma, beta) if kind == "AdaLIN" else norm(x)
    expected = plain(x, rho if kind == "InstanceNorm" else norm.rho)
    if kind == "LIN":
        expected = expected * gamma + beta
    assert found.dtype == dtype
    step = torch.finfo(dtype).eps
    assert (found.double() - expected).abs().max() < 2e-3 + 2 * step * expected.abs().max()


@pytest.mark.parametrize("name", ["ugatit", "photo2cartoon"])
def test_mixing_weights_are_held_in_their_range(name):
    network, _ = made(name)
    mixing = {k: p for k, p in network.named_parameters() if k.rpartition(".")[2] in ("rho", "w_gamma", "w_beta")}
    others = {key: p.clone() for key, p in network.named_parameters() if key not in mixing}
    for parameter in mixing.values():
        parameter.data.uniform_(-1, 2)
    layers.clamp(network)
    for parameter in mixing.values():
        assert parameter.min() >= 0 and parameter.max() <= 1
    assert len(mixing) > 2
    assert all(torch.equal(value, dict(network.named_parameters())[key]) for key, value in others.items())


@pytest.mark.parametrize("head", ["none", "linear", "convolution"])
def test_spectral_norms_advance_while_training_alone(head):
    network, x = made("plain discriminator", head=head)

    def vectors():
        return {key: value.clone() for key, value in network.state_dict().items() if key.endswith("weight_u")}

    before = vectors()
    network.eval()(x)
    assert all(torch.equal(value, before[key]) for key, value in vectors().items())
    network.train()(x)
    assert any(not torch.equal(value, before[key]) for key, value in vectors().items())


# Export.


class Image(torch.nn.Module):
    """A generator's picture for one group, as a graph draws it."""

    def __init__(self, generator: Branched, group: str):
        super().__init__()
        self.generator, self.group = generator, group

    def forward(self, crop):
        return self.generator(crop, self.group).image


@pytest.mark.parametrize("name", ["ugatit", "photo2cartoon"])
def test_exported_statistics_stay_instance_and_layer_norms(name):
    """GroupNormalization with one group is silently computed per channel by TensorRT."""
    network, x = made(name)
    for part in ("hourglass1", "hourglass2", "hourglass3"):  # made as the fourth: one is enough, and soon exported
        if part in network.trunk:
            network.trunk[part] = torch.nn.Identity()
    image = Image(network.eval(), "one").eval()
    for logger in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.onnx.export(
            image, (x[:1],), dynamo=True, opset_version=18, verbose=False, optimize=False
        ).model_proto
    kinds = {node.op_type for node in model.graph.node}
    for function in model.functions:
        kinds |= {node.op_type for node in function.node}
    assert {"InstanceNormalization", "LayerNormalization"} <= kinds
    assert "GroupNormalization" not in kinds
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    drawn = session.run(None, {session.get_inputs()[0].name: x[:1].numpy()})[0]
    with torch.no_grad():
        assert np.abs(drawn - image(x[:1]).numpy()).max() < 1e-4
