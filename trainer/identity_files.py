"""Face-ID networks as files: photo2cartoon's and foamliu's published ones, and those that faceid trains."""

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from livetoon.errors import ModelError
from livetoon.files import replacing
from trainer import torch_files
from trainer.identity import FaceIdentity
from trainer.losses import face_distance
from trainer.networks.mobilefacenet import MobileFaceNet, MobileFaceNet128

PUBLIC_STAGES = ("conv_3", "conv_4", "conv_5")
TOLERANCE = 2e-6  # absolute, of unit vectors: float32 summed in another order
STRIDE = 16  # px of a face for each pixel of the last map


def load_face_id(path: Path | str) -> FaceIdentity:
    """A face-ID network from a file, frozen.

    .pth, .pt       a bare state_dict with the public keys, 512 or 128 numbers (no code in it is ever run)
    .safetensors    the same keys, with or without `weights/` before them; files of `python -m trainer.faceid train`
    .onnx           the 128-number network with normalization folded in

    ModelError, one sentence, for every other file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a face-ID network (.pth, .pt, .safetensors or .onnx)")
    readers = {".pth": _read_torch, ".pt": _read_torch, ".safetensors": _read_safetensors, ".onnx": _read_onnx}
    if path.suffix.lower() not in readers:
        raise ModelError(f"{path}: not a face-ID network; expected .pth, .pt, .safetensors or .onnx")
    network, crop = readers[path.suffix.lower()](path)
    return FaceIdentity(network, crop or ("livetoon" if isinstance(network, MobileFaceNet128) else "published"))


def save_face_id(path: Path, network: MobileFaceNet, crop: str) -> None:
    """Write a network as load_face_id reads it, whole or not at all; ModelError when the disk refuses."""
    metadata = {"network": network.network_name, "settings": json.dumps(network.settings), "crop": crop}
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be saved, what was saved before is kept ({error})") from None


def network_of(tensors: dict[str, Tensor], name: str) -> MobileFaceNet | MobileFaceNet128:
    """The network whose public keys `tensors` holds, all of them and no others; widths and depths follow from the
    shapes. ModelError begins with `name`."""
    if not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ModelError(f"{name}: holds more than tensors; expected the bare state_dict of a MobileFaceNet")
    try:
        with torch.device("meta"):  # nothing is allocated before every shape is known to fit
            network = _described(tensors)
    except (KeyError, IndexError):
        raise ModelError(f"{name}: not a MobileFaceNet, 512-d or 128-d: its keys are others") from None
    expected = {key: value.shape for key, value in network.state_dict().items()}
    for key in sorted(expected.keys() | tensors.keys()):
        if key not in tensors or key not in expected:
            raise ModelError(f"{name}: not a whole MobileFaceNet, {key} is {'missing' if key in expected else 'extra'}")
        if expected[key] != tensors[key].shape:
            raise ModelError(
                f"{name}: not a MobileFaceNet, {key} is {tuple(tensors[key].shape)}, expected {tuple(expected[key])}"
            )
        if not torch.isfinite(tensors[key]).all():
            raise ModelError(f"{name}: {key} holds values that are no numbers; the file is broken")
    # Copied, because a mapped file could change under a run.
    whole = {
        key: value.to(torch.int64 if key.endswith("num_batches_tracked") else torch.float32, copy=True)
        for key, value in tensors.items()
    }
    network.load_state_dict(whole, assign=True)
    return network


def _described(tensors: dict[str, Tensor]) -> MobileFaceNet | MobileFaceNet128:
    if "conv1.conv.weight" in tensors:
        return MobileFaceNet(
            dimensions=tensors["linear.weight"].shape[0],
            width=tensors["conv1.conv.weight"].shape[0],
            blocks=[_count(rf"{stage}\.model\.\d+\.conv\.conv\.weight", tensors) for stage in PUBLIC_STAGES],
            size=tensors["conv_6_dw.conv.weight"].shape[3] * STRIDE,
        )
    bottlenecks = range(_count(r"features\.\d+\.conv\.2\.weight", tensors))
    return _described_128(
        tensors["conv1.0.weight"],
        [tensors[f"features.{index}.conv.2.weight"] for index in bottlenecks],
        tensors["gdconv.depthwise.weight"],
        tensors["conv3.weight"],
    )


def _count(pattern: str, keys: Iterable[str]) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in keys)


def _described_128(first: Tensor, narrow: list[Tensor], whole_map: Tensor, last: Tensor) -> MobileFaceNet128:
    """From the first convolution, the narrow one of every bottleneck, the one over the whole map and the last."""
    width = first.shape[0]
    shapes = [tuple(weight.shape[:2]) for weight in narrow]
    starts = [0, shapes.index((width * 2, width * 4)), shapes.index((width * 2, width * 8)), len(shapes)]
    blocks = [after - start - 1 for start, after in itertools.pairwise(starts)]
    return MobileFaceNet128(last.shape[0], width, blocks, whole_map.shape[3] * STRIDE)


def _read_torch(path: Path) -> tuple[nn.Module, str | None]:
    tensors = torch_files.read(path)
    if not isinstance(tensors, dict):
        raise ModelError(f"{path}: holds a {type(tensors).__name__}; expected the bare state_dict of a MobileFaceNet")
    return network_of(tensors, str(path)), None


def _read_safetensors(path: Path) -> tuple[nn.Module, str | None]:
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a safetensors file that can be read ({error})") from None
    return network_of(_weights(tensors) or tensors, str(path)), metadata.get("crop")


def _weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}


def _read_onnx(path: Path) -> tuple[nn.Module, str | None]:
    """The 128-number network: its convolutions stand in the graph in the order of work, whatever they are called.

    What was read is run beside the file itself, so that a graph of the same convolutions but other work is refused.
    """
    import numpy as np
    import onnx
    import onnxruntime

    try:
        graph = onnx.load(path).graph
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # each library raises classes of its own, one for each cause
        raise ModelError(f"{path}: not an ONNX network that can be read ({type(error).__name__})") from error
    try:
        values = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer}
        for node in graph.node:  # an exporter writes equal tensors once, and Identity for the others
            if node.op_type == "Identity" and node.input[0] in values:
                values[node.output[0]] = values[node.input[0]]
        inputs = [node.input for node in graph.node if node.op_type == "Conv"]
        network = network_of(
            _unfolded([(values[weight], values[bias]) for _, weight, bias in inputs]), str(path)
        ).eval()
        faces = np.random.default_rng(0).normal(size=(1, 3, network.size, network.size)).astype(np.float32)
        expected = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: faces})[0])
        with torch.inference_mode():
            difference = (network(torch.from_numpy(faces)) - expected).abs().max().item()
    except Exception as error:  # any other graph fails in its own way: names, shapes, inputs
        raise ModelError(f"{path}: not the 128-d MobileFaceNet with normalization folded in") from error
    if not difference <= 1e-4 * max(1.0, expected.abs().max().item()):
        raise ModelError(f"{path}: its convolutions are the 128-d MobileFaceNet's, but it computes something else")
    return network, None


def _unfolded(folded: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """(weight, bias) of every convolution in the order of work -> the public keys; normalization changes nothing but
    to add the bias."""
    weights = [weight for weight, _ in folded]
    with torch.device("meta"):
        network = _described_128(weights[0], weights[5:-3:3], weights[-2], weights[-1])
    names = {module: name for name, module in network.named_modules()}
    tensors: dict[str, Tensor] = {}
    for (convolution, norm), (weight, bias) in zip(network.layers(), folded, strict=True):
        tensors[f"{names[convolution]}.weight"] = weight
        if convolution.bias is not None:
            tensors[f"{names[convolution]}.bias"] = torch.zeros_like(bias)
        tensors[f"{names[norm]}.weight"] = torch.ones_like(bias)
        tensors[f"{names[norm]}.bias"] = bias
        tensors[f"{names[norm]}.running_mean"] = torch.zeros_like(bias)
        tensors[f"{names[norm]}.running_var"] = torch.full_like(bias, 1 - norm.eps)
        tensors[f"{names[norm]}.num_batches_tracked"] = torch.tensor(0)
    return tensors


def check_reference(tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[tuple[str, float, float]]:
    """Run our network on a file of recorded numbers: (name, largest difference, tolerance) of every output.

    weights/KEY              the network, under its public keys
    input/crop<S>            faces -> output/embedding
    input/a<S>, input/b<S>   heads -> output/features_a<S>, output/features_b<S>, output/cosine_distance<S>

    ModelError for a tensor that is neither loaded nor compared, and for an output without its input.
    """
    name = metadata.get("network", "reference")
    identity = FaceIdentity(network_of(_weights(tensors), name), "published")
    made: dict[str, Tensor] = {}
    read: set[str] = {key for key in tensors if key.startswith("weights/")}
    with torch.inference_mode():
        for key in sorted(key for key in tensors if re.fullmatch(r"input/(crop|a|b)\d+", key)):
            kind = key.removeprefix("input/")
            if kind.startswith("crop"):
                if tensors[key].shape[1:] != (3, identity.size, identity.size):
                    raise ModelError(f"{name}: {key} is {tuple(tensors[key].shape)}, expected {identity.size} px faces")
                made["output/embedding"] = identity.embed(tensors[key].float())
            else:
                made[f"output/features_{kind}"] = identity(tensors[key].float())
            read.add(key)
        for side in {re.sub(r"\D", "", key) for key in made if key.startswith("output/features_")}:
            pair = [made.get(f"output/features_{letter}{side}") for letter in "ab"]
            if pair[0] is not None and pair[1] is not None:
                made[f"output/cosine_distance{side}"] = face_distance(pair[0], pair[1])
    if leftovers := sorted(tensors.keys() - read - made.keys()):
        raise ModelError(f"{name}: {', '.join(leftovers)}: neither loaded nor compared")
    compared = []
    for key in sorted(made.keys() & tensors.keys()):
        if made[key].shape != tensors[key].shape:
            raise ModelError(f"{name}: {key} is {tuple(tensors[key].shape)}, ours is {tuple(made[key].shape)}")
        compared.append((key, (made[key] - tensors[key].float()).abs().max().item(), TOLERANCE))
    if not compared:
        raise ModelError(f"{name}: no output to compare")
    return compared
