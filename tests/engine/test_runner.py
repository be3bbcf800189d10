"""One suite for every registered backend, with random weights always and with the models that come with livetoon."""

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from engine import backends, manifest
from engine.backends import MODES, Options
from engine.cache import Cache
from engine.proof import psnr_db
from engine.runner import open_runner
from livetoon import inference
from livetoon.errors import EngineError, ModelError, UsageError
from livetoon.files import sha256

USABLE = tuple(backends.usable(("fp32", "int8")))
EACH = pytest.mark.parametrize("backend", USABLE)
LEAST_DB = {"fp32": 60.0, "fp16": 45.0, "bf16": 30.0, "int8": 33.0}  # against torch float32; weights are float16


def threads(backend: str) -> int:
    """Two, but for torch, whose threads wait for each other where others use the cores as well."""
    return 1 if backend == "torch" else 2


def precisions(backend: str, folder: Path) -> tuple[str, ...]:
    """What this machine runs of the model in `folder`."""
    return backends.candidates(backend)[0].precisions(manifest.read(folder).precisions)


def pictures_of(x: torch.Tensor) -> np.ndarray:
    """(N, C, S, S) in [-1, 1] -> (N, S, S, C) uint8."""
    return ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def torch_reference(graph: Path, x: torch.Tensor) -> np.ndarray:
    """What the graph computes, by torch operations: (N, 4, S, S) with RGB in [-1, 1] and alpha in [0, 1]."""
    model = onnx.load(graph)
    tensors = {
        value.name: torch.from_numpy(numpy_helper.to_array(value).astype(np.float32))
        for value in model.graph.initializer
    }
    tensors[model.graph.input[0].name] = x
    for node in model.graph.node:
        given = [tensors[name] for name in node.input]
        options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        tensors[node.output[0]] = {
            "Cast": lambda given, options: given[0],
            "Relu": lambda given, options: torch.relu(given[0]),
            "Sigmoid": lambda given, options: torch.sigmoid(given[0]),
            "Add": lambda given, options: given[0] + given[1],
            "Conv": convolution,
            "DepthToSpace": depth_first_shuffle,
        }[node.op_type](given, options)
    rgba = tensors[model.graph.output[0].name]
    return torch.cat([rgba[:, :3] * 2 - 1, rgba[:, 3:]], dim=1).numpy()


def convolution(given, options):
    assert options["pads"][:2] == options["pads"][2:]
    return functional.conv2d(
        *given, stride=options.get("strides", [1, 1]), padding=options["pads"][:2], groups=options.get("group", 1)
    )


def depth_first_shuffle(given, options):
    assert options["mode"] == b"DCR"
    n, c, h, w = given[0].shape
    return given[0].view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)


@EACH
@pytest.mark.parametrize("group", ["adults", "kids"])
def test_every_precision_agrees_with_torch(exported, generator, crops, backend, group):
    with torch.inference_mode():
        expected = generator(crops, group)
    for precision in precisions(backend, exported):
        runner = open_runner(exported, group, backend, precision)
        assert (runner.spec.backend, runner.spec.precision, runner.spec.group) == (backend, precision, group)
        assert psnr_db(runner.infer(crops.numpy()), expected.numpy()) > LEAST_DB[precision]
        pictures = runner(pictures_of(crops))
        wanted = pictures_of(torch.cat([expected[:, :3], expected[:, 3:] * 2 - 1], dim=1))
        assert psnr_db(pictures / 127.5, wanted / 127.5) > min(50, LEAST_DB[precision]) - 1
        if precision == "fp32":
            assert np.abs(pictures.astype(int) - wanted).max() <= 1


