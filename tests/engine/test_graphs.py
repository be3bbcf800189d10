"""Graphs in one piece, in every precision and with pictures at both ends."""

import numpy as np
import onnxruntime
import pytest

from engine import graphs, manifest
from engine.graphs import read_graph
from livetoon.errors import EngineError


def run(model, crops: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(["rgba"], {"crop": crops})[0]


@pytest.fixture
def files(exported) -> manifest.ModelFiles:
    return manifest.open_files(exported, "kids")


@pytest.mark.parametrize(
    ("precision", "rest", "error"), [("fp16", "fp32", 0.02), ("int8", "fp32", 0.2), ("int8", "fp16", 0.2)]
)
def test_every_precision_draws_nearly_the_same(files, crops, precision, rest, error):
    expected = run(read_graph(files, "fp32"), crops.numpy())
    got = run(read_graph(files, precision, rest=rest), crops.numpy())
    assert 0 < np.abs(got - expected).max() < error


def test_a_graph_in_one_piece_needs_no_file_beside_it(files, crops, tmp_path, monkeypatch):
    model = read_graph(files, "fp32")
    assert not any(value.external_data for value in model.graph.initializer)
    assert "Cast" not in {node.op_type for node in model.graph.node}
    monkeypatch.chdir(tmp_path)
    assert run(model, crops.numpy()).shape == (3, 4, 64, 64)


def test_pictures_at_both_ends(files, crops):
    pictures = np.rint((crops.numpy() + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    got = run(read_graph(files, "fp32", pictures=True), np.ascontiguousarray(pictures))
    expected = run(read_graph(files, "fp32"), crops.numpy()) * 255
    assert got.dtype == np.uint8 and got.shape == (3, 64, 64, 4)
    assert np.abs(got.transpose(0, 3, 1, 2) - expected).max() <= 0.51


def test_a_fixed_batch(files, crops):
    model = read_graph(files, "fp32", batch=2)
    assert run(model, crops[:2].numpy()).shape[0] == 2
    with pytest.raises(Exception, match="Expected: 2"):
        run(model, crops.numpy())


def test_a_precision_that_no_graph_has(files):
    with pytest.raises(EngineError, match="precision 'bf16': a graph is written in fp32, fp16 or int8"):
        read_graph(files, "bf16")


def test_a_graph_that_is_cut_short(model):
    graph = model / "kids.onnx"
    files = manifest.open_files(model, "kids")
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(EngineError, match=f"{graph}: not a graph that can be read"):
        read_graph(files, "fp32")


def test_the_command_writes_one_file(exported, crops, tmp_path, capsys):
    out = tmp_path / "kids.onnx"
    options = ["--group", "kids", "--precision", "fp16", "--pictures", "--batch", "1"]
    assert graphs.main([str(exported), str(out), *options]) == 0
    assert "kids, fp16" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(out)
    assert [(each.name, each.shape, each.type) for each in (*session.get_inputs(), *session.get_outputs())] == [
        ("crop", [1, 64, 64, 3], "tensor(uint8)"),
        ("rgba", [1, 64, 64, 4], "tensor(uint8)"),
    ]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--batch", "0"], 2, "--batch 0: expected 1 or more"),
        (["--group", "giants"], 2, "has no group 'giants': expected one of adults, kids"),
    ],
)
def test_the_command_used_wrongly(exported, tmp_path, capsys, options, code, message):
    assert graphs.main([str(exported), str(tmp_path / "out.onnx"), *options]) == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
