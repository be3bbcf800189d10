"""The latency benchmark on a small network: its rows, its reference network, its command. No speed is asserted."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import crops, latency, readme, timing
from benchmarks.eager import eager_network
from engine import backends
from engine.export import export, psnr_db
from livetoon.errors import ModelError
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


def test_rows_have_speed_and_accuracy_of_every_backend(network, folder):
    pictures = crops.astronaut_crops(3, SIZE)
    found = latency.contenders("small", folder, network, pictures[0])
    rows = latency.measure(found, pictures, rounds=1, progress=lambda done: None)
    assert rows[0]["backend"] == "pytorch eager"
    assert {row["backend"] for row in rows[1:]} == set(backends.usable(("fp32",)))
    assert rows[0]["ratio_to_eager"] == 1 and "psnr_db" not in rows[0]
    for row in rows:
        assert (row["model"], row["network"], row["batch"]) == ("small", "live", 1)
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"]
        assert row["ratio_to_eager"] == pytest.approx(rows[0]["p50_ms"] / row["p50_ms"], abs=0.006)
    for row in rows[1:]:
        assert row["psnr_db_worst"] <= row["psnr_db"]
        assert row["psnr_db_worst"] > (60 if row["precision"] == "fp32" else 30)


def test_command(folder, tmp_path, capsys):
    out = tmp_path / "here-latency.json"
    assert latency.main(["--model", str(folder), "--quick", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {row["model"] for row in found["rows"]} == {"small", "live-dense"}
    assert found["machine"]["versions"]["torch"] == torch.__version__
    assert "x eager" in capsys.readouterr().out
    shown = readme.live_figures(tmp_path)
    assert found["machine"]["processor"] in shown
    assert shown.count("| small |") + shown.count("| live-dense |") == len(found["rows"])


def test_a_checkpoint_is_exported_first(tmp_path):
    tiny = build("live", groups=["adults"], widths=(4, 8, 8, 8), blocks=(0, 1, 0))
    save_generator(tmp_path / "tiny.safetensors", tiny)
    with latency.opened(str(tmp_path / "tiny.safetensors")) as (name, folder, network):
        assert name == "tiny"
        assert (folder / "adults.onnx").is_file()
        assert network.groups == ("adults",)
    assert not folder.exists()


def test_command_with_a_model_that_is_not_there(capsys):
    assert latency.main(["--model", "nobody"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_crops_are_real_and_the_same_every_time():
    first = crops.astronaut_crops(4, SIZE)
    assert (first.shape, first.dtype) == ((4, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(first, crops.astronaut_crops(4, SIZE))
    assert all(20 < each.std() < 120 for each in first)
    assert len({each.tobytes() for each in first}) == 4


def test_interleaved_measures_milliseconds_in_turn():
    order = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.02)

    found = timing.interleaved({"slow": slow, "quick": lambda: order.append("quick")}, rounds=2, per_round=3)
    assert order == (["slow"] * 4 + ["quick"] * 4) * 2
    assert found["slow"].calls == 6
    assert 20 <= found["slow"].min_ms <= found["slow"].p50_ms <= found["slow"].p95_ms
    assert found["slow"].cpu_ms < 20


def test_table_without_rows_and_with_gaps():
    assert timing.table([], {"a": "A"}) == "A"
    assert timing.table([{"a": "x", "b": 1.25}, {"a": "yy"}], {"a": "A", "b": "ms"}) == "A    ms\nx   1.2\nyy    -"
