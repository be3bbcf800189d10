"""The TensorRT backends: on machines without a GPU as they are, and their runner over stand-ins for GPU and runtime.

The stand-ins run the graph that a plan is made of in ONNX Runtime, so that every result here is the model's own.
"""

import json
import logging
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine import backends, build, build_timing, cuda, manifest, tensorrt_engines, tensorrt_plans
from engine.backends import Options
from engine.backends.tensorrt import RTXRunner, TensorRTRunner
from engine.bundle_manifest import Bundle
from engine.cache import Cache, cache_of
from engine.proof import psnr_db
from engine.runner import open_runner
from livetoon.errors import EngineError, UsageError
from tests.engine.gpu import COMPILED, Cuda, Foreign, Library, array_at, plan_of

BUILDERS = {"tensorrt": "11.4.0.106", "tensorrt-rtx": "1.7.1.116"}
EACH = pytest.mark.parametrize("backend", BUILDERS)


class Machine:
    """A machine with a GPU, its TensorRT, and what was built there."""

    def __init__(self, monkeypatch, backend: str):
        self.package = backend.replace("-", "_")
        self.monkeypatch = monkeypatch
        self.gpu = Cuda()
        self.library = Library(self.gpu, self.package, BUILDERS[backend])
        self.built: list[dict] = []
        self.failure: str | None = None
        monkeypatch.setattr(cuda, "runtime", lambda: self.gpu)
        monkeypatch.setattr(tensorrt_plans, "library", lambda name: self.library)
        monkeypatch.setattr(tensorrt_engines, "library", lambda name: self.library)
        monkeypatch.setattr(tensorrt_engines, "build_plan", self.build_plan)
        monkeypatch.setattr(TensorRTRunner, "package", "tensorrt")
        monkeypatch.setattr(TensorRTRunner, "library", "tensorrt_rtx")  # there, so that the backend counts as installed

    def build_plan(self, model, targets, batches, report, builder, timing=None) -> bytes:
        if self.failure:
            raise EngineError(self.failure)
        self.built.append({"targets": tuple(targets), "batches": tuple(batches), "timing": bytes(timing or b"")})
        if timing is not None:
            timing[:] = b"measured"
        return plan_of(model, batches, self.library.__version__)

    def replace_gpu(self, **card) -> None:
        """Another card or driver, from now on."""
        self.gpu = self.library.cuda = Cuda(**card)


@pytest.fixture
def machine(monkeypatch, backend) -> Machine:
    return Machine(monkeypatch, backend)


def random_crops(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)


def expected(folder: Path, crops: np.ndarray) -> np.ndarray:
    return open_runner(folder, backend="onnxruntime", precision="fp32")(crops)


@EACH
@pytest.mark.parametrize("batches", [(1,), (1, 4), (2, 4)])
def test_any_number_of_crops_in_any_batches(machine, exported, backend, batches):
    runner = open_runner(exported, "kids", backend, "fp32", batches=batches)
    assert (runner.spec.backend, runner.spec.device, runner.spec.arithmetic) == (backend, "NVIDIA L4", "f32")
    wanted = open_runner(exported, "kids", "onnxruntime", "fp32")
    for count in (0, 1, 3, 7):
        crops = random_crops(count)
        for _ in range(3):  # as it is, recorded, replayed
            pictures = runner(crops)
            assert pictures.shape == (count, 64, 64, 4)
            assert np.abs(pictures.astype(int) - wanted(crops)).max(initial=0) <= 1
        x = crops.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        assert runner.infer(x).shape == (count, 4, 64, 64)
        assert not count or psnr_db(runner.infer(x), wanted.infer(x)) > 90
    assert [each["batches"] for each in machine.built] == [batches, batches[:1]]


@EACH
def test_every_precision_that_it_names_is_run(machine, exported, backend):
    crops = random_crops(2)
    wanted = expected(exported, crops)
    least = {"fp16": 40, "int8": 25, "fp32": 50}
    assert open_runner(exported, backend=backend).spec.precision == "fp16"
    for precision in ("fp16", "int8", "fp32"):
        runner = open_runner(exported, backend=backend, precision=precision)
        assert psnr_db(runner(crops) / 127.5, wanted / 127.5) > least[precision]