@EACH
@pytest.mark.parametrize(
    ("name", "group"),
    [(name, group) for name in manifest.zoo_names() for group in manifest.read(manifest.find(name)).groups],
)
def test_the_models_that_come_with_livetoon_agree_with_torch(backend, name, group):
    files = manifest.open_files(name, group)
    side = files.manifest.size
    ramps = torch.stack(torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij"))
    x = torch.cat([ramps, ramps[:1] * ramps[1:]])[None]
    expected = torch_reference(files.graph("fp32"), x)
    for precision in precisions(backend, files.folder):
        runner = open_runner(name, group, backend, precision, threads=1)
        assert psnr_db(runner.infer(x.numpy()), expected) > LEAST_DB[precision]


@EACH
def test_pictures_are_the_rounded_floats(exported, crops, backend):
    runner = open_runner(exported, backend=backend, precision="fp32")
    floats = runner.infer(crops.numpy())
    floats[:, :3] = (floats[:, :3] + 1) / 2
    off = runner(pictures_of(crops)) - floats.transpose(0, 2, 3, 1) * 255
    assert np.abs(off).max() < 0.51


@EACH
def test_any_number_of_crops_and_any_memory_order(exported, crops, backend):
    runner = open_runner(exported, backend=backend)
    pictures = pictures_of(crops)
    whole = runner(pictures)
    assert whole.shape == (3, 64, 64, 4)
    assert whole.dtype == np.uint8
    assert whole.flags.c_contiguous
    assert runner(pictures[:0]).shape == (0, 64, 64, 4)
    assert runner.infer(crops.numpy()[:0]).shape == (0, 4, 64, 64)
    np.testing.assert_array_equal(runner(pictures[1:2]), whole[1:2])
    np.testing.assert_array_equal(runner(pictures[::-1]), whole[::-1])
    np.testing.assert_array_equal(runner(np.asfortranarray(pictures)), whole)


@EACH
def test_results_belong_to_the_caller(exported, crops, backend):
    runner = open_runner(exported, backend=backend)
    pictures = pictures_of(crops)
    first = runner(pictures[:1])
    kept, floats = first.copy(), runner.infer(crops.numpy()[:1])
    floats_kept = floats.copy()
    runner(pictures[1:])
    runner.infer(crops.numpy()[1:])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(floats, floats_kept)
    first[:] = 0


@EACH
@pytest.mark.parametrize("mode", MODES)
def test_calls_from_several_threads_do_not_mix(exported, crops, backend, mode):
    runner = open_runner(exported, backend=backend, threads=threads(backend), batches=(1, 2), mode=mode)
    pictures = pictures_of(crops)
    expected = runner(pictures).astype(int)
    wrong = []

    def work(first: int) -> None:
        order = np.roll(np.arange(3), first)
        for call in range(20):
            asked = order[: call % 3 + 1]
            if np.abs(runner(pictures[asked]) - expected[asked]).max() > 1:  # by two sizes of a batch
                wrong.append(asked)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@EACH
@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((1, 64, 64, 4), np.uint8),
    ],
)
def test_other_arrays_are_refused(exported, backend, crops):
    runner = open_runner(exported, backend=backend)
    with pytest.raises(EngineError, match=r"takes arrays \(N, 64, 64, 3\) of uint8, got"):
        runner(crops)
    with pytest.raises(EngineError, match=r"takes arrays \(N, 3, 64, 64\) of float32, got"):
        runner.infer(crops)


def test_a_fixed_batch_is_padded(make_generator, tmp_path, crops):
    from engine.export import export

    generator = make_generator("live", groups=["adults"], widths=(4, 8, 8, 8), blocks=(0, 1, 0))
    export(generator, tmp_path / "pairs", size=64, batch=2, report=lambda line: None)
    with torch.inference_mode():
        expected = generator(crops, "adults").numpy()
    for backend in USABLE:
        got = open_runner(tmp_path / "pairs", backend=backend, precision="fp32").infer(crops.numpy())
        assert psnr_db(got, expected) > 60


def test_a_fixed_batch_takes_no_other(make_generator, tmp_path):
    from engine.export import export

    generator = make_generator("live", groups=["adults"], widths=(4, 8, 8, 8), blocks=(0, 1, 0))
    export(generator, tmp_path / "pairs", size=64, batch=2, report=lambda line: None)
    with pytest.raises(UsageError, match=r"batches \(1, 4\): model pairs was exported for 2 crops a call"):
        open_runner(tmp_path / "pairs", batches=(1, 4))


