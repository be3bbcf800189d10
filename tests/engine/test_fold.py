"""Folded translation networks draw what they drew."""

import onnx
import onnxruntime
import pytest
import torch

import trainer.networks
from engine import export
from engine.drawing_graph import ALONE, alone
from engine.fold import FoldedCAM, FoldedDecoder, FoldedHourGlass, folded
from livetoon.errors import ModelError

SIDE = 32
TOLERANCE = 1e-3  # norms over few pixels magnify rounding: float32 is 3e-4 from float64, a wrong fold 0.1
NETWORKS = {
    "photo2cartoon": {"width": 8, "size": SIDE},
    "photo2cartoon full, heads": {"width": 8, "size": SIDE, "light": False, "own": ["cam", "up2"], "heads": 2},
    "ugatit": {"width": 8, "size": SIDE, "blocks": 2},
    "cyclegan": {"width": 8, "blocks": 2},
}


def network(name: str) -> torch.nn.Module:
    """Of two groups, every mixing weight somewhere between its ends."""
    torch.manual_seed(0)
    made = trainer.networks.build(name.split()[0], groups=["adults", "kids"], **NETWORKS[name]).eval()
    for parameter_name, parameter in made.named_parameters():
        parameter.requires_grad_(False)
        if parameter_name.split(".")[-1] in ("rho", "w_gamma", "w_beta"):
            parameter.uniform_(0.1, 0.9)
    return made


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_draws_the_same(name):
    generator = network(name)
    crops = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for group in generator.groups:
        expected = generator(crops, group).image
        got = folded(alone(generator, group))(crops, ALONE).image
        assert (got - expected).abs().max() < TOLERANCE


def test_every_part_that_can_be_folded_is():
    network_kinds = {type(module) for module in folded(alone(network("photo2cartoon"), "kids")).modules()}
    assert {FoldedCAM, FoldedDecoder, FoldedHourGlass} <= network_kinds


def test_an_exported_graph_is_small_takes_any_number_of_crops_and_no_norm_over_one_group(tmp_path):
    generator = network("photo2cartoon")
    described = export.export(generator, tmp_path / "p", size=SIDE, report=lambda line: None)
    assert described.batch is None
    for name in ("adults.onnx", "kids.onnx"):
        graph = onnx.load(tmp_path / "p" / name).graph
        kinds = [node.op_type for node in graph.node]
        assert "GroupNormalization" not in kinds and {"InstanceNormalization", "LayerNormalization"} <= set(kinds)
        assert kinds.count("Gemm") + kinds.count("MatMul") == 5  # 50 before
        assert len(kinds) == described.nodes[name] < described.traced_nodes[name]
        stored = {value.name for value in graph.initializer}
        assert all(set(node.input) - stored for node in graph.node)  # nothing is left that constants alone decide
    session = onnxruntime.InferenceSession(tmp_path / "p" / "kids.onnx")
    crops = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    got = session.run(["rgba"], {"crop": crops.numpy()})[0]
    expected = (generator(crops, "kids").image + 1) / 2
    assert abs(got[:, :3] - expected.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("name", ["ugatit", "cyclegan"])
def test_no_graph_holds_a_group_norm(name, tmp_path):
    described = export.export(network(name), tmp_path / "p", size=SIDE, report=lambda line: None)
    for graph in described.nodes:
        assert "GroupNormalization" not in {node.op_type for node in onnx.load(tmp_path / "p" / graph).graph.node}


def test_a_network_with_a_group_norm_of_one_group_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "trainer.networks.layers.InstanceNorm.forward", lambda self, x: torch.nn.functional.group_norm(x, 1)
    )
    with pytest.raises(ModelError, match="holds a GroupNormalization, which engines compute wrongly"):
        export.export(network("cyclegan"), tmp_path / "p", size=SIDE, report=lambda line: None)
    assert not (tmp_path / "p").exists()
