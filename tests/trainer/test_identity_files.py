"""Files of face-ID networks: every way in, broken ones and strangers, and recorded numbers of our own making."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional

from livetoon.errors import ModelError
from trainer.identity_files import check_reference, load_face_id, save_face_id
from trainer.networks import build

SHARED = Path(__file__).parents[3] / "shared"
TINY = {"dimensions": 6, "width": 4, "blocks": (1, 2, 1), "size": 32}
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared folder beside the repository")


@pytest.fixture(autouse=True)
def one_thread():
    """Maps of a few pixels are computed sooner by one thread than handed out to several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lively(name: str, **settings):
    """A network whose normalization and slopes are not those it starts with, so that a mixed-up tensor shows."""
    torch.manual_seed(2)
    made = build(name, **{**TINY, **settings}).eval()
    with torch.no_grad():
        for key, value in made.state_dict().items():
            if value.ndim == 1:
                value.copy_(torch.rand(len(value)) + (0.5 if key.endswith(("var", "bn.weight", "1.weight")) else -0.5))
    return made


@pytest.fixture(scope="module")
def public():
    return lively("mobilefacenet")


@pytest.fixture(scope="module")
def public_128():
    return lively("mobilefacenet-128")


@pytest.fixture(scope="module")
def exported(public_128, tmp_path_factory):
    """The 128-d as an ONNX file, normalization folded in."""
    path = tmp_path_factory.mktemp("onnx") / "face.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch prefers its other exporter, which keeps the normalization apart
        torch.onnx.export(public_128, (torch.zeros(1, 3, 32, 32),), str(path), dynamo=False, input_names=["input0"])
    return path


def agree(path, network, crop, difference=0.0):
    loaded = load_face_id(path)
    faces = torch.randn(2, 3, network.size, network.size)
    with torch.inference_mode():
        assert (loaded.network(faces) - network(faces)).abs().max() <= difference
    assert loaded.crop == crop
    assert loaded.network.settings == network.settings
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_a_public_state_dict_is_read_in_both_formats_of_torch(public, public_128, tmp_path):
    for number, zipped in enumerate((True, False)):
        torch.save(public.state_dict(), tmp_path / f"{number}.pth", _use_new_zipfile_serialization=zipped)
        agree(tmp_path / f"{number}.pth", public, "published")
    torch.save(public_128.state_dict(), tmp_path / "128.pt")
    agree(tmp_path / "128.pt", public_128, "livetoon")


def test_safetensors_are_read_with_and_without_the_prefix(public, tmp_path):
    save_file(public.state_dict(), tmp_path / "bare.safetensors")
    agree(tmp_path / "bare.safetensors", public, "published")
    prefixed = {f"weights/{key}": value for key, value in public.state_dict().items()}
    save_file({**prefixed, "input/crop32": torch.zeros(1)}, tmp_path / "recorded.safetensors")
    agree(tmp_path / "recorded.safetensors", public, "published")


def test_half_precision_weights_are_used_in_float32(public, tmp_path):
    halves = {key: value.half() if value.is_floating_point() else value for key, value in public.state_dict().items()}
    save_file(halves, tmp_path / "half.safetensors")
    loaded = load_face_id(tmp_path / "half.safetensors")
    assert all(weight.dtype == torch.float32 for weight in loaded.parameters())
    assert torch.equal(loaded.network.linear.weight, halves["linear.weight"].float())


@pytest.mark.parametrize("crop", ["livetoon", "published"])
def test_our_own_files_keep_their_crop(public, tmp_path, crop):
    save_face_id(tmp_path / "ours.safetensors", public, crop)
    agree(tmp_path / "ours.safetensors", public, crop)


@pytest.mark.parametrize("changed", [{}, {"dimensions": 9, "width": 6, "blocks": (0, 1, 2), "size": 48}])
def test_the_onnx_network_is_read_by_its_structure(changed, public_128, exported, tmp_path):
    network, path = public_128, exported
    if changed:  # fresh normalization: equal tensors, of which the exporter writes one
        network, path = build("mobilefacenet-128", **changed).eval(), tmp_path / "other.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (torch.zeros(1, 3, 48, 48),), str(path), dynamo=False)
    agree(path, network, "livetoon", 1e-4)