@EACH
@pytest.mark.parametrize("mode", MODES)
def test_batches_give_the_same_pictures_in_every_mode(exported, crops, backend, mode):
    pictures = np.concatenate([pictures_of(crops), pictures_of(-crops), pictures_of(crops / 2)])
    expected = open_runner(exported, backend=backend, precision="fp32", threads=1)(pictures)
    for batches in ((1,), (4,), (4, 1, 2)):
        runner = open_runner(
            exported, backend=backend, precision="fp32", threads=threads(backend), batches=batches, mode=mode
        )
        assert np.abs(runner(pictures).astype(int) - expected).max() <= 1
        np.testing.assert_array_equal(runner(pictures[:5]), runner(pictures)[:5])
        assert runner.infer(crops.numpy()).shape == (3, 4, 64, 64)


def test_auto_takes_openvino_where_it_is_installed(exported):
    assert USABLE[:2] == ("openvino", "onnxruntime")
    assert open_runner(exported).spec.backend == "openvino"


def test_auto_goes_on_when_a_library_cannot_be_loaded(exported, tmp_path, monkeypatch, caplog):
    (tmp_path / "openvino.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(inference, "_core", inference._core.__wrapped__)  # as where it was not loaded before
    assert "openvino" in backends.installed()
    with caplog.at_level(logging.DEBUG, "engine.runner"):
        assert open_runner(exported).spec.backend == "onnxruntime"
    assert "openvino cannot be used: libtbb" in caplog.text
    with pytest.raises(EngineError, match=r"^openvino cannot be used: libtbb\.so\.12: cannot open shared object file$"):
        open_runner(exported, backend="openvino")


def test_auto_goes_on_when_a_backend_finds_no_device(exported, monkeypatch):
    def refused(stored):
        raise EngineError("the driver finds no GPU")

    monkeypatch.setattr(backends.candidates("openvino")[0], "precisions", staticmethod(refused))
    assert open_runner(exported).spec.backend == "onnxruntime"
    with pytest.raises(EngineError, match=r"^openvino cannot be used: the driver finds no GPU$"):
        open_runner(exported, backend="openvino")
    for each in backends.candidates("auto"):
        monkeypatch.setattr(each, "precisions", staticmethod(refused))
    with pytest.raises(EngineError, match=r"no backend can be used \(.*openvino cannot .*; onnxruntime cannot .*\): "):
        open_runner(exported)


def test_auto_takes_the_backend_that_has_the_precision(exported, monkeypatch):
    monkeypatch.setattr(backends.candidates("openvino")[0], "precisions", staticmethod(lambda stored: ("bf16",)))
    assert open_runner(exported, precision="fp32").spec.backend == "onnxruntime"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "cuda"}, "backend 'cuda': expected auto or one of .*openvino, onnxruntime"),
        (
            {"precision": "int3", "backend": "onnxruntime"},
            "precision 'int3': model small is run on this machine by onnxruntime in fp32, int8; choose one of these",
        ),
        ({"group": "elderly"}, "no group 'elderly': expected one of adults, kids"),
        ({"precision": "int3"}, "precision 'int3': .* by openvino in .*fp32, fp16, by onnxruntime in fp32"),
        ({"threads": 0}, "threads 0: expected 1 or more"),
        ({"batches": ()}, r"batches \(\): expected whole numbers from 1 up"),
        ({"batches": (1, 0)}, r"batches \(1, 0\): expected whole numbers from 1 up"),
        ({"batches": (2.5,)}, r"batches \(2.5,\): expected whole numbers"),
        ({"mode": "fast"}, "mode 'fast': expected latency or throughput"),
    ],
)
def test_names_that_do_not_exist(exported, options, message):
    with pytest.raises(UsageError, match=message):
        open_runner(exported, **options)


@EACH
def test_threads_can_be_given(exported, backend):
    assert open_runner(exported, backend=backend, threads=2).spec.threads == 2


@EACH
@pytest.mark.parametrize("length", [0, 100, -200])
def test_a_graph_cut_short_is_refused_even_with_its_own_hash(model, backend, length):
    graph = model / "adults.onnx"
    graph.write_bytes(graph.read_bytes()[:length])
    description = json.loads((model / "model.json").read_text())
    description["files"]["adults.onnx"] = sha256(graph)
    (model / "model.json").write_text(json.dumps(description))
    with pytest.raises(EngineError, match=r"adults\.onnx: .* (cannot|can be read)") as refused:
        open_runner(model, backend=backend, precision="fp32")
    assert "\n" not in str(refused.value)