@EACH
def test_what_was_recorded_is_replayed_and_reads_the_new_crops(machine, exported, backend):
    runner = open_runner(exported, backend=backend, precision="fp32")
    for index in range(5):
        crops = random_crops(2)[index % 2 :][:1]
        assert np.abs(runner(crops).astype(int) - expected(exported, crops)).max() <= 1
    assert machine.gpu.launched == 4  # all but the first
    assert machine.library.executed == 2  # as it is, and while it was recorded
    runner.plan.recording = False
    runner(random_crops(1))
    assert (machine.gpu.launched, machine.library.executed) == (4, 3)


@EACH
def test_a_plan_that_cannot_be_recorded_is_run_call_by_call(machine, exported, backend, caplog):
    machine.gpu.can_record = False
    runner = open_runner(exported, backend=backend, precision="fp32")
    crops = random_crops(1)
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            assert np.abs(runner(crops).astype(int) - expected(exported, crops)).max() <= 1
    assert machine.gpu.launched == 0
    assert caplog.text.count("run without CUDA graphs (cudaStreamEndCapture: error 900)") == 1


@EACH
def test_arrays_on_the_gpu_are_used_where_they_lie(machine, exported, backend):
    runner = open_runner(exported, backend=backend, precision="fp32", batches=(2,))
    crops = random_crops(2)
    wanted = expected(exported, crops)
    given = Foreign(machine.gpu, crops)
    out = Foreign(machine.gpu, np.zeros((2, 64, 64, 4), np.uint8))
    for _ in range(3):
        assert runner(given, out) is out
        assert np.abs(out.values.astype(int) - wanted).max() <= 1
        out.values[:] = 0
    assert machine.gpu.copied == 0
    answer = runner(given)
    told = answer.__cuda_array_interface__
    assert np.abs(array_at(told["data"][0], told["shape"], told["typestr"]).astype(int) - wanted).max() <= 1
    assert machine.gpu.copied == 0


@EACH
def test_one_side_may_lie_on_the_gpu_alone(machine, exported, backend):
    runner = open_runner(exported, backend=backend, precision="fp32", batches=(2,))
    crops = random_crops(2)
    for _ in range(3):
        here = runner(Foreign(machine.gpu, crops), np.zeros((2, 64, 64, 4), np.uint8))
        there = runner(crops, Foreign(machine.gpu, np.zeros((2, 64, 64, 4), np.uint8)))
        for pictures in (here, there.values):
            assert np.abs(pictures.astype(int) - expected(exported, crops)).max() <= 1


@EACH
@pytest.mark.parametrize(("count", "offset"), [(3, 0), (1, 0), (2, 16)])
def test_arrays_on_the_gpu_that_do_not_fit_a_batch_are_copied_there(machine, exported, backend, count, offset):
    runner = open_runner(exported, backend=backend, precision="fp32", batches=(2,))
    crops = random_crops(count)
    out = Foreign(machine.gpu, np.zeros((count, 64, 64, 4), np.uint8), offset)
    for _ in range(3):
        runner(Foreign(machine.gpu, crops, offset), out)
        assert np.abs(out.values.astype(int) - expected(exported, crops)).max() <= 1
        out.values[:] = 0
    rest = crops[count - count % 2 :] if not offset else crops
    assert machine.gpu.copied == 3 * rest.size * 7 // 3  # three colours in, four out


@EACH
def test_the_stream_that_still_makes_the_crops_is_waited_for(machine, exported, backend):
    runner = open_runner(exported, backend=backend, precision="fp32")
    crops = random_crops(1)
    for stream, interface in ((None, {}), (7, {"stream": 7}), (1, {"version": 2, "stream": ...})):
        given = Foreign(machine.gpu, np.zeros_like(crops), **interface)
        if given.__cuda_array_interface__["stream"] is ...:
            del given.__cuda_array_interface__["stream"]  # version 2 does not tell it: the default stream
        if stream:
            machine.gpu.queues.setdefault(stream, []).append(lambda given=given: given.values.__setitem__(..., crops))
        else:
            given.values[:] = crops
        out = runner(given, np.empty((1, 64, 64, 4), np.uint8))
        assert np.abs(out.astype(int) - expected(exported, crops)).max() <= 1