class Trap:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_refused_and_not_run(public, tmp_path):
    sprung = tmp_path / "sprung"
    torch.save({**public.state_dict(), "bn.bias": Trap(sprung)}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ModelError, match=f"{name}: holds more than tensors; code in a file is never run") as caught:
            load_face_id(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1
    assert not sprung.exists()


def altered(state, **changes):
    return {**{key: value for key, value in state.items() if key not in changes.get("without", ())}, **changes["to"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"to": {}, "without": ["bn.bias"]}, "bn.bias is missing"),
        ({"to": {"more": torch.zeros(1)}}, "more is extra"),
        ({"to": {"bn.bias": torch.zeros(7)}}, r"bn.bias is \(7,\), expected \(6,\)"),
        ({"to": {"bn.bias": torch.full((6,), torch.nan)}}, "bn.bias holds values that are no numbers"),
        ({"to": {"conv1.conv.weight": torch.tensor(1.0)}}, "its keys are others"),
        ({"to": {"bn.bias": 3}}, "holds more than tensors"),
        ({"to": {}, "without": ["conv1.conv.weight"]}, "its keys are others"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_explained(public, tmp_path, changes, words):
    torch.save(altered(public.state_dict(), **changes), tmp_path / "other.pth")
    with pytest.raises(ModelError, match=words) as caught:
        load_face_id(tmp_path / "other.pth")
    assert len(str(caught.value).splitlines()) == 1


def test_cut_files_and_strangers_are_named(public, exported, tmp_path):
    torch.save(public.state_dict(), tmp_path / "cut.pth")
    torch.save(public.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(public.state_dict(), tmp_path / "cut.safetensors")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes())
    for name in ("cut.pth", "old.pth", "cut.safetensors", "cut.onnx"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "notes.pt").write_text("epoch 3, learning rate 0.1\n")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    save_file(public.state_dict(), tmp_path / "crop.safetensors", {"crop": "nose"})
    (tmp_path / "face.bin").write_bytes(b"x")
    for name, words in [
        ("cut.pth", "not a PyTorch checkpoint, or cut short"),
        ("old.pth", "not a PyTorch checkpoint, or cut short"),
        ("notes.pt", "not a PyTorch checkpoint at all; expected a file that torch.save wrote"),
        ("cut.safetensors", "not a safetensors file"),
        ("cut.onnx", "not an ONNX network that can be read"),
        ("empty.pt", "not a PyTorch checkpoint, or cut short"),
        ("list.pt", "holds a list; expected the bare state_dict"),
        ("a.safetensors", "its keys are others"),
        ("crop.safetensors", "face crop 'nose'"),
        ("face.bin", "expected .pth, .pt, .safetensors or .onnx"),
        ("none.pth", "no such file"),
        (".", "no such file"),
    ]:
        with pytest.raises(ModelError, match=words) as caught:
            load_face_id(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1


def test_an_onnx_graph_of_other_work_is_refused(exported, tmp_path):
    model = onnx.load(exported)
    highest = {node.input[2] for node in model.graph.node if node.op_type == "Clip"}
    for node in model.graph.node:  # the same convolutions, but held at 0.5 instead of at 6
        if node.op_type == "Constant" and node.output[0] in highest:
            node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.array(0.5, np.float32)))
    for each in model.graph.initializer:
        if each.name in highest:
            each.CopyFrom(onnx.numpy_helper.from_array(np.array(0.5, np.float32), each.name))
    onnx.save(model, tmp_path / "held.onnx")
    with pytest.raises(ModelError, match="it computes something else"):
        load_face_id(tmp_path / "held.onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        *([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])] for name in "xy"),
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8),
        tmp_path / "one.onnx",
    )
    with pytest.raises(ModelError, match="not the 128-d MobileFaceNet"):
        load_face_id(tmp_path / "one.onnx")


def recorded(network, side=50):
    """What a file of recorded numbers holds, computed here without trainer.identity."""
    top, bottom = int(side / 2.1 * (0.8 - 0.33)), int(side - side / 2.1 * 0.3)
    left = int(side / 2 - (bottom - top) / 2)
    tensors = {f"weights/{key}": value for key, value in network.state_dict().items()}
    with torch.inference_mode():
        tensors["input/crop32"] = torch.randn(2, 3, 32, 32)
        tensors["output/embedding"] = functional.normalize(network(tensors["input/crop32"]))
        for letter in "ab":
            head = tensors[f"input/{letter}{side}"] = torch.randn(1, 3, side, side)
            box = head[:, :, top:bottom, left : left + bottom - top]
            face = functional.interpolate(box, (32, 32), mode="bilinear", align_corners=True)
            tensors[f"output/features_{letter}{side}"] = functional.normalize(network(face))
        cosine = functional.cosine_similarity(tensors[f"output/features_a{side}"], tensors[f"output/features_b{side}"])
        tensors[f"output/cosine_distance{side}"] = 1 - cosine
    return {key: value.clone() for key, value in tensors.items()}


def test_recorded_numbers_are_compared_one_by_one(public):
    tensors = recorded(public)
    compared = check_reference(tensors, {"network": "MobileFaceNet"})
    outputs = ["output/cosine_distance50", "output/embedding", "output/features_a50", "output/features_b50"]
    assert [name for name, _, _ in compared] == outputs
    assert all(difference <= tolerance for _, difference, tolerance in compared)
    tensors["weights/conv_4.model.1.project.bn.bias"] += 0.1
    assert all(difference > tolerance for _, difference, tolerance in check_reference(tensors, {})[1:])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("output/other", "output/other: neither loaded nor compared"),
        ("input/c50", "input/c50: neither loaded nor compared"),
        ("output/features_a64", "output/features_a64: neither loaded nor compared"),
        ("weights/more", "weights/more|more is extra"),
        ("input/crop48", r"input/crop48 is \(1, 3, 48, 48\), expected 32 px faces"),
    ],
)
def test_leftovers_of_recorded_numbers_fail(public, key, words):
    with pytest.raises(ModelError, match=words):
        check_reference({**recorded(public), key: torch.zeros(1, 3, 48, 48)}, {})


def test_a_file_without_outputs_is_no_check(public):
    tensors = {key: value for key, value in recorded(public).items() if key.startswith("weights/")}
    with pytest.raises(ModelError, match="no output to compare"):
        check_reference(tensors, {})


@needs_shared
def test_the_reference_numbers_are_met():
    path = SHARED / "reference" / "mobilefacenet_512.safetensors"
    with safe_open(path, "pt") as file:
        compared = check_reference(load_file(path), file.metadata())
    assert len(compared) == 4
    assert all(difference <= tolerance for _, difference, tolerance in compared)


@needs_shared
def test_the_published_128_is_the_same_from_both_of_its_files():
    """Reading the ONNX file already compares it with onnxruntime, to 1e-4."""
    folded = load_face_id(SHARED / "models" / "mobilefacenet_128d.onnx")
    whole = load_face_id(SHARED / "models" / "mobilefacenet_128d_state_dict.pt")
    heads = torch.rand(2, 3, 256, 256) * 2 - 1
    assert (folded(heads) - whole(heads)).abs().max() < 1e-5
