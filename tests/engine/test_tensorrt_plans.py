"""Plans built by the real TensorRT for RTX, without a GPU: graphs as users have them, and what is refused."""

import os
import signal
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine import manifest, tensorrt_plans
from engine.cache import Cache
from engine.graphs import read_graph
from engine.tensorrt_engines import build_ahead
from engine.tensorrt_plans import build_plan, check_targets
from livetoon.errors import EngineError, UsageError

pytest.importorskip("tensorrt_rtx")

RTX_30_40_50 = ("sm86", "sm89", "sm120")
GROUPS = manifest.read(manifest.find("live")).groups


def live(precision: str, group: str | None = None, batch: int | None = 1) -> onnx.ModelProto:
    return read_graph(manifest.open_files("live", group), precision, batch, pictures=True)


def one_convolution(activation: np.ndarray, linear: bool = False) -> onnx.ModelProto:
    """crop -> quantizer pair with the zero point `activation` -> Conv, or a matrix product when `linear`."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((8, 8) if linear else (8, 8, 3, 3)).astype(np.float32)
    constants = {"weights": weights, "scale": np.float32(0.02), "zero": activation}
    nodes = (
        [helper.make_node("MatMul", ["crop", "weights"], ["rgba"])]
        if linear
        else [
            helper.make_node("QuantizeLinear", ["crop", "scale", "zero"], ["codes"], name="quantizer"),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["values"]),
            helper.make_node("Conv", ["values", "weights"], ["rgba"], pads=[1] * 4),
        ]
    )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 8, 8] if name == "crop" else None)
        for name in ("crop", "rgba")
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "one", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("precision", "targets"),
    [("fp32", RTX_30_40_50), ("fp16", RTX_30_40_50), ("int8", RTX_30_40_50), ("fp16", ["sm75"])],
)
def test_the_model_that_comes_with_livetoon_is_built_for_all_cards_and_twice_alike(group, precision, targets, tmp_path):
    files = manifest.open_files("live", group)
    plans = []
    for folder in ("first", "second"):
        cache = Cache(tmp_path / folder)
        plans.append(cache.load(*build_ahead(files, precision, targets, (1,), cache)))
    assert len(plans[0]) > sum(value.ByteSize() for value in live(precision, group).graph.initializer) / 4
    assert plans[0] == plans[1]


def test_a_plan_depends_on_graph_targets_and_batches():
    half, free = live("fp16"), live("fp16", batch=None)
    plans = [
        build_plan(half, ["sm86"]),
        build_plan(half, ["sm89"]),
        build_plan(live("fp16", GROUPS[1]), ["sm86"]),
        build_plan(free, ["sm86"]),
        build_plan(free, ["sm86"], (1, 4)),
        build_plan(free, ["sm86"], (4, 1)),
    ]
    assert len(set(plans)) == len(plans)


def test_a_fixed_batch_needs_no_profile():
    model = live("fp16")
    assert build_plan(model, ["sm86"], (1, 4)) == build_plan(model, ["sm86"], (1,))


def test_progress_is_told(monkeypatch):
    lines = []
    build_plan(live("fp16"), ["sm86"], report=lines.append)
    assert lines[0] == "Building engine (0 of 6)"
    monkeypatch.setattr(tensorrt_plans, "REPORT_EVERY_S", 0)
    every = []
    build_plan(live("fp16"), ["sm86"], report=every.append)
    assert len(every) > 100
    assert len(lines) < 10
    assert [line for line in every if line.startswith("Building engine (")][-1] in (
        "Building engine (5 of 6)",
        "Building engine (6 of 6)",
    )


def test_an_error_while_progress_is_told_ends_the_build_and_comes_out(monkeypatch, capfd):
    monkeypatch.setattr(tensorrt_plans, "REPORT_EVERY_S", 0)
    told = []

    def report(line: str) -> None:
        told.append(line)
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        build_plan(live("fp16"), ["sm86"], report=report)
    assert len(told) == 1
    assert capfd.readouterr().err == ""


def test_ctrl_c_ends_the_build(monkeypatch, capfd):
    monkeypatch.setattr(tensorrt_plans, "REPORT_EVERY_S", 0)
    told = []

    def report(line: str) -> None:
        told.append(line)
        if len(told) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_plan(live("fp16"), ["sm86"], report=report)
    assert len(told) < 150  # a whole build tells more
    assert capfd.readouterr().err == ""
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


@pytest.mark.parametrize(
    ("targets", "precision", "taken"),
    [
        ([], "fp32", ()),
        (["sm120", "sm86", "sm120"], "int8", ("sm86", "sm120")),
        (["sm75"], "fp16", ("sm75",)),
        (["sm80", "sm121"], "fp32", ("sm80", "sm121")),
    ],
)
def test_targets_come_in_order_and_once(targets, precision, taken):
    assert check_targets(targets, precision) == taken


@pytest.mark.parametrize(
    ("targets", "precision", "message"),
    [
        (
            ["sm86", "sm90"],
            "fp16",
            r"not compile for Hopper \(H100, H200\); on .* \(--backend tensorrt, .* or --backend torch",
        ),
        (["sm100"], "fp16", "does not compile for Blackwell for data centres"),
        (["sm70"], "fp16", r"--targets sm70: expected some of sm75 \(RTX 20, GTX 16, T4\), sm80"),
        (["86"], "fp16", "--targets 86: expected some of sm75"),
        (["sm75", "sm86"], "fp16", "--targets sm75,sm86: sm75 needs a plan of its own"),
        (["sm75"], "fp32", "runs there in fp16 only; build it with --precision fp16"),
        (["sm75"], "int8", "runs there in fp16 only"),
    ],
)
def test_targets_that_cannot_be(targets, precision, message):
    with pytest.raises(UsageError, match=message) as refused:
        check_targets(targets, precision)
    assert "\n" not in str(refused.value)


def test_the_targets_are_those_of_the_library():
    import tensorrt_rtx as trt

    known = {name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")}
    assert known == set(tensorrt_plans.TARGETS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda graph: b"", "cannot read the graph: nothing is in it"),
        (lambda graph: graph[: len(graph) // 2], "cannot read the graph: .*Failed to parse the ONNX model"),
        (lambda graph: b"no graph at all", "cannot read the graph: .*Failed to parse the ONNX model"),
    ],
)
def test_a_graph_cut_short_is_refused(spoil, message):
    with pytest.raises(EngineError, match=rf"TensorRT for RTX \S+ {message}") as refused:
        build_plan(spoil(live("fp16").SerializeToString()), ["sm86"])
    assert "\n" not in str(refused.value)


def test_what_the_library_says_of_a_graph_is_told():
    with pytest.raises(EngineError, match=r"cannot read the graph: .*[zZ]ero point .*\(at quantizer\)"):
        build_plan(one_convolution(np.uint8(128)), ["sm86"])
    with pytest.raises(EngineError, match=r"cannot compile the graph: .*FP32 GEMM is not supported"):
        build_plan(one_convolution(np.int8(0), linear=True), ["sm75"])
    assert build_plan(one_convolution(np.int8(0)), ["sm86"])
