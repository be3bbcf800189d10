"""Checkpoints in the public formats, and plans for other machines' cards, through `python -m engine.build`."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine import build, build_timing, export, from_run, manifest
from engine.cache import Cache
from engine.proof import agreement
from engine.runner import open_runner
from trainer import public_files
from trainer.networks import build as network
from trainer.presets import FEW_SHOT_OWN

GROUPS = ["young-women", "young-men"]
LIGHT = {"width": 32, "light": True}  # photo2cartoon as it is published: a minute to trace
MADE = {  # by name of the file: network, settings, side
    "selfie2anime.pt": ("ugatit", {"width": 4, "blocks": 1, "size": 32}, 32),
    "webtoon_full.pt": ("ugatit", {"width": 4, "blocks": 1, "light": False, "size": 32}, 32),
    "keypoint.pt": ("ugatit", {"width": 4, "blocks": 1, "keypoint_pads": True, "size": 46}, 46),
    "photo2cartoon_weights.pt": ("photo2cartoon", LIGHT, 256),
    "fewshot.pt": ("photo2cartoon", LIGHT | {"own": FEW_SHOT_OWN, "heads": 2}, 256),
    "latest_net_G_A.pth": ("cyclegan", {"width": 4, "blocks": 1}, 32),
    "ece285.pt": ("cyclegan", {"width": 4, "blocks": 1, "variant": "ece285"}, 32),
}


def run(*arguments: object) -> int:
    return build.main([str(each) for each in arguments])


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(autouse=True)
def traced(own_cache, traces) -> Iterator[None]:
    """A network is traced once for all these tests, as on disk for all checkpoints of it."""
    for file in traces.iterdir():
        shutil.copy(file, own_cache)
    yield
    for file in own_cache.glob("trace-*.cache"):
        shutil.copy(file, traces)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> Iterator[None]:
    """Figures of time do not matter here; tiny layers only wait for a second thread."""
    monkeypatch.setattr(build_timing, "ROUNDS", 2)
    monkeypatch.setattr(build, "CROPS", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written(path: Path, name: str, settings: dict) -> torch.nn.Module:
    """The network whose public checkpoint lies at `path`: random, and far enough from grey to be compared."""
    torch.manual_seed(7)
    made = network(name, groups=GROUPS[: settings.get("heads", 1)], **settings).eval()
    for key, parameter in made.named_parameters():
        if key.rpartition(".")[2] in ("gamma", "beta", "rho"):
            parameter.data += torch.randn_like(parameter) * 0.2
    public_files.write_public({"generator": made}, path)
    return made


def told_apart(file: Path, generator: torch.nn.Module, side: int) -> None:
    """Each group's engine draws as its own branch does, and as no other."""
    x = export.proof_crops(side)[:1]
    drawn = {group: export.drawn(generator, torch.from_numpy(x), group).numpy() for group in generator.groups}
    folder = from_run.exported(file, from_run.Form(size=side if side != 256 else None)).model
    for group in generator.groups:
        got = open_runner(folder, group, backend="onnxruntime").infer(x)
        closest = {other: agreement(got, picture).worst_db for other, picture in drawn.items()}
        assert [other for other, decibels in closest.items() if decibels > 50] == [group], closest


@pytest.mark.parametrize("file", MADE)
def test_a_public_checkpoint_is_built_unchanged_and_found_again(tmp_path, monkeypatch, file):
    name, settings, side = MADE[file]
    generator = written(tmp_path / file, name, settings)
    arguments = ["--model", tmp_path / file, "--precision", "fp32", "--backend", "onnxruntime"]
    arguments += ["--size", side] if side != 256 else []
    assert run(*arguments, "--json", tmp_path / "build.json") == 0
    said = json.loads((tmp_path / "build.json").read_text())
    assert [row["group"] for row in said["rows"]] == list(generator.groups) and said["size"] == side
    assert {row["reference"] for row in said["rows"]} == {"torch"}
    assert all(row["psnr_worst_db"] > 60 for row in said["rows"]), said["rows"]
    told_apart(tmp_path / file, generator, side)
    monkeypatch.setattr(from_run, "_make", None)
    assert run(*arguments, "--json", tmp_path / "again.json") == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert {row["cached"] for row in again["rows"]} == {True} and again["engines"] == said["engines"]


# Plans for other machines' cards


@pytest.mark.parametrize("precision", ["auto", "fp32", "int8"])
def test_one_plan_for_three_cards_is_compared_by_its_graph(model, own_cache, tmp_path, capsys, precision):
    arguments = ["--model", model, "--precision", precision, "--targets", "sm120,sm86,sm89", "--groups", "kids"]
    assert run(*arguments, "--json", tmp_path / "build.json") == 0
    said = json.loads((tmp_path / "build.json").read_text())
    (row,) = said["rows"]
    assert row["precision"] == ("fp16" if precision == "auto" else precision)
    assert row["arithmetic"] == {"auto": "f16", "fp32": "f32", "int8": "int8"}[precision]
    assert row["compared"] == "graph" and row["p50_ms"] is None
    assert row["psnr_worst_db"] > {"auto": 60, "fp32": 100, "int8": 33}[precision]
    ((slot, fields),) = said["engines"].items()
    assert fields["targets"] == ["sm86", "sm89", "sm120"]
    plan = Cache(own_cache).load(slot, fields)
    assert len(plan) + 1000 > row["bytes"] > len(plan)
    shown = capsys.readouterr()
    assert "for sm86, sm89, sm120" in shown.err and ("not timed without the card" in shown.out) == (precision == "int8")
    assert run(*arguments) == 0
    assert " yes" in capsys.readouterr().out


def test_a_plan_that_was_cut_short_is_built_anew(model, own_cache, caplog, capsys):
    arguments = ["--model", model, "--targets", "sm86", "--groups", "kids"]
    assert run(*arguments) == 0
    (plan,) = own_cache.glob("*tensorrt_rtx*.cache")
    whole = plan.read_bytes()
    plan.write_bytes(whole[:-50])
    assert run(*arguments) == 0
    assert "cannot be used" in caplog.text and plan.read_bytes() == whole


def test_plans_lie_in_a_folder_that_is_taken_to_the_card(model, tmp_path):
    assert run("--model", model, "--targets", "sm86,sm89", "--batch", "1,4", "--out", tmp_path / "made") == 0
    names = sorted(path.name for path in (tmp_path / "made" / "engines").iterdir() if "figures" not in path.name)
    assert names == [
        f"small-{group}-tensorrt_rtx-fp16-batch1.4-sm86-sm89.cache" for group in ("adults", "kids")
    ]  # fmt: skip
    assert manifest.open_files(tmp_path / "made", "kids").manifest == manifest.read(model)