@EACH
def test_what_is_still_queued_for_the_place_of_the_pictures_comes_first(machine, exported, backend):
    runner = open_runner(exported, backend=backend, precision="fp32")
    crops = random_crops(1)
    out = Foreign(machine.gpu, np.zeros((1, 64, 64, 4), np.uint8), stream=7)
    machine.gpu.queues[7] = [lambda: out.values.fill(9)]
    runner(crops, out)
    machine.gpu.cudaStreamSynchronize(7)
    assert np.abs(out.values.astype(int) - expected(exported, crops)).max() <= 1


@EACH
@pytest.mark.parametrize(
    ("shape", "dtype", "out_shape", "interface", "message"),
    [
        ((1, 64, 64, 3), np.float32, None, {}, r"arrays \(N, 64, 64, 3\) of uint8, got \(1, 64, 64, 3\) of float32"),
        ((1, 3, 64, 64), np.uint8, None, {}, r"arrays \(N, 64, 64, 3\) of uint8, got \(1, 3, 64, 64\)"),
        ((64, 64, 3), np.uint8, None, {}, r"arrays \(N, 64, 64, 3\) of uint8, got \(64, 64, 3\)"),
        ((2, 64, 64, 3), np.uint8, (1, 64, 64, 4), {}, r"arrays \(2, 64, 64, 4\) of uint8, got \(1, 64, 64, 4\)"),
        ((1, 64, 64, 3), np.uint8, None, {"strides": (12288, 3, 192, 1)}, r"has to be contiguous, .* copy it first"),
    ],
)
def test_other_arrays_on_the_gpu_are_refused(machine, exported, backend, shape, dtype, out_shape, interface, message):
    runner = open_runner(exported, backend=backend)
    given = Foreign(machine.gpu, np.zeros(shape, dtype), **interface)
    with pytest.raises(EngineError, match=message):
        runner(given, None if out_shape is None else np.empty(out_shape, np.uint8))


def in_threads(runner, crops: np.ndarray, times: int) -> list[np.ndarray]:
    """Pictures of each crop, from a thread of its own."""
    with ThreadPoolExecutor(len(crops)) as threads:
        return list(threads.map(lambda crop: [runner(crop[None])[0] for _ in range(times)][-1], crops))


@EACH
def test_calls_at_once_do_not_wait_for_each_other_or_mix(machine, exported, backend):
    runner = open_runner(exported, backend=backend, precision="fp32")
    crops = random_crops(3)
    wanted = runner(crops)
    together = threading.Barrier(3, timeout=10)
    machine.gpu.when_waited = together.wait  # nobody goes on until three calls are at work
    np.testing.assert_array_equal(in_threads(runner, crops, 5), wanted)
    machine.gpu.when_waited = lambda: None
    assert machine.gpu.streams == 3
    np.testing.assert_array_equal(in_threads(runner, crops, 1), wanted)
    assert machine.gpu.streams == 3  # the streams of threads that ended are used again


@EACH
def test_everything_is_freed_with_the_runner(machine, exported, backend):
    runner = open_runner(exported, backend=backend, batches=(1, 2))
    for _ in range(3):
        runner(random_crops(3))
        runner(Foreign(machine.gpu, random_crops(2)))
    runner.infer(np.zeros((1, 3, 64, 64), np.float32))
    own = len(machine.gpu.memory)
    runner = None
    assert len(machine.gpu.memory) == 3 < own  # what the test itself has there
    assert list(machine.gpu.queues) == [1]


@EACH
def test_a_call_that_fails_leaves_nothing_behind(machine, exported, backend):
    runner = open_runner(exported, backend=backend, precision="fp32")
    crops = random_crops(1)
    wanted = runner(crops)

    def fail() -> None:
        raise EngineError("cudaStreamSynchronize: an illegal memory access was encountered")

    machine.gpu.when_waited = fail
    with pytest.raises(EngineError, match="illegal memory access"):
        runner(crops)
    machine.gpu.when_waited = lambda: None
    np.testing.assert_array_equal(runner(crops), wanted)
    assert machine.gpu.streams == 2


