"""How large the numbers get that enter each quantized convolution, measured on real crops.

largest      the largest magnitude over all crops (min-max)
percentile   99.99 % of a crop's magnitudes lie below it, averaged over crops
entropy      the range whose 128 levels tell most of the distribution: least Kullback-Leibler divergence over a
             histogram of 2048 bins (Migacz, 8-bit inference with TensorRT, GTC 2017)
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper

PERCENT = 99.99  # of a crop's values; beyond it lie a few pixels that would cost all others resolution
BINS, LEVELS = 2048, 128
FEWEST_BINS, BIN_STEP = 128, 16

Watched = Callable[[], Iterator[dict[str, np.ndarray]]]


def activation_ranges(
    model: ModelProto, tensors: Collection[str], crops: Sequence[np.ndarray], batch: int = 1, method: str = "percentile"
) -> dict[str, float]:
    """Each of `tensors` -> range r, so that [-r, r] holds its values or nearly all of them.

    tensors: see calib.quantize.sources. crops: (3, S, S) float32 in [-1, 1] each. batch: how many `model` takes.
    method: one of RULES. The picture itself has the range 1.
    """
    picture = model.graph.input[0].name
    names = sorted(set(tensors) - {picture})
    watch = _watch(model, names, crops, batch)

    def magnitudes() -> Iterator[dict[str, np.ndarray]]:
        return ({name: np.abs(value).ravel() for name, value in values.items()} for values in watch())

    return {picture: 1.0, **RULES[method](magnitudes, names)}


def _watch(model: ModelProto, names: Sequence[str], crops: Sequence[np.ndarray], batch: int) -> Watched:
    """A function that runs `model` on each crop and gives the values of the tensors `names`, each (1, ...)."""
    picture = model.graph.input[0].name
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])

    def run() -> Iterator[dict[str, np.ndarray]]:
        for crop in crops:
            values = session.run(names, {picture: crop[None].repeat(batch, axis=0)}) if names else []
            yield {name: value[:1] for name, value in zip(names, values, strict=True)}

    return run


def _largest(seen: Watched, names: Sequence[str]) -> dict[str, float]:
    found = dict.fromkeys(names, 0.0)
    for values in seen():
        for name, value in values.items():
            found[name] = max(found[name], float(value.max()))
    return found


def _percentile(seen: Watched, names: Sequence[str]) -> dict[str, float]:
    found = [{name: np.percentile(value, PERCENT) for name, value in values.items()} for values in seen()]
    return {name: float(np.mean([each[name] for each in found])) for name in names}


def _entropy(seen: Watched, names: Sequence[str]) -> dict[str, float]:
    largest = _largest(seen, names)
    counts = {name: np.zeros(BINS) for name in names}
    for values in seen():
        for name, value in values.items():
            counts[name] += np.histogram(value, BINS, (0, max(largest[name], 1e-12)))[0]
    return {name: largest[name] * _telling_bins(counts[name]) / BINS for name in names}


def _telling_bins(counts: np.ndarray) -> int:
    """How many of the histogram's bins to keep, so that LEVELS equal steps over them tell most of what it told."""
    counts = counts.copy()
    counts[0] = counts[1]  # exact zeros of a ReLU are told exactly by any range
    divergence = {}
    for kept in range(FEWEST_BINS, BINS + 1, BIN_STEP):
        true = counts[:kept].copy()
        true[-1] += counts[kept:].sum()
        level = np.arange(kept) * LEVELS // kept
        filled = counts[:kept] > 0
        total = np.bincount(level, counts[:kept], LEVELS)
        share = np.bincount(level, filled, LEVELS)
        coarse = np.where(filled, (total / np.maximum(share, 1))[level], 0)
        divergence[kept] = _kullback_leibler(true, coarse)
    return min(divergence, key=divergence.__getitem__)


def _kullback_leibler(true: np.ndarray, told: np.ndarray) -> float:
    true, told = true / max(true.sum(), 1), told / max(told.sum(), 1)
    both = true > 0
    return float(np.sum(true[both] * np.log(true[both] / np.maximum(told[both], 1e-12))))


# The first is the default: on the live generator 2 dB better on the worst crop than the largest value
RULES = {"percentile": _percentile, "largest": _largest, "entropy": _entropy}
