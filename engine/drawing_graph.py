"""A group's graph of the translation networks (U-GAT-IT, photo2cartoon, CycleGAN), which draw without an alpha.

A thousand operations take a minute to trace, so they are traced once, with the weights as inputs, and every group's
own weights are filled in; the trace is kept on disk for the next checkpoint of the same network. What only training
reads (CAM logits, heat map) is not in it. Alpha is 1 everywhere: the paste softens the border.

Normalization stays InstanceNormalization and LayerNormalization over C, H, W: engines compute a GroupNormalization
of one group for each channel on its own (NVIDIA/TensorRT issue 4756), so none may be in a graph.
"""

import hashlib
import zlib
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn
from torch.func import functional_call

import trainer.networks
from engine import rewrite
from engine.cache import Cache
from engine.fold import folded
from engine.trace import OPSET, operations, traced
from livetoon.errors import ModelError
from trainer.networks.branches import Branched

HEADS = ("gap_fc.", "gmp_fc.")  # of a CAM: a row for each group, where a network tells groups apart there
OWN = ("drawing_graph", "fold", "rewrite", "trace")  # files that decide a trace, beside the networks
OPERATIONS = "operations"  # of the network before it was folded, kept with its trace
ALONE = "person"  # the one group of a network that is traced


class DrawingGraphs:
    """Makes the graph of each group of `generator`, traced for `size` and `batch` (None: any number).

    cache: where traces are kept.
    """

    has_alpha = False
    half_weights = False  # norms over a few pixels magnify their rounding: 48.7 dB seen in a small photo2cartoon

    def __init__(self, generator: Branched, size: int, batch: int | None, cache: Cache):
        self._generator, self._size, self.batch = generator, size, batch
        self._trace = self._cached(cache)
        self.operations = int(next(each.value for each in self._trace.metadata_props if each.key == OPERATIONS))

    def graph(self, group: str, title: str) -> ModelProto:
        """One group's graph in float32, with its weights by their names in `folded(alone(...))`."""
        weights = folded(alone(self._generator, group)).state_dict()
        model = ModelProto()
        model.CopyFrom(self._trace)
        read = {tensor for node in model.graph.node for tensor in node.input}
        model.graph.initializer.extend(
            numpy_helper.from_array(value.numpy(), name) for name, value in weights.items() if name in read
        )
        crop = model.graph.input[0]
        del model.graph.input[:]
        model.graph.input.append(crop)
        rewrite.fold_constants(model)
        return rewrite.clean(model, title)

    def _cached(self, cache: Cache) -> ModelProto:
        network = alone(self._generator, self._generator.groups[0])
        fields = {
            "network": network.network_name,
            "settings": network.settings,
            "shape": [self.batch, 3, self._size, self._size],
            "torch": torch.__version__,
            "opset": OPSET,
            "code": _code(),
        }
        slot = f"trace-{network.network_name}-{self._size}"
        if stored := cache.load(slot, fields):
            return onnx.load_model_from_string(zlib.decompress(stored))
        crop = torch.zeros(1, 3, self._size, self._size)
        before = operations(network, [crop, ALONE])
        made = _trace(folded(network), self._size, self.batch)
        made.metadata_props.add(key=OPERATIONS, value=str(before))
        cache.store(slot, fields, zlib.compress(made.SerializeToString(deterministic=True), 1))
        return made


def alone(generator: Branched, group: str) -> Branched:
    """A network that knows `group` only: no branches, one row in each CAM head. Its weights are copies."""
    settings = {**generator.settings, "groups": [ALONE], "own": []}
    if "heads" in settings:
        settings["heads"] = 1
    made = trainer.networks.build(generator.network_name, **settings)
    row = generator.groups.index(group)
    for part, module in made.trunk.items():
        state = (generator.branches[group] if part in generator.own else generator.trunk)[part].state_dict()
        if generator.settings.get("heads", 1) > 1:
            state = {name: value[row : row + 1] if name.startswith(HEADS) else value for name, value in state.items()}
        module.load_state_dict(state)
    return made.float().eval().requires_grad_(False)


class _Weightless(nn.Module):
    """A network of one group as a function of the crop and all weights; red, green, blue and alpha in [0, 1]."""

    def __init__(self, network: Branched, names: list[str]):
        super().__init__()
        self.network, self.names = network, names

    def forward(self, crop: Tensor, weights: list[Tensor]) -> Tensor:
        image = functional_call(self.network, dict(zip(self.names, weights, strict=True)), (crop, ALONE)).image
        return F.pad((image + 1) / 2, (0, 0, 0, 0, 0, 1), value=1.0)


def _trace(network: Branched, size: int, batch: int | None) -> ModelProto:
    weights = network.state_dict()
    crops = torch.zeros(batch or 2, 3, size, size)
    model = traced(_Weightless(network, list(weights)), [crops, *weights.values()], ["crop", *weights], batch)
    if any(node.op_type == "GroupNormalization" for node in model.graph.node):
        raise ModelError(
            f"network {network.network_name}: its export holds a GroupNormalization, which engines compute wrongly; "
            "write the layer as instance_norm or layer_norm"
        )
    return model


def _code() -> str:
    """Hash of what decides a trace: the networks and how we export them."""
    folder = Path(trainer.networks.__file__).parent
    files = [*sorted(folder.glob("*.py")), *(Path(__file__).with_name(f"{name}.py") for name in OWN)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
