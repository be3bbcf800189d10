"""How large the numbers get that enter each quantized convolution, measured on real crops.

    percentile   99.999 % of a crop's magnitudes lie below it, averaged over crops
    largest      the largest magnitude over all crops (min-max)
    entropy      the range whose 128 levels tell most of the distribution: least Kullback-Leibler divergence over a
                 histogram of 2048 bins (Migacz, 8-bit inference with TensorRT, GTC 2017)

All three come from two runs of the crops: the second one fills histograms, whose ends the first one found.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper

METHODS = ("percentile", "largest", "entropy")
# Of a crop's values; beyond it lie a few pixels that would cost all others resolution. On crops of all poses and lights
# 99.99 gave 43.2 dB (worst crop 38.0), 99.999 45.6 (41.9), the largest value 44.0 (42.0)
PERCENT = 99.999
SAMPLED = 1 << 18  # values of a tensor that percentiles and histograms are taken from; maxima see all
BINS, LEVELS = 2048, 128
FEWEST_BINS, BIN_STEP = 128, 16

Ranges = dict[str, float]  # tensor -> r, so that [-r, r] holds its values or nearly all of them


def activation_ranges(
    model: ModelProto, tensors: Collection[str], crops: Sequence[np.ndarray], batch: int = 1
) -> dict[str, Ranges]:
    """Method -> ranges of `tensors` (see calib.quantize.sources); the picture itself has the range 1.

    crops: (3, S, S) float32 in [-1, 1] each. batch: how many `model` takes.
    """
    picture = model.graph.input[0].name
    names = sorted(set(tensors) - {picture})
    if not names:
        return {method: {picture: 1.0} for method in METHODS}
    session = _watching(model, names)
    largest, percentiles = dict.fromkeys(names, 0.0), []
    for values in _magnitudes(session, names, picture, crops, batch):
        largest = {name: max(largest[name], float(value.max())) for name, value in values.items()}
        percentiles.append({name: nearly_largest(value) for name, value in values.items()})
    counts = {name: np.zeros(BINS) for name in names}
    for values in _magnitudes(session, names, picture, crops, batch):
        for name, value in values.items():
            counts[name] += _histogram(_sample(value), largest[name])
    found = {
        "percentile": {name: float(np.mean([each[name] for each in percentiles])) for name in names},
        "largest": largest,
        "entropy": {name: largest[name] * _telling_bins(counts[name]) / BINS for name in names},
    }
    return {method: {picture: 1.0, **found[method]} for method in METHODS}


def _watching(model: ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session of `model` that tells the tensors `names` too."""
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])


def _magnitudes(
    session: onnxruntime.InferenceSession, names: Sequence[str], picture: str, crops: Sequence[np.ndarray], batch: int
) -> Iterator[dict[str, np.ndarray]]:
    """Absolute values of every tensor, flat, crop by crop."""
    for crop in crops:
        values = session.run(names, {picture: crop[None].repeat(batch, axis=0)})
        yield {name: np.abs(value[:1]).ravel() for name, value in zip(names, values, strict=True)}


def nearly_largest(magnitudes: np.ndarray) -> float:
    """PERCENT of one crop's magnitudes, flat, lie at or below it."""
    return float(np.percentile(_sample(magnitudes), PERCENT))


def _sample(values: np.ndarray) -> np.ndarray:
    """Every k-th value; k is odd, so that it does not walk along one column of a map."""
    return values[:: max(1, len(values) // SAMPLED) | 1]


def _histogram(values: np.ndarray, largest: float) -> np.ndarray:
    bins = np.minimum(values * (BINS / max(largest, 1e-12)), BINS - 1).astype(np.int32)
    return np.bincount(bins, minlength=BINS)


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