@EACH
def test_results_belong_to_the_caller(machine, exported, backend):
    runner = open_runner(exported, backend=backend)
    first = runner(random_crops(1))
    kept = first.copy()
    runner(random_crops(2))
    np.testing.assert_array_equal(first, kept)


@EACH
def test_a_second_start_builds_nothing(machine, exported, backend):
    first = open_runner(exported, backend=backend, batches=(1, 4))(random_crops(5))
    again = open_runner(exported, backend=backend, batches=(4, 1))
    np.testing.assert_array_equal(again(random_crops(5)), first)
    assert len(machine.built) == 1
    open_runner(exported, backend=backend, batches=(1, 2))
    assert len(machine.built) == 2


@EACH
def test_the_keys_are_those_of_what_is_stored(machine, exported, backend, own_cache):
    files = manifest.open_files(exported)
    runner = {"tensorrt": TensorRTRunner, "tensorrt-rtx": RTXRunner}[backend]
    keys = runner.engine_keys(files, "fp16", Options(batches=(1, 4)))
    assert not any(Cache(own_cache).has(*key) for key in keys.items())
    open_runner(exported, backend=backend, batches=(1, 4), mode="throughput")
    assert len(keys) == 1
    assert all(Cache(own_cache).has(*key) for key in keys.items())
    assert len(machine.built) == 1


def test_what_is_compiled_on_the_card_is_kept_for_that_card_and_driver(monkeypatch, exported):
    machine = Machine(monkeypatch, "tensorrt-rtx")
    for _ in range(2):
        open_runner(exported, backend="tensorrt-rtx")(random_crops(1))
    assert machine.library.given_compiled == [COMPILED]
    machine.replace_gpu(driver=13010)
    open_runner(exported, backend="tensorrt-rtx")(random_crops(1))
    assert machine.library.given_compiled == [COMPILED]
    assert len(machine.built) == 1  # the plan itself does not depend on it


def test_timings_serve_the_next_build_on_this_card(monkeypatch, exported):
    machine = Machine(monkeypatch, "tensorrt")
    for group in ("adults", "kids"):
        open_runner(exported, group, "tensorrt")
    machine.replace_gpu(name="NVIDIA A10", capability=(8, 6))
    open_runner(exported, "adults", "tensorrt")
    assert [each["timing"] for each in machine.built] == [b"", b"measured", b""]


def test_a_plan_of_another_card_or_version_is_refused_by_name(monkeypatch, exported, caplog):
    machine = Machine(monkeypatch, "tensorrt")
    open_runner(exported, backend="tensorrt")
    machine.replace_gpu(name="NVIDIA A10", capability=(8, 6))
    open_runner(exported, backend="tensorrt")
    assert "was built for NVIDIA L4 (sm89), not NVIDIA A10 (sm86); it is built anew" in caplog.text
    machine.library.__version__ = "11.5.0.1"
    machine.replace_gpu(name="NVIDIA A10", capability=(8, 6), driver=13020)
    open_runner(exported, backend="tensorrt")(random_crops(1))
    assert (
        "was built with tensorrt 11.4.0.106, not tensorrt 11.5.0.1, under CUDA 13.0, not 13.2; it is built anew"
        in caplog.text
    )
    machine.failure = "no kernel for this card"
    machine.replace_gpu()
    with pytest.raises(EngineError, match=r"was built for NVIDIA A10 \(sm86\), not .*adults\.onnx: no kernel for this"):
        open_runner(exported, backend="tensorrt")


@EACH
def test_a_plan_that_the_runtime_refuses_is_built_anew(machine, exported, backend, own_cache, caplog):
    open_runner(exported, backend=backend)
    path = next(own_cache.glob("small-adults-*.cache"))
    fields = json.loads(path.read_bytes().split(b"\n")[0])["fields"]
    content = path.read_bytes().partition(b"\n")[2].replace(BUILDERS[backend].encode(), b"0.1")
    Cache(own_cache).store(path.stem, fields, content)
    open_runner(exported, backend=backend)(random_crops(1))
    assert len(machine.built) == 2
    said = (
        "it was made by another version, it was built for other GPUs; it is"
        if machine.library.is_rtx
        else "version tag 0.1"
    )
    assert said in caplog.text


