import itertools
import json
import resource
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from engine import export, live_graph, manifest
from engine.proof import psnr_db
from livetoon.errors import ModelError, UsageError

SIZE = 32
TINY = {"groups": ["adults"], "widths": (4, 8, 8, 8), "blocks": (0, 1, 0)}


def quiet(line: str) -> None:
    pass


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def tiny(make_generator) -> nn.Module:
    return make_generator("live", **TINY)


@pytest.fixture(scope="module")
def first(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "tiny"
    export.export(tiny, folder, size=SIZE, report=quiet)
    return folder


def test_the_folder_is_complete_and_opens(exported, generator):
    described = manifest.read(exported)
    assert described.groups == generator.groups == ("adults", "kids")
    assert (described.network, described.name, described.batch) == ("live", "small", None)
    assert "non-commercial" in described.licence and described.own_lines
    assert sorted(path.name for path in exported.iterdir()) == [
        "MODEL_CARD.md",
        "adults.int8.onnx",
        "adults.onnx",
        "calibration.json",
        "kids.int8.onnx",
        "kids.onnx",
        "model.json",
        "weights.bin",
    ]


def test_only_plain_operations_remain(exported):
    for group in ("adults", "kids"):
        graph = onnx.load(exported / f"{group}.onnx").graph
        assert {node.op_type for node in graph.node} == live_graph.KINDS | {"Cast"}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        assert len(convolutions) == sum(node.op_type == "Cast" for node in graph.node)
        assert manifest.read(exported).nodes[f"{group}.onnx"] == len(graph.node)


def places(graph: Path) -> dict[str, tuple[int, int]]:
    """Constant -> offset and length in the weights file."""
    found = {}
    for value in onnx.load(graph, load_external_data=False).graph.initializer:
        entry = {each.key: each.value for each in value.external_data}
        assert entry["location"] == manifest.WEIGHTS
        found[value.name] = int(entry["offset"]), int(entry["length"])
    return found


def test_what_groups_share_is_stored_once_and_weights_in_half_precision(exported, generator):
    used = {name: places(exported / name) for name in manifest.read(exported).nodes}
    for name in ("generator.trunk.deep.0.widen.0.weight.half", "generator.trunk.deep.0.widen.0.bias"):
        assert used["adults.onnx"][name] == used["kids.onnx"][name]
    own = "generator.branches.{}.out.weight.half"
    assert used["adults.onnx"][own.format("adults")] != used["kids.onnx"][own.format("kids")]
    codes = "generator.trunk.deep.0.widen.0.weight.int8"
    assert used["adults.int8.onnx"][codes] == used["kids.int8.onnx"][codes]
    numbers = generator.trunk.deep[0].widen[0].weight.numel()
    assert used["adults.onnx"]["generator.trunk.deep.0.widen.0.weight.half"][1] == 2 * numbers
    assert used["adults.int8.onnx"][codes][1] == numbers

    stored = sorted({place for each in used.values() for place in each.values()})
    assert all(offset + length <= following for (offset, length), (following, _) in itertools.pairwise(stored))
    padding = 63 * len(stored)
    assert (exported / manifest.WEIGHTS).stat().st_size <= sum(length for _, length in stored) + padding


def test_every_convolution_of_an_int8_graph_reads_int8(exported):
    for group in ("adults", "kids"):
        model = onnx.load(exported / f"{group}.int8.onnx")
        made_by = {node.output[0]: node for node in model.graph.node}
        stored = {value.name: value for value in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Conv":
                assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
                assert made_by[made_by[node.input[0]].input[0]].op_type == "QuantizeLinear"
                assert stored[made_by[node.input[1]].input[0]].data_type == onnx.TensorProto.INT8
                assert stored[node.input[2]].data_type == onnx.TensorProto.FLOAT


def test_the_manifest_tells_operations_and_the_share_of_int8(exported):
    described = manifest.read(exported)
    assert described.traced_nodes["kids.onnx"] > described.nodes["kids.onnx"] - len(kept_weights(exported))
    assert {group: each["share"] for group, each in described.int8.items()} == {"adults": 1, "kids": 1}
    told = json.loads((exported / "calibration.json").read_text())["groups"]["kids"]
    assert told["method"] in ("percentile", "largest", "entropy") and told["kept"] == []
    graph = onnx.load(exported / "kids.int8.onnx").graph
    stored = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    for tensor, largest in told["ranges"].items():
        assert stored[f"{tensor}.scale"] * 127 == pytest.approx(largest, rel=1e-4)


def kept_weights(folder: Path) -> list[str]:
    """Casts of half-precision weights, which are no operations of the network."""
    return [node.name for node in onnx.load(folder / "kids.onnx").graph.node if node.op_type == "Cast"]


def test_convolutions_that_spoil_the_picture_stay_float(tiny, tmp_path):
    calibration = np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 3), np.uint8)
    lines = []
    export.export(tiny, tmp_path / "fine", size=SIZE, calibration=calibration, report=lines.append, int8_db=20)
    assert manifest.read(tmp_path / "fine").int8["adults"]["kept"] == []
    described = export.export(
        tiny, tmp_path / "strict", size=SIZE, calibration=calibration, report=lines.append, int8_db=200
    ).int8["adults"]
    assert described["kept"] and 0.8 <= described["share"] < 1
    graph = onnx.load(tmp_path / "strict" / "adults.int8.onnx").graph
    made_by = {node.output[0]: node.op_type for node in graph.node}
    wide = {node.name for node in graph.node if node.op_type == "Conv" and made_by.get(node.input[1]) is None}
    assert wide == set(described["kept"])
    assert any("INT8 misses 200.0 dB" in line and "--qat" in line for line in lines)


