"""The latency benchmark on a small network: its rows, its reference network, its command. No speed is asserted."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import latency, latency_plot, measured, readme, subjects, timing
from benchmarks.contenders import COMPILED, CPU, EAGER, PYTORCH, SAME_DB, Contender
from benchmarks.eager import eager_network
from benchmarks.worker import GivenUp, Worker
from engine import backends, machine
from engine.export import export
from engine.proof import astronaut_crops, psnr_db
from livetoon.errors import EngineError, ModelError
from trainer.checkpoint import save_generator
from trainer.networks import build

SIZE = 64


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    made = build("live", groups=["adults", "kids"], widths=(8, 16, 16, 32), blocks=(1, 1, 1)).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return made


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("models") / "small"
    export(network, made, size=SIZE, report=lambda line: None)
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # where tests run side by side, threads that spin take seconds


def test_the_network_behind_a_model_folder(network, folder):
    restored = eager_network(folder)
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for group in network.groups:
        with torch.inference_mode():
            assert psnr_db(restored(x, group).numpy(), network(x, group).numpy()) > 60
    assert sum(isinstance(module, nn.BatchNorm2d) for module in restored.modules()) == sum(
        isinstance(module, nn.BatchNorm2d) for module in network.modules()
    )


def test_a_network_that_was_never_trained_comes_back_too(tmp_path):
    """Its biases are all zero: the exporter stores equal ones once or leaves them out."""
    torch.manual_seed(0)
    fresh = build("live", groups=["adults"], widths=(4, 8, 8, 8), blocks=(0, 1, 0)).eval()
    export(fresh, tmp_path / "fresh", size=SIZE, report=lambda line: None)
    x = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    with torch.inference_mode():
        expected = fresh(x, "adults").numpy()
        assert psnr_db(eager_network(tmp_path / "fresh")(x, "adults").numpy(), expected) > 60


def test_a_folder_of_another_network_is_refused(folder, tmp_path):
    description = json.loads((folder / "model.json").read_text())
    description["settings"]["widths"] = [8, 16, 16, 48]
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="the graph of adults is not network live with its settings"):
        eager_network(tmp_path)


ALONE = ["--precisions", "fp32", "--compile-limit", "0"]


def test_command(folder, tmp_path, capsys):
    out, plot = tmp_path / "here-latency.json", tmp_path / "here.png"
    asked = ["--model", str(folder), "--precisions", "fp32", "--batches", "2,1", "--compile-limit", "0.01", "--quick"]
    assert latency.main([*asked, "--json", str(out), "--plot", str(plot)]) == 0
    found = json.loads(out.read_text())
    rows, cores = found["rows"], machine.cores()
    assert {row["backend"] for row in rows} == {*backends.usable(("fp32",)), *PYTORCH} - {COMPILED}
    for row in rows:
        assert (row["model"], row["network"], row["precision"]) == ("small", "live", "fp32")
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch"] / row["p50_ms"], rel=0.01, abs=0.06)
        assert row["psnr_db_worst"] <= row["psnr_db"] and row["psnr_db"] > 60
        assert row["roofline_share"] > 0
    assert [row["batch"] for row in rows] == sorted(row["batch"] for row in rows)
    for batch in (1, 2):
        together = [row for row in rows if row["batch"] == batch]
        eager = together[0]
        assert (eager["backend"], eager["threads"], eager["ratio_to_eager"]) == (EAGER, cores, 1)
        assert {row["threads"] for row in together} == ({1, cores} if batch == 1 else {cores})
        pytorch = [row for row in together if row["backend"] in PYTORCH]
        strongest = min(pytorch, key=lambda row: row["p50_ms"])
        assert [row for row in together if row["strongest_pytorch"]] == [strongest]
        for row in together:
            assert row["ratio_to_eager"] == pytest.approx(eager["p50_ms"] / row["p50_ms"], rel=0.01, abs=0.006)
            assert row["ratio_to_pytorch"] == pytest.approx(strongest["p50_ms"] / row["p50_ms"], rel=0.01, abs=0.006)
    assert rows[0]["psnr_db"] >= SAME_DB
    memory = {row["backend"]: row["peak_memory_mb"] for row in rows}
    assert 20 < memory["onnxruntime"] < memory[EAGER], "an engine's process should not hold torch"
    given_up = [(row["backend"], row["batch"], row["why"]) for row in found["left_out"]]
    assert given_up == [
        (COMPILED, 1, "given up after 0.01 s"),
        (COMPILED, 2, "not tried: it was given up before"),
    ]
    assert {(each["device"], each["threads"]) for each in found["rates"]} == {("cpu", 1), ("cpu", cores)}
    assert found["models"]["small"]["gmac"] > 0
    assert found["crops"]["judged"] == latency.QUICK_CROPS
    assert found["machine"]["versions"]["torch"] == torch.__version__
    said = capsys.readouterr().out
    assert "x PyTorch" in said and said.count("given up after 0.01 s") == 1 and "quick: a look" in said
    assert cv2.imread(str(plot)).std() > 10
    shown = readme.live_figures(tmp_path)
    assert found["machine"]["processor"] in shown and "small, torch.compile fp32: given up after 0.01 s." in shown
    assert shown.count(", strongest PyTorch |") == 1 and shown.count("| openvino |") == len({1, cores})


def test_a_checkpoint_is_exported_first(tmp_path):
    tiny = build("live", groups=["adults"], widths=(4, 8, 8, 8), blocks=(0, 1, 0))
    save_generator(tmp_path / "tiny.safetensors", tiny)
    (tmp_path / "scratch").mkdir()
    opened = subjects.opened(str(tmp_path / "tiny.safetensors"), tmp_path / "scratch", None)
    assert (opened.name, opened.network, opened.group, opened.alpha) == ("tiny", "live", "adults", True)
    assert (opened.folder / "adults.onnx").is_file() and opened.weights.is_file()
    assert opened.without_int8 is None


def test_a_model_that_int8_does_not_suit_is_measured_without(tmp_path, monkeypatch):
    exported = subjects.from_run.exported

    def misses(path, *form):
        if form:
            raise ModelError("adults.int8.onnx differs from torch")
        return exported(path)

    monkeypatch.setattr(subjects.from_run, "exported", misses)
    save_generator(tmp_path / "tiny.safetensors", build("live", groups=["adults"], widths=(4, 8, 8, 8)))
    opened = subjects.opened(str(tmp_path / "tiny.safetensors"), tmp_path, [subjects.astronaut_folder()])
    assert opened.without_int8 == "adults.int8.onnx differs from torch"
    assert (opened.folder / "adults.onnx").is_file()


def test_crops_that_calibrate_are_not_those_that_judge():
    calibrating = {path.read_bytes() for path in subjects.astronaut_folder().iterdir()}
    assert len(calibrating) == subjects.CALIBRATING
    judging = astronaut_crops(latency.CROPS, subjects.CROP_SIZE)
    assert calibrating.isdisjoint(cv2.imencode(".png", crop[..., ::-1])[1].tobytes() for crop in judging)


def test_a_row_that_cannot_run_is_left_out_with_its_reason(folder, tmp_path, monkeypatch):
    subject = subjects.opened(str(folder), tmp_path, None)
    rows = [
        Contender(subject, EAGER, "fp32", CPU, machine.cores(), 1),
        Contender(subject, "openvino", "fp8", CPU, 1, 1),
    ]
    monkeypatch.setattr(measured, "contenders", lambda *_: rows)
    found = measured.Found()
    extent = measured.Extent(timing.Effort(rounds=1), (1,), 0)
    measured.measure(subject, astronaut_crops(1, SIZE), extent, (), found, lambda line: None)
    assert [row["backend"] for row in found.rows] == [EAGER]
    assert [row["backend"] for row in found.left_out] == ["openvino"]
    assert "fp8" in found.left_out[0]["why"]


def test_two_models_of_one_name_are_refused(folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    assert latency.main(["--model", str(folder), str(other), *ALONE, "--quick"]) == 2
    assert "--model: two models are called small" in capsys.readouterr().err


def test_a_process_that_ends_costs_its_batch_alone(folder, tmp_path, monkeypatch):
    subject = subjects.opened(str(folder), tmp_path, None)
    monkeypatch.setattr(
        measured, "contenders", lambda _, batch, *__: [Contender(subject, EAGER, "fp32", CPU, machine.cores(), batch)]
    )
    interleaved = timing.interleaved

    def killed(rows, *rest):
        (row,) = rows
        if row.contender.batch == 1:
            row.worker._process.kill()
        return interleaved(rows, *rest)

    monkeypatch.setattr(timing, "interleaved", killed)
    found = measured.Found()
    extent = measured.Extent(timing.Effort(rounds=1), (1, 2), 0)
    measured.measure(subject, astronaut_crops(1, SIZE), extent, (), found, lambda line: None)
    assert [(row["batch"], row["psnr_db"] >= SAME_DB) for row in found.rows] == [(2, True)]
    (lost,) = found.left_out
    assert (lost["backend"], lost["batch"]) == ("all", 1)
    assert lost["why"] == "pytorch eager fp32: its process ended with code -9; was memory enough?"


def test_what_takes_too_long_is_given_up_and_gone(folder, tmp_path):
    subject = subjects.opened(str(folder), tmp_path, None)
    with Worker(Contender(subject, EAGER, "fp32", CPU, 1, 8), astronaut_crops(8, SIZE)) as worker:
        worker.open()
        with pytest.raises(GivenUp, match="given up after 0 s"):
            worker.start(limit_s=0)
        with pytest.raises(EngineError, match="its process ended"):
            worker.start()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--precisions", "fp32,fp33"], "--precisions fp33: expected some of fp32, fp16, bf16, int8"),
        (["--batches", "1,0"], "--batches 1,0: expected whole numbers from 1 up"),
        (["--compile-limit", "-1"], "--compile-limit -1: expected seconds"),
        (["--json", "nowhere/latency.json"], "nowhere/latency.json: its folder is not there"),
        (["--plot", "latency.gif"], "--plot latency.gif: expected NAME.png, .svg or .pdf"),
    ],
)
def test_options_that_cannot_be(asked, said, capsys):
    assert latency.main(asked) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_command_with_a_model_that_is_not_there(capsys):
    assert latency.main(["--model", "nobody", *ALONE]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_figures_of_a_graphics_card(tmp_path):
    """What a run on a GPU writes, as there may be none here."""
    common = {"model": "m", "network": "live", "batch": 1, "device": "cuda", "threads": None, "arithmetic": "f16"}
    took = {"p50_ms": 1.0, "p95_ms": 1.5, "p99_ms": 2.0, "min_ms": 0.9, "cpu_ms": 0.5, "calls": 60}
    ratios = {"images_per_s": 1000.0, "ratio_to_eager": 1.0, "ratio_to_pytorch": 1.0, "roofline_share": 0.5}
    rest = {"peak_memory_mb": 900, "gpu_memory_mb": 300, "psnr_db": 70.0, "psnr_db_worst": 69.0, **took, **ratios}
    rows = [
        {**common, "backend": EAGER, "precision": "fp32", "cuda_graphs": False, "strongest_pytorch": True, **rest},
        *(
            {**common, "backend": "tensorrt", "precision": "fp16", "strongest_pytorch": False, **rest, **graphs}
            for graphs in ({"cuda_graphs": True, "p50_ms": 0.5}, {"cuda_graphs": False, "p50_ms": 0.7})
        ),
    ]
    result = {
        "machine": timing.described_machine(["torch"]) | {"gpu": "NVIDIA X"},
        "quick": False,
        "crops": {"judged": 64, "of": "the astronaut", "calibrating": "the astronaut"},
        "models": {"m": {"network": "live", "size": 256, "gmac": 1.0, "moved_mb": 10}},
        "rates": [{"device": "cuda", "threads": None, "arithmetic": "f16", "gflop_per_s": 9e4, "gb_per_s": 3e3}],
        "rows": [*rows, *({**row, "batch": 4} for row in rows)],
        "left_out": [],
    }
    said = latency.report(result)
    assert "NVIDIA X" in said and "GPU MB" in said and "off" in said
    (tmp_path / "card-latency.json").write_text(json.dumps(result))
    shown = readme.live_figures(tmp_path)
    assert "| m | tensorrt with CUDA graphs | fp16 | GPU | 0.5 |" in shown
    latency_plot.write(result, tmp_path / "card.svg")
    assert "tensorrt fp16, GPU, graphs" in (tmp_path / "card.svg").read_text()


def test_crops_are_real_and_the_same_every_time():
    first = astronaut_crops(4, SIZE)
    assert (first.shape, first.dtype) == ((4, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(first, astronaut_crops(4, SIZE))
    assert all(20 < each.std() < 120 for each in first)
    assert len({each.tobytes() for each in first}) == 4