@EACH
def test_altered_weights_are_refused(model, backend):
    with open(model / "weights.bin", "r+b") as file:
        file.write(b"\xff")
    with pytest.raises(ModelError, match=r"weights\.bin: altered"):
        open_runner(model, backend=backend)


@pytest.mark.parametrize(
    "options", [{}, {"precision": "fp16"}, {"batches": (1, 2)}, {"mode": "throughput", "batches": (2,)}]
)
def test_a_second_start_compiles_and_measures_nothing(exported, crops, monkeypatch, options):
    import openvino

    from engine import threads

    first = open_runner(exported, backend="openvino", **options)(pictures_of(crops))
    monkeypatch.setattr(openvino.Core, "compile_model", None)
    monkeypatch.setattr(threads, "fastest_ms", None)
    second = open_runner(exported, backend="openvino", **options)
    np.testing.assert_array_equal(second(pictures_of(crops)), first)


def test_threads_are_measured_once_for_all_groups(exported, monkeypatch):
    from engine import threads

    open_runner(exported, "adults", backend="openvino")

    def fastest_ms(*_: object) -> float:
        raise AssertionError("measured again")

    monkeypatch.setattr(threads, "fastest_ms", fastest_ms)
    open_runner(exported, "kids", backend="openvino")


@pytest.mark.parametrize(
    ("capabilities", "arithmetic"),
    [
        (["FP32", "INT8"], {"fp32": "f32", "fp16": "f32", "int8": "int8"}),
        (["FP32", "BF16", "INT8"], {"fp32": "f32", "fp16": "bf16", "bf16": "bf16", "int8": "int8"}),
        (["FP32", "FP16", "BF16"], {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "int8"}),
    ],
)
def test_what_openvino_computes_in_is_told(exported, monkeypatch, capabilities, arithmetic):
    """fp16 stores halves and computes in the best that the processor has; an engine for another one is not taken."""
    monkeypatch.setattr(sys.modules["engine.backends.openvino"], "_capabilities", lambda: capabilities)
    for precision, expected in arithmetic.items():
        spec = open_runner(exported, backend="openvino", precision=precision, threads=1).spec
        assert (spec.precision, spec.arithmetic) == (precision, expected)
    default = open_runner(exported, backend="openvino", threads=1).spec.precision
    assert default == ("bf16" if "bf16" in arithmetic else "int8")


def engine_file(cache: Path) -> Path:
    return next(path for path in cache.glob("*-adults-*.cache"))


FIELDS = ("livetoon", "digest", "precision", "size", "mode", "backend", "device", "capabilities", "batch")


def test_whatever_decides_an_engine_is_in_its_key(exported):
    (fields,) = keys_of(exported, Options()).values()
    assert set(fields) == set(FIELDS)
    assert (fields["digest"], fields["batch"]) == (manifest.open_files(exported).digest("fp32"), 1)
    assert len(keys_of(exported, Options(batches=(1, 4)))) == 2
    assert not keys_of(exported, Options(mode="throughput")).keys() & keys_of(exported, Options()).keys()


def keys_of(model: Path, options: Options) -> dict[str, dict[str, object]]:
    return backends.candidates("openvino")[0].engine_keys(manifest.open_files(model), "fp32", options)


@pytest.mark.parametrize("field", FIELDS)
def test_an_engine_with_another_key_is_made_anew_and_the_log_says_why(exported, own_cache, caplog, monkeypatch, field):
    import openvino

    open_runner(exported, backend="openvino", precision="fp32", threads=1)
    (slot, fields), cache = next(iter(keys_of(exported, Options()).items())), Cache(own_cache)
    assert cache.has(slot, fields)
    content = cache.load(slot, fields)
    cache.store(slot, {**fields, field: "another"}, content)
    with caplog.at_level(logging.INFO):
        open_runner(exported, backend="openvino", precision="fp32", threads=1)
    assert f"is for another {field}, made anew" in caplog.text
    assert cache.has(slot, fields)
    monkeypatch.setattr(openvino.Core, "compile_model", None)
    open_runner(exported, backend="openvino", precision="fp32", threads=1)