def test_tensors_of_other_names_are_refused(monkeypatch, exported):
    machine = Machine(monkeypatch, "tensorrt")

    def renamed(model, *rest) -> bytes:
        model.graph.input[0].name = "image"
        for node in model.graph.node:
            node.input[:] = ["image" if name == "crop" else name for name in node.input]
        return Machine.build_plan(machine, model, *rest)

    monkeypatch.setattr(tensorrt_engines, "build_plan", renamed)
    with pytest.raises(EngineError, match="expected a plan with input crop and output rgba, this one has rgba, image"):
        open_runner(exported, backend="tensorrt")


def test_a_plan_built_ahead_is_taken_on_each_of_its_cards(monkeypatch, exported, own_cache):
    files = manifest.open_files(exported)
    machine = Machine(monkeypatch, "tensorrt-rtx")
    machine.gpu.driver = 0  # built where there is no GPU
    lines = []
    for _ in range(2):
        key = tensorrt_engines.build_ahead(files, "fp16", ("sm89", "sm86"), (1,), Cache(own_cache), lines.append)
    assert Cache(own_cache).has(*key)
    assert key == tensorrt_engines.Recipe(files, "fp16", (1,), "tensorrt_rtx", ("sm86", "sm89", "sm86")).key
    assert [each["targets"] for each in machine.built] == [("sm86", "sm89")]
    for card, capability in (("NVIDIA L4", (8, 9)), ("NVIDIA A10", (8, 6))):
        machine.replace_gpu(name=card, capability=capability)
        open_runner(exported, backend="tensorrt-rtx")(random_crops(1))
    assert len(machine.built) == 1
    machine.replace_gpu(name="NVIDIA GeForce RTX 5080", capability=(12, 0))
    open_runner(exported, backend="tensorrt-rtx")
    assert machine.built[1]["targets"] == ("sm120",)


def test_a_plan_for_several_cards_is_the_engine_of_a_build_and_of_a_bundle(monkeypatch, exported, tmp_path):
    machine = Machine(monkeypatch, "tensorrt-rtx")
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    (folder / "engines").mkdir()
    for group in ("adults", "kids"):
        tensorrt_engines.build_ahead(
            manifest.open_files(folder, group), "fp16", ("sm86", "sm89"), (1,), cache_of(folder)
        )
    kept = {path.name for path in (folder / "engines").iterdir()}
    engines = {"backend": "tensorrt-rtx", "precision": "fp16"}
    assert Bundle(tmp_path, SimpleNamespace(engines=engines, groups=("adults", "kids")))._are_known()
    monkeypatch.setattr(build_timing, "ROUNDS", 1)
    arguments = ["--model", str(folder), "--backend", "tensorrt-rtx", "--json", str(tmp_path / "build.json")]
    assert build.main(arguments) == 0
    for row in json.loads((tmp_path / "build.json").read_text())["rows"]:
        assert row["cached"] and row["kept"] and row["build_s"] is None
        assert set(row["slots"]) <= {name.removesuffix(".cache") for name in kept}
    machine.replace_gpu(name="NVIDIA GeForce RTX 5080", capability=(12, 0))
    assert not Bundle(tmp_path, SimpleNamespace(engines=engines, groups=("adults", "kids")))._are_known()


def test_turing_is_fp16_only_with_tensorrt_for_rtx(monkeypatch, exported):
    machine = Machine(monkeypatch, "tensorrt-rtx")
    machine.replace_gpu(name="Tesla T4", capability=(7, 5))
    assert open_runner(exported, backend="tensorrt-rtx").spec.precision == "fp16"
    with pytest.raises(UsageError, match="tensorrt-rtx in fp16; choose"):
        open_runner(exported, backend="tensorrt-rtx", precision="int8")