def test_too_few_crops_to_calibrate_on(tiny, tmp_path):
    with pytest.raises(UsageError, match="--int8: 3 crops are too few"):
        export.export(tiny, tmp_path / "tiny", calibration=np.zeros((3, 256, 256, 3), np.uint8), report=quiet)


def test_nothing_of_this_machine_is_written(exported):
    for path in exported.iterdir():
        content = path.read_bytes()
        assert str(Path.home()).encode() not in content or str(Path.home()) == "/"
        assert b"site-packages" not in content
        assert b"trainer/networks" not in content


def test_the_same_weights_give_the_same_bytes_and_every_group_its_proof(tiny, first, tmp_path):
    again = tmp_path / "tiny"
    lines = []
    export.export(tiny, again, size=SIZE, report=lines.append)
    assert bytes_of(again) == bytes_of(first)
    proofs = [line for line in lines if "dB against torch" in line and "largest error" in line]
    assert [line.split(":")[0] for line in proofs] == ["adults"]
    assert float(proofs[0].split()[1]) > 60


def test_a_fixed_batch(tiny, tmp_path):
    folder = tmp_path / "tiny"
    assert export.export(tiny, folder, size=SIZE, batch=2, report=quiet).batch == 2
    session = onnxruntime.InferenceSession(folder / "adults.onnx")
    assert session.get_inputs()[0].shape == [2, 3, SIZE, SIZE]


def test_the_dense_network_exports_too(make_generator, tmp_path):
    dense = make_generator("live-dense", groups=["everyone"])
    described = export.export(dense, tmp_path / "dense", size=SIZE, report=quiet)
    assert described.network == "live-dense"


def test_a_group_that_is_gone_goes_and_what_no_model_listed_stays(tiny, first, tmp_path):
    folder = Path(shutil.copytree(first, tmp_path / "tiny"))
    (folder / "MODEL_CARD.md").write_text("written by hand")
    (folder / "elderly.onnx").write_bytes(b"of an earlier model")
    (folder / "mine.onnx").write_bytes(b"somebody's own")
    described = json.loads((folder / "model.json").read_text())
    described["files"]["elderly.onnx"] = "0" * 64
    (folder / "model.json").write_text(json.dumps(described))
    export.export(tiny, folder, size=SIZE, report=quiet)
    assert (folder / "MODEL_CARD.md").read_text() == "written by hand"
    assert not (folder / "elderly.onnx").exists()
    assert (folder / "mine.onnx").read_bytes() == b"somebody's own"


def test_without_a_model_description_nothing_is_removed(tiny, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(b"somebody's own")
    export.export(tiny, tmp_path, size=SIZE, report=quiet)
    assert (tmp_path / "mine.onnx").exists()


class Twisted(nn.Module):
    """A network whose picture is not the one that its logits promise."""

    network_name = "twisted"
    groups = ("adults",)
    settings: ClassVar[dict] = {}

    def __init__(self, true: nn.Module):
        super().__init__()
        self.true = true

    def logits(self, x: torch.Tensor, group: str) -> torch.Tensor:
        return self.true.logits(x, group)

    def forward(self, x: torch.Tensor, group: str) -> torch.Tensor:
        return self.true(x, group).flip(-1)


class Unfolded(Twisted):
    """A network that computes in a way which the rewrites do not know."""

    def logits(self, x: torch.Tensor, group: str) -> torch.Tensor:
        return self.true.logits(torch.tanh(x), group)


class Headless(Twisted):
    """A network whose last step is no pixel-shuffle."""

    def logits(self, x: torch.Tensor, group: str) -> torch.Tensor:
        return self.true.logits(x, group) * 2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Twisted, r"adults\.onnx differs from torch: .* nothing was written"),
        (Unfolded, r"are left: .*'Tanh'"),
        (Headless, r"does not end in a convolution and a pixel-shuffle"),
    ],
)
def test_a_graph_that_is_wrong_replaces_nothing(tiny, first, tmp_path, kind, message):
    folder = Path(shutil.copytree(first, tmp_path / "tiny"))
    before = bytes_of(folder)
    with pytest.raises(ModelError, match=message):
        export.export(kind(tiny), folder, size=SIZE, report=quiet)
    assert bytes_of(folder) == before


