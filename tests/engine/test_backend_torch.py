"""A graph as a torch module draws what ONNX Runtime draws of it; where torch stands among the backends."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engine import backends, machine, manifest, torch_run
from engine.export import export, proof_crops
from engine.graphs import read_graph
from engine.proof import psnr_db
from engine.runner import open_runner
from engine.torch_graph import OPERATIONS, torch_module
from livetoon.errors import EngineError

SIZE = 64
LEAST_DB = {"fp32": 90.0, "int8": 50.0, "fp16": 60.0, "bf16": 35.0}  # rounding of codes and of halves falls otherwise
NETWORKS = {
    "live": {"widths": (8, 16, 16, 32), "blocks": (1, 1, 1)},
    "live-dense": {},
    "ugatit": {"width": 4, "size": SIZE, "blocks": 2},
    "cyclegan": {"width": 4, "size": SIZE, "blocks": 2},
}


@pytest.fixture(params=["photo2cartoon", *NETWORKS])
def folder(request, make_generator, tmp_path) -> Path:
    if request.param == "photo2cartoon":
        return request.getfixturevalue("drawing")
    generator = make_generator(request.param, groups=["one"], **NETWORKS[request.param])
    export(generator, tmp_path / "model", size=SIZE, report=lambda line: None)
    return tmp_path / "model"


def drawn(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: x})[0]


@pytest.mark.gpu
def test_every_network_draws_as_in_onnx_runtime(folder):
    expected = open_runner(folder, backend="onnxruntime", precision="fp32", threads=1).infer(proof_crops(SIZE))
    runner = open_runner(folder, backend="torch", precision="fp32", threads=1)
    assert psnr_db(runner.infer(proof_crops(SIZE)), expected) > LEAST_DB["fp32"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else machine.processor()
    assert (runner.spec.arithmetic, runner.spec.device) == ("f32", device)


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
def test_every_precision_is_the_graphs_own(exported, precision):
    model = read_graph(manifest.open_files(exported), precision)
    x = proof_crops(SIZE)
    with torch.no_grad():
        got = torch_module(model)(torch.from_numpy(x)).numpy()
    assert psnr_db(got * 2 - 1, drawn(model, x) * 2 - 1) > LEAST_DB[precision]


def test_bf16_is_the_half_precision_of_the_graph(exported):
    model = read_graph(manifest.open_files(exported), "fp16")
    module, x = torch_module(model, torch.bfloat16), proof_crops(SIZE)
    kinds = {value.dtype for value in module.buffers()}
    assert torch.bfloat16 in kinds and torch.float16 not in kinds
    got = module(torch.from_numpy(x)).numpy()
    assert LEAST_DB["bf16"] < psnr_db(got * 2 - 1, drawn(model, x) * 2 - 1) < 75


def test_it_is_compiled_in_one_piece(exported):
    """As on a card, by the part of torch's compiler that needs none."""
    module = torch_module(read_graph(manifest.open_files(exported), "fp16", pictures=True), torch.float16)
    crops = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=False)
        np.testing.assert_array_equal(compiled(crops).numpy(), module(crops).numpy())


def test_int8_is_asked_for_by_name_and_tells_that_it_computes_in_floats(exported):
    assert backends.candidates("torch")[0].precisions(("fp32", "int8"))[0] == "fp32"
    assert open_runner(exported, backend="torch", precision="int8", threads=1).spec.arithmetic == "f32"


def test_constants_are_stored_once_and_computed_beforehand(exported):
    files = manifest.open_files(exported)
    module = torch_module(read_graph(files, "int8"))
    codes = [value for value in module.buffers() if value.dtype == torch.int8 and value.ndim]
    assert codes == []  # weights are floats again, once
    assert len({value.data_ptr() for value in module.buffers()}) == len(list(module.buffers()))
    assert len(list(torch_module(read_graph(files, "fp32")).buffers())) == len(
        {
            name
            for node in read_graph(files, "fp32").graph.node
            for name in node.input
            if "weight" in name or "bias" in name
        }
    )


def graph(
    kind: str, inputs: dict[str, np.ndarray], shape: tuple[int, ...], outputs: int = 1, **options
) -> onnx.ModelProto:
    """One operation on `x`."""
    names = [f"y{place}" for place in range(outputs)]
    node = helper.make_node(kind, ["x", *inputs], names, **options)
    made = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(value, name) for name, value in inputs.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


NEAREST = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
WEIGHT = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32)
PADS = np.array([0, 0, 2, 1, 0, 0, 1, 3])


