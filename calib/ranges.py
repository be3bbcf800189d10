"""How large the numbers get that enter each convolution, measured on real crops."""

from collections.abc import Iterable

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper

PERCENT = 99.99  # of a crop's values; beyond it lie a few pixels that would cost all others resolution


def activation_ranges(
    model: ModelProto, crops: Iterable[np.ndarray], batch: int = 1, percent: float = PERCENT
) -> dict[str, float]:
    """Name of each tensor that a convolution reads -> range r, so that [-r, r] holds nearly all its values.

    crops: (3, S, S) float32 in [-1, 1] each. batch: how many `model` takes. r: the `percent` of one crop's
    magnitudes, averaged over crops (measured on the live generator: 2 dB better on the worst crop than the largest
    value over all crops).
    """
    picture = model.graph.input[0].name
    names = sorted({node.input[0] for node in model.graph.node if node.op_type == "Conv"} - {picture})
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = [
        [
            np.percentile(np.abs(values), percent)
            for values in session.run(names, {picture: crop[None].repeat(batch, axis=0)})
        ]
        for crop in crops
    ]
    ranges = {name: float(value) for name, value in zip(names, np.mean(seen, axis=0), strict=True)}
    return {picture: 1.0, **ranges}