# ---------------------------------------------------------------- as this machine, or one like it, really is


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_without_a_gpu_one_sentence_says_what_to_do(exported, backend):
    """The real libraries: CI has no GPU."""
    with pytest.raises(EngineError) as refused:
        open_runner(exported, backend=backend)
    assert str(refused.value).startswith(f"{backend} cannot be used: it needs an NVIDIA GPU with its driver (no NVIDIA")
    assert "--backend tensorrt-rtx --targets sm86" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_auto_goes_on_silently_without_a_gpu(exported, caplog):
    assert {"tensorrt", "tensorrt-rtx"} <= set(backends.installed())
    with caplog.at_level(logging.INFO):
        assert open_runner(exported).spec.backend in ("openvino", "onnxruntime")
    assert "tensorrt" not in caplog.text


@EACH
def test_auto_takes_the_gpu_where_there_is_one(machine, exported, backend):
    if backend == "tensorrt-rtx":
        machine.monkeypatch.setattr(TensorRTRunner, "package", "tensorrt_rtx")
    assert open_runner(exported).spec.device == "NVIDIA L4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda gpu: setattr(gpu, "driver", 0), "no NVIDIA driver is installed on this machine"),
        (lambda gpu: setattr(gpu, "devices", (35, 0)), "the NVIDIA driver knows CUDA 13.0 only, update it"),
        (lambda gpu: setattr(gpu, "devices", (100, 0)), "the NVIDIA driver finds no GPU"),
        (lambda gpu: setattr(gpu, "devices", (0, 0)), "the NVIDIA driver finds no GPU"),
        (lambda gpu: setattr(gpu, "devices", (900, 0)), "the NVIDIA driver does not answer: error 900"),
    ],
)
def test_what_is_missing_is_said(monkeypatch, exported, change, message):
    change(Machine(monkeypatch, "tensorrt-rtx").gpu)
    with pytest.raises(EngineError, match=rf"needs an NVIDIA GPU with its driver \({message}\)"):
        open_runner(exported, backend="tensorrt-rtx")


def test_without_cuda_python_it_is_named(monkeypatch, exported):
    cuda.runtime.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    try:
        with pytest.raises(EngineError, match=r"Python package cuda-bindings cannot be loaded .*pip install it"):
            open_runner(exported, backend="tensorrt-rtx")
    finally:
        cuda.runtime.cache_clear()


@pytest.mark.parametrize(("name", "capability"), [("NVIDIA H100", (9, 0)), ("Tesla V100", (7, 0))])
def test_cards_that_tensorrt_for_rtx_does_not_know_are_sent_elsewhere(monkeypatch, exported, name, capability):
    Machine(monkeypatch, "tensorrt-rtx").replace_gpu(name=name, capability=capability)
    wanted = rf"does not compile for {name} \(sm\d0\); use the full TensorRT \(pip install .* or --backend torch"
    with pytest.raises(EngineError, match=wanted):
        open_runner(exported, backend="tensorrt-rtx")


def test_a_library_that_is_broken_is_said(monkeypatch, exported):
    Machine(monkeypatch, "tensorrt")

    def library(name: str) -> None:
        raise ImportError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(tensorrt_plans, "library", library)
    with pytest.raises(EngineError, match=r"tensorrt cannot be used: libnvinfer\.so\.11"):
        open_runner(exported, backend="tensorrt")


def test_every_reason_of_the_library_has_words():
    import tensorrt_rtx as trt

    from engine.tensorrt_run import REFUSED

    assert set(REFUSED) == set(trt.EngineInvalidityDiagnostics.__members__)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda plan: plan, r"refuses it: there is no GPU here"),
        (lambda plan: plan[:50], r"refuses it: it is cut short, altered or no plan at all"),
        (lambda plan: b"", r"refuses it: it is cut short, altered or no plan at all"),
    ],
)
def test_a_real_plan_meets_the_real_runtime(spoil, message):
    from engine.graphs import read_graph
    from engine.tensorrt_run import Plan

    trt = tensorrt_plans.library("tensorrt_rtx")
    plan = tensorrt_plans.build_plan(read_graph(manifest.open_files("live"), "fp16", 1, pictures=True), ["sm86"])
    with pytest.raises(EngineError, match=message):
        Plan(trt, spoil(plan))