@pytest.mark.parametrize(
    ("kind", "inputs", "options"),
    [
        ("Conv", {"w": WEIGHT}, {"pads": [1, 2, 1, 2], "strides": [2, 1], "dilations": [2, 1]}),
        ("Conv", {"w": WEIGHT[:, :1]}, {"group": 4}),
        ("ConvTranspose", {"w": WEIGHT}, {"pads": [1, 1, 1, 1], "strides": [2, 2], "output_padding": [1, 1]}),
        ("AveragePool", {}, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0], "count_include_pad": 1}),
        ("AveragePool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ("DepthToSpace", {}, {"blocksize": 2, "mode": "DCR"}),
        ("DepthToSpace", {}, {"blocksize": 2, "mode": "CRD"}),
        ("Pad", {"pads": PADS}, {"mode": "reflect"}),
        ("Pad", {"pads": np.array([0, 1, 2, 1, 0, 2, 1, 3]), "value": np.float32(0.5)}, {}),
        ("Resize", {"": None, "scales": np.float32([1, 1, 2, 3])}, NEAREST),
        ("InstanceNormalization", {"w": np.float32([1, 2, 3, 4]), "b": np.float32([0, 1, 0, 2])}, {"epsilon": 0.1}),
        ("LayerNormalization", {"scale": WEIGHT[:, :1, :1, 0].copy()}, {"axis": -3, "epsilon": 0.1}),
        ("ReduceMean", {"axes": np.array([2, 3])}, {"keepdims": 0}),
        ("Reshape", {"shape": np.array([2, -1])}, {}),
        ("Unsqueeze", {"axes": np.array([3, 1])}, {}),
        ("Transpose", {}, {"perm": [0, 2, 3, 1]}),
        ("QuantizeLinear", {"scale": np.float32(0.02), "zero": np.int8(3)}, {}),
        ("Round", {}, {}),
    ],
)  # fmt: skip
def test_an_operation_means_what_onnx_says(kind, inputs, options):
    x = np.random.default_rng(1).normal(size=(2, 4, 6, 8)).astype(np.float32)
    model = graph(kind, {name: value for name, value in inputs.items() if value is not None}, x.shape, **options)
    if "" in inputs:
        model.graph.node[0].input.insert(1, "")
    if kind == "QuantizeLinear":
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
    expected = drawn(model, x)
    got = torch_module(model)(torch.from_numpy(x)).numpy()
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_takes_its_weight_either_way(transposed):
    weight = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    model = graph(
        "Gemm", {"w": weight.T.copy() if transposed else weight, "b": np.float32([1, 2, 3])}, (2, 5), transB=transposed
    )
    x = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
    np.testing.assert_allclose(torch_module(model)(torch.from_numpy(x)).numpy(), drawn(model, x), rtol=1e-5)


def test_parts_of_a_split_are_told_apart():
    model = graph("Split", {}, (2, 6), outputs=3, axis=1, num_outputs=3)
    del model.graph.output[:1]
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    np.testing.assert_array_equal(torch_module(model)(torch.from_numpy(x)).numpy(), x[:, 2:4])


@pytest.mark.parametrize(
    ("kind", "inputs", "options"),
    [
        ("Conv", {"w": WEIGHT}, {"pads": [0, 0, 1, 1]}),
        ("Pad", {"pads": PADS}, {"mode": "edge"}),
        ("Pad", {"pads": np.array([0, 1, 0, 0, 0, 0, 0, 0])}, {"mode": "reflect"}),
        ("Resize", {"roi": np.float32([]), "scales": np.float32([1, 1, 2, 2])}, {"mode": "linear"}),
        ("Reshape", {"shape": np.array([0, -1])}, {}),
    ],
)
def test_what_none_of_our_graphs_says_is_refused(kind, inputs, options):
    with pytest.raises(EngineError, match=f"torch backend knows no {kind} with .*, which the graph holds"):
        torch_module(graph(kind, inputs, (2, 4, 6, 8), **options))


def test_an_operation_that_is_not_known_is_named():
    assert "Erf" not in OPERATIONS
    with pytest.raises(EngineError, match="the torch backend has no operation Erf, which the graph holds"):
        torch_module(graph("Erf", {}, (1, 2)))


@pytest.mark.parametrize(("gpus", "before"), [(0, ["openvino", "onnxruntime", "torch"]), (1, ["torch", "openvino"])])
def test_auto_takes_torch_last_without_a_card_and_before_processors_with_one(monkeypatch, gpus, before):
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: gpus)
    order = backends.names()
    assert [name for name in order if name in before] == before
    assert order.index("tensorrt") < order.index("torch")


@pytest.mark.parametrize(
    ("answers", "count", "gpus"), [((0, 0), 2, 2), ((0, 0), 0, 0), ((100, 0), 0, 0), ((0, 3), 7, 0), (None, 0, 0)]
)
def test_cards_are_those_that_the_driver_counts(monkeypatch, answers, count, gpus):
    """A driver that is there may find none (100), or fail."""

    class Driver:
        def __init__(self, name):
            if answers is None:
                raise OSError(f"{name}: cannot open shared object file")

        def cuInit(self, flags):
            return answers[0]

        def cuDeviceGetCount(self, place):
            place._obj.value = count
            return answers[1]

    monkeypatch.setattr(ctypes, "CDLL", Driver)
    assert machine.nvidia_gpus.__wrapped__() == gpus


def test_a_start_without_a_card_does_not_load_torch(exported):
    program = (
        "import sys; from engine.runner import open_runner\n"
        "open_runner(sys.argv[1], threads=1)\nprint('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(exported)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_process_keeps_its_number_of_threads(exported):
    before = torch.get_num_threads()
    runner = open_runner(exported, backend="torch", threads=before + 1)
    runner(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    assert torch.get_num_threads() == before


def test_a_card_without_room_for_the_network_is_an_engine_error(monkeypatch):
    """Another program holds its memory: whoever opens the engine can then take the processor's."""

    class Network(torch.nn.Module):
        def to(self, *where, **how):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore of it")

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA L4")
    with pytest.raises(EngineError, match=r"torch cannot run the network on NVIDIA L4: CUDA out of memory.*MiB\.$"):
        torch_run.recorded(Network(), [1], SIZE)
