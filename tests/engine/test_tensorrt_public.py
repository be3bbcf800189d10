"""The published photo2cartoon light network at full size, built by the real TensorRT for RTX for cards it names."""

from pathlib import Path

import pytest
from onnx import ModelProto

from calib.half import half_precision
from calib.quantize import int8_convolutions, sources
from engine import manifest
from engine.cache import Cache
from engine.export import export
from engine.graphs import read_graph, with_pictures
from engine.tensorrt_engines import build_ahead
from engine.tensorrt_plans import build_plan

pytest.importorskip("tensorrt_rtx")

RTX_30_40_50 = ("sm86", "sm89", "sm120")
WEIGHTS = 3.8e6  # of the network


@pytest.fixture(scope="module")
def light(make_generator, tmp_path_factory) -> Path:
    """With random weights; exporting takes a minute."""
    folder = tmp_path_factory.mktemp("public") / "light"
    generator = make_generator("photo2cartoon", groups=["young-women"])
    export(generator, folder, size=256, report=lambda line: None)
    return folder


@pytest.mark.parametrize(
    ("precision", "targets", "times"), [("fp16", RTX_30_40_50, 2), ("fp32", RTX_30_40_50, 1), ("fp16", ("sm75",), 1)]
)
def test_photo2cartoon_light_is_built(light, tmp_path, precision, targets, times):
    files = manifest.open_files(light)
    caches = [Cache(tmp_path / str(index)) for index in range(times)]
    plans = [cache.load(*build_ahead(files, precision, targets, (1,), cache)) for cache in caches]
    assert len(plans[0]) > WEIGHTS * {"fp16": 2, "fp32": 4}[precision]
    assert len(set(plans)) == 1


def test_photo2cartoon_light_is_built_with_int8_convolutions(light):
    """Ranges do not matter for what is built, so none are measured."""
    model = read_graph(manifest.open_files(light), "fp32", 1)
    quantized: ModelProto = int8_convolutions(model, dict.fromkeys(sources(model).values(), 4.0))
    assert sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node) > 100
    plan = build_plan(with_pictures(half_precision(quantized)), RTX_30_40_50)
    assert len(plan) > WEIGHTS