def test_engines_that_a_model_folder_brings_are_taken_wherever_it_lies(model, crops, tmp_path, own_cache, monkeypatch):
    import openvino

    (model / "engines").mkdir()
    expected = open_runner(model, backend="openvino")(pictures_of(crops))
    assert list((model / "engines").glob("*-adults-*.cache")) and not list(own_cache.iterdir())
    moved = model.rename(tmp_path / "moved")
    monkeypatch.setattr(openvino.Core, "compile_model", None)
    np.testing.assert_array_equal(open_runner(moved, backend="openvino")(pictures_of(crops)), expected)


OPEN = (
    "import logging, sys; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
    "from engine.runner import open_runner\n"
    "open_runner(sys.argv[1], backend='openvino', precision='fp32', threads=1)"
)


def opening(model: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", OPEN, str(model)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)


def test_of_two_starts_at_once_one_builds_and_the_other_waits_for_it(exported, own_cache):
    slot = next(iter(keys_of(exported, Options())))
    with Cache(own_cache).lock(slot):
        both = [opening(exported) for _ in range(2)]
        said = [process.stderr.readline() for process in both]
    for process in both:
        rest = process.communicate(timeout=60)[1]
        assert process.returncode == 0
        assert rest == ""
    assert said == [f"waiting for another build of {slot}\n"] * 2
    assert [path.name for path in own_cache.iterdir()] == [f"{slot}.cache"]


def test_a_killed_build_leaves_nothing_that_is_picked_up(exported, own_cache, crops):
    """Killed while it writes, and while it holds the lock."""
    program = OPEN.replace("from engine", "import os; os.fsync = lambda file: os.kill(os.getpid(), 9)\nfrom engine", 1)
    command = [sys.executable, "-c", program, str(exported)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    assert killed.returncode == -9
    left = {path.suffix for path in own_cache.iterdir()}
    assert left == {".cache", ".lock"} and all(path.name.startswith(".") for path in own_cache.iterdir())
    open_runner(exported, backend="openvino", precision="fp32", threads=1)(pictures_of(crops))
    slot, fields = next(iter(keys_of(exported, Options()).items()))
    assert Cache(own_cache).has(slot, fields)


@pytest.mark.parametrize("change", [lambda content: content[:-9], lambda content: b"", lambda content: content[:200]])
def test_a_spoilt_cache_is_made_anew(exported, crops, own_cache, caplog, change):
    expected = open_runner(exported, backend="openvino")(pictures_of(crops))
    path = engine_file(own_cache)
    path.write_bytes(change(path.read_bytes()))
    np.testing.assert_array_equal(open_runner(exported, backend="openvino")(pictures_of(crops)), expected)
    assert "cannot be used" in caplog.text
    caplog.clear()
    open_runner(exported, backend="openvino")
    assert caplog.text == ""


def test_an_engine_that_openvino_refuses_is_made_anew(exported, crops, own_cache, caplog):
    expected = open_runner(exported, backend="openvino")(pictures_of(crops))
    path = engine_file(own_cache)
    fields = json.loads(path.read_bytes().split(b"\n")[0])["fields"]
    Cache(own_cache).store(path.stem, fields, b"another version's engine")
    np.testing.assert_array_equal(open_runner(exported, backend="openvino")(pictures_of(crops)), expected)
    assert "OpenVINO cannot load it" in caplog.text


@EACH
def test_without_a_cache_it_works_too(exported, crops, tmp_path, monkeypatch, caplog, backend):
    expected = open_runner(exported, backend=backend)(pictures_of(crops))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(open_runner(exported, backend=backend)(pictures_of(crops)), expected)
    assert "the next start takes longer" in caplog.text


def test_another_models_engine_is_never_taken(exported, model, crops, make_generator):
    from engine.export import export

    before = open_runner(model)(pictures_of(crops))
    export(
        make_generator("live", 1, groups=["adults"], widths=(8, 16, 16, 32), blocks=(1, 1, 1)),
        model,
        size=64,
        report=lambda line: None,
    )
    after = open_runner(model)(pictures_of(crops))
    assert np.abs(after.astype(int) - before).max() > 20


def test_opening_needs_neither_torch_nor_onnx(exported):
    program = (
        "import sys; from engine.runner import open_runner; import numpy as np\n"
        "for backend in ('auto', 'openvino', 'onnxruntime'):\n"
        "    open_runner(sys.argv[1], backend=backend)(np.zeros((1, 64, 64, 3), np.uint8))\n"
        "print([name for name in ('torch', 'onnx', 'trainer') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
