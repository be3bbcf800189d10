"""Several graphs, one file of weights: what the groups of a model share is stored once."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

ALIGNMENT = 64  # bytes; a cache line, so that a mapped tensor can be read in place


def halve_weights(model: ModelProto) -> ModelProto:
    """Store weights (not biases) as float16 with a Cast to float32 behind each, in place; returns `model`.

    Runtimes fold the Cast when they open the graph: half the file, the arithmetic stays float32.
    """
    casts = []
    for stored in model.graph.initializer:
        values = numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.ndim < 2:
            continue
        name, half = stored.name, f"{stored.name}.half"
        stored.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def write(models: Mapping[str, ModelProto], folder: Path, weights: str) -> None:
    """Write each model to `folder/<key>`, all their constants into `folder/<weights>`, equal ones once.

    The same models give the same bytes. What decides shapes stays in the graph: runtimes read it before the weights.
    """
    places: dict[str, tuple[int, int]] = {}
    with open(folder / weights, "wb") as file:
        for model in models.values():
            for stored in _weights(model):
                content = numpy_helper.to_array(stored).tobytes()
                digest = hashlib.sha256(content).hexdigest()
                if digest not in places:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    places[digest] = file.tell(), len(content)
                    file.write(content)
    for name, model in models.items():
        graph = ModelProto()
        graph.CopyFrom(model)
        for stored in _weights(graph):
            offset, length = places[hashlib.sha256(numpy_helper.to_array(stored).tobytes()).hexdigest()]
            stored.ClearField("raw_data")
            stored.data_location = TensorProto.EXTERNAL
            del stored.external_data[:]
            for key, value in (("location", weights), ("offset", offset), ("length", length)):
                stored.external_data.add(key=key, value=str(value))
        (folder / name).write_bytes(graph.SerializeToString(deterministic=True))


def _weights(model: ModelProto) -> list[TensorProto]:
    """Constants that no shape depends on: neither whole numbers of 64 bits nor the factors of a Resize."""
    shaping = {tensor for node in model.graph.node if node.op_type == "Resize" for tensor in node.input}
    return [
        stored
        for stored in model.graph.initializer
        if stored.data_type != TensorProto.INT64 and stored.name not in shaping
    ]