def test_a_full_disk_names_the_folder_and_replaces_nothing(tiny, first, tmp_path):
    folder = Path(shutil.copytree(first, tmp_path / "tiny"))
    before, limits = bytes_of(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["weights.bin"]) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=f"File too large; what was there before is kept: '{folder}'"):
            export.export(tiny, folder, size=SIZE, report=quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bytes_of(folder) == before


@pytest.mark.parametrize(("option", "value"), [("batch", 0), ("size", 8), ("size", 100)])
def test_sizes_that_cannot_be(tiny, tmp_path, option, value):
    with pytest.raises(UsageError, match=f"--{option} {value}: expected"):
        export.export(tiny, tmp_path / "tiny", report=quiet, **{option: value})
    assert not (tmp_path / "tiny").exists()


def test_command(tiny, tmp_path, capsys):
    from trainer.checkpoint import save_generator

    save_generator(tmp_path / "tiny.safetensors", tiny)
    out = tmp_path / "zoo" / "tiny"
    assert export.main([str(tmp_path / "tiny.safetensors"), str(out), "--name", "mine", "--size", "32"]) == 0
    assert "1 groups" in capsys.readouterr().out
    described = json.loads((out / "model.json").read_text())
    assert described["name"] == "mine" and described["own_lines"]
    assert export.main([str(tmp_path / "tiny.safetensors"), str(out), "--size", "32", "--reshapes"]) == 0
    assert not json.loads((out / "model.json").read_text())["own_lines"]


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_graph_that_draws_no_numbers_is_no_proof(make_generator, tmp_path):
    too_large = make_generator("live", **TINY)
    too_large.trunk.up4.weight.data *= 1e9  # infinite in half precision
    with pytest.raises(ModelError, match=r"adults\.onnx differs from torch: nan dB"):
        export.export(too_large, tmp_path / "tiny", size=SIZE, report=quiet)
    assert not list((tmp_path / "tiny").iterdir())


def test_the_command_takes_a_public_checkpoint(tmp_path, capsys):
    from trainer import public_files
    from trainer.networks import build

    torch.manual_seed(0)
    generator = build("cyclegan", groups=["young-women"], width=4, blocks=1)
    (file,) = public_files.write_public({"generator": generator}, tmp_path / "latest_net_G_A.pth")
    assert export.main([str(file), str(tmp_path / "style"), "--size", "32"]) == 0
    described = manifest.open_files(tmp_path / "style").manifest
    assert (described.name, described.network, described.size) == ("style", "cyclegan", 32)
    assert "1 groups in fp32" in capsys.readouterr().out
    file.write_bytes(b"cut")
    assert export.main([str(file), str(tmp_path / "other")]) == 1
    said = capsys.readouterr().err
    assert f"{file}: not a PyTorch checkpoint" in said and said.count("\n") == 1


@pytest.mark.parametrize("shape", [["--size", "0"], ["--size", "-16"], ["--batch", "0"]])
def test_the_command_checks_its_options_before_it_reads_anything(shape, tmp_path, capsys):
    assert export.main([str(tmp_path / "none"), str(tmp_path / "out"), *shape, "--int8", str(tmp_path)]) == 2
    assert f"{' '.join(shape)}: expected" in capsys.readouterr().err


def test_command_without_a_checkpoint(tmp_path, capsys):
    assert export.main([str(tmp_path / "none.safetensors"), str(tmp_path / "out")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_psnr_of_a_known_error():
    assert psnr_db(np.full((2, 2), 0.02), np.zeros((2, 2))) == pytest.approx(40.0)


def test_a_file_in_the_place_of_the_folder_is_told_before_the_export(tmp_path, capsys):
    place = tmp_path / "taken"
    place.write_text("mine")
    assert export.main([str(tmp_path / "no-such-run"), str(place)]) == 2
    assert "taken: is a file; name a folder" in capsys.readouterr().err
    assert place.read_text() == "mine"
