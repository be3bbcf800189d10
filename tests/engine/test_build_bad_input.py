"""What cannot be built says so in one sentence, and what goes wrong on the way leaves nothing half made."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine import build, build_timing, manifest
from engine.backends import Options
from engine.backends.openvino import OpenVINORunner
from engine.build_door import Wanted, check, wanted_of
from engine.cache import Cache
from engine.runner import open_runner
from livetoon.errors import UsageError
from trainer import public_files
from trainer.checkpoint import save_generator
from trainer.networks import build as network


def run(*arguments: object) -> int:
    return build.main([str(each) for each in arguments])


def crops(folder: Path, count: int, side: int = 64) -> Path:
    folder.mkdir()
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(noise, (side, side)))
    return folder


@pytest.fixture
def float_model(model) -> Path:
    """Without INT8 graphs."""
    path = model / manifest.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precisions": ["fp32"]}))
    return model


@pytest.fixture
def quick(monkeypatch) -> None:
    """Figures of time do not matter here."""
    monkeypatch.setattr(build_timing, "ROUNDS", 3)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--precision", "int4"], 2, "--precision int4: choose one of auto, fp32, fp16, bf16, int8"),
        (["--backend", "tensorflow"], 2, "backend 'tensorflow': expected auto or one of"),
        (["--backend", "tensorrt"], 1, "tensorrt cannot be used: it needs an NVIDIA GPU with its driver"),
        (["--backend", "onnxruntime", "--precision", "bf16"], 2, "choose one of these or auto"),
        (["--groups", "young-women,pirates"], 2, "--groups pirates: model live has young-women, young-men"),
        (["--size", "8"], 2, "--size 8: expected at least 16 px"),
        (["--batch", "0"], 2, "--batch 0: expected whole numbers from 1 up"),
        (["--batch=-1,4"], 2, "--batch -1,4: expected whole numbers from 1 up"),
        (["--batch", "one"], 2, "--batch one: expected whole numbers from 1 up"),
        (["--batch", ""], 2, "--batch : expected whole numbers from 1 up"),
        (["--calibration", "nowhere"], 2, "--calibration nowhere: no such folder"),
        (["--crops", "nowhere"], 2, "--crops nowhere: no such folder"),
        (["--calibration", ".", "--precision", "fp16"], 2, "--calibration: is for --precision int8, not fp16"),
        (["--json", "nowhere/build.json"], 2, "--json nowhere/build.json: its folder is not there"),
        (["--targets", "sm86", "--backend", "openvino"], 2, "--targets: openvino builds for the machine"),
        (["--targets", "sm86", "--precision", "bf16"], 2, "with --targets choose one of fp16, fp32, int8"),
        (["--targets", "sm61"], 2, "--targets sm61: expected some of sm75"),
        (["--targets", "sm90"], 2, "--targets sm90: TensorRT for RTX does not compile for Hopper"),
        (["--targets", "sm75,sm86"], 2, "sm75 needs a plan of its own"),
        (["--targets", "sm75", "--precision", "fp32"], 2, "in fp16 only"),
        (["--model", "nobody"], 1, "model 'nobody': neither a folder nor one of the models"),
        (["--model", "nowhere.pt"], 1, "nowhere.pt: no checkpoint"),
    ],
)  # fmt: skip
def test_checked_at_the_door(tmp_path, monkeypatch, capsys, own_cache, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "_built", None)
    monkeypatch.setattr("engine.from_run._make", None)
    assert run(*arguments) == code
    line = capsys.readouterr().err
    assert line.startswith("python -m engine.build: ") and said in line and line.count("\n") == 1
    assert list(own_cache.iterdir()) == []


def test_targets_go_with_tensorrt_only_where_it_stands_for_tensorrt_for_rtx(monkeypatch):
    wanted = Wanted(backend="tensorrt", targets=("sm86",))
    monkeypatch.setattr("engine.tensorrt_engines.package", lambda: "tensorrt_rtx")
    check(wanted)
    monkeypatch.setattr("engine.tensorrt_engines.package", lambda: "tensorrt")
    with pytest.raises(UsageError, match="--targets: tensorrt builds for the machine"):
        check(wanted)


def test_options_are_read_once_each_and_in_order():
    parse = build.arguments().parse_args
    assert wanted_of(parse([])) == Wanted()
    wanted = wanted_of(parse(["--batch", "8,1,8", "--groups", "kids, elderly,kids", "--targets", "sm89"]))
    assert (wanted.batches, wanted.groups, wanted.targets) == ((1, 8), ("kids", "elderly"), ("sm89",))


def test_int8_without_ranges_names_both_ways(float_model, tmp_path, capsys):
    save_generator(tmp_path / "mine.safetensors", network("live", groups=["a"], widths=(8, 8, 8, 16), blocks=(0, 1, 0)))
    for model, said in ((float_model, "model small has no INT8 graphs"), (tmp_path / "mine.safetensors", "calibrated")):
        assert run("--model", model, "--precision", "int8") == 2
        line = capsys.readouterr().err
        assert said in line and "--calibration DIR" in line and "--int8 DIR" in line and line.count("\n") == 1


def test_too_few_crops_to_calibrate_on(tmp_path, capsys):
    save_generator(tmp_path / "mine.safetensors", network("live", groups=["a"], widths=(8, 8, 8, 16), blocks=(0, 1, 0)))
    for count, said in ((3, "3 pictures in"), (0, "no pictures in it")):
        folder = crops(tmp_path / str(count), count)
        assert run("--model", tmp_path / "mine.safetensors", "--precision", "int8", "--calibration", folder) == 2
        line = capsys.readouterr().err
        assert said in line and line.count("\n") == 1


def test_a_picture_that_is_none_is_named(float_model, tmp_path, capsys, quick):
    folder = crops(tmp_path / "crops", 2)
    (folder / "broken.jpg").write_bytes(b"no picture")
    assert run("--model", float_model, "--crops", folder) == 1
    assert "broken.jpg: not a picture that can be read" in capsys.readouterr().err


def test_a_run_is_calibrated_and_built_in_int8(tmp_path, capsys, quick):
    save_generator(tmp_path / "mine.safetensors", network("live", groups=["a"], widths=(8, 8, 8, 16), blocks=(0, 1, 0)))
    arguments = ["--model", tmp_path / "mine.safetensors", "--precision", "int8", "--size", "64"]
    assert run(*arguments, "--calibration", crops(tmp_path / "crops", 12), "--json", tmp_path / "build.json") == 0
    (row,) = json.loads((tmp_path / "build.json").read_text())["rows"]
    assert row["precision"] == "int8" and row["reference"] == "torch" and row["psnr_worst_db"] > 33


@pytest.mark.parametrize("spoilt", ["adults.onnx", "adults.int8.onnx", "weights.bin", "model.json"])
def test_a_truncated_model_is_refused(model, capsys, own_cache, spoilt):
    content = (model / spoilt).read_bytes()
    (model / spoilt).write_bytes(content[: len(content) // 2])
    assert run("--model", model, "--precision", "fp32") == 1
    line = capsys.readouterr().err
    assert spoilt in line and line.count("\n") == 1 and list(own_cache.iterdir()) == []


def test_a_graph_that_is_none_is_refused_though_its_hash_is_right(model, capsys, own_cache):
    graph = model / "adults.onnx"
    graph.write_bytes(graph.read_bytes()[:-4000])
    path = model / manifest.NAME
    described = json.loads(path.read_text())
    described["files"]["adults.onnx"] = manifest.sha256(graph)
    path.write_text(json.dumps(described))
    for backend in ("openvino", "onnxruntime"):
        assert run("--model", model, "--precision", "fp32", "--backend", backend) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("python -m engine.build: ") and "adults.onnx" in said
    assert not list(own_cache.glob("*adults*.cache"))


@pytest.mark.parametrize(
    ("name", "made", "settings", "said"),
    [
        ("latest_net_D_A.pth", "patchgan", {"width": 4}, "no generator that draws cartoons"),
        ("disGA.pth", "discriminator", {"layers": 5, "width": 4}, "a discriminator"),
        ("points.pth", "keypoints", {"size": 46}, "holds keypoints, but no generator"),
        ("face.pth", "mobilefacenet", {}, "holds identity, but no generator"),
    ],
)
def test_a_checkpoint_of_the_wrong_family(tmp_path, capsys, own_cache, name, made, settings, said):
    torch.save(public_files.public_state(network(made, **settings)), tmp_path / name)
    assert run("--model", tmp_path / name, "--precision", "fp32") == 1
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and str(tmp_path / name) in lines[-1]
    assert list((own_cache / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors"])
def test_a_checkpoint_that_was_cut_short(tmp_path, capsys, name):
    generator = network("cyclegan", groups=["young-women"], width=4, blocks=1)
    if name.endswith(".pt"):
        public_files.write_public({"generator": generator}, tmp_path / name)
    else:
        save_generator(tmp_path / name, generator)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-3000])
    assert run("--model", tmp_path / name, "--precision", "fp32") == 1
    assert f"{tmp_path / name}: not a" in capsys.readouterr().err.splitlines()[-1]


def test_without_torch_another_size_says_what_to_install(own_cache):
    code = "import sys\nsys.modules['torch'] = None\nfrom engine.build import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--precision", "fp32", "--size", "128"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (said,) = done.stderr.splitlines()
    assert done.returncode == 1 and "needs torch" in said and '".[train]"' in said


def test_a_picture_folder_instead_of_a_model(tmp_path, capsys):
    assert run("--model", crops(tmp_path / "crops", 1)) == 1
    assert "no model.json in it" in capsys.readouterr().err


# The cache


def test_a_cache_that_cannot_be_made_costs_only_time(model, tmp_path, monkeypatch, capsys, caplog, quick):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "file" / "cache"))
    assert run("--model", model, "--precision", "fp32", "--groups", "kids", "--json", tmp_path / "build.json") == 0
    (row,) = json.loads((tmp_path / "build.json").read_text())["rows"]
    assert row["psnr_worst_db"] > 50 and not row["kept"] and not row["cached"]
    assert "not all of it could be kept in" in capsys.readouterr().out
    assert "cannot be written" in caplog.text


def test_an_engine_that_draws_too_badly_is_told_without_a_cache_too(model, tmp_path, monkeypatch, capsys, quick):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setitem(build.FLOOR_DB, "fp32", 300.0)
    assert run("--model", model, "--precision", "fp32", "--groups", "kids") == 1
    assert "expected 300: the engine is not kept" in capsys.readouterr().err.splitlines()[-1]


def test_a_full_disk_costs_only_time(model, own_cache, monkeypatch, capsys, caplog, quick):
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert run("--model", model, "--precision", "fp32", "--groups", "kids") == 0
    assert "No space left on device" in caplog.text and "not all of it could be kept" in capsys.readouterr().out
    assert not list(own_cache.iterdir())
    assert run("--model", model, "--precision", "fp32", "--groups", "kids") == 0


def test_what_a_folder_cannot_hold_is_an_error(model, tmp_path, monkeypatch, capsys, quick):
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "engines" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run("--model", model, "--precision", "fp32", "--groups", "kids", "--out", tmp_path / "made") == 1
    assert "the engine of kids cannot be written there" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_run_cannot_be_exported_into_a_cache_that_is_none(tmp_path, monkeypatch, capsys):
    save_generator(tmp_path / "mine.safetensors", network("live", groups=["a"], widths=(8, 8, 8, 16), blocks=(0, 1, 0)))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "file" / "cache"))
    assert run("--model", tmp_path / "mine.safetensors", "--precision", "fp32", "--size", "64") == 1
    assert str(tmp_path / "file") in capsys.readouterr().err.splitlines()[-1]


# Two at once, and one that is stopped


def started(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "engine.build", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_build_waits_for_another_of_the_same_engine(model, own_cache):
    files = manifest.open_files(model, "kids")
    ((slot, fields),) = OpenVINORunner.engine_keys(files, "fp32", Options()).items()
    cache = Cache(own_cache)
    with cache.lock(slot):
        second = started("--model", model, "--precision", "fp32", "--groups", "kids")
        until = threading.Timer(60, second.kill)
        until.start()
        said = ""
        while "waiting for another build of" not in said:
            line = second.stderr.readline()
            assert line, said
            said += line
        assert second.poll() is None and not cache.has(slot, fields)
    out, _ = second.communicate(timeout=60)
    until.cancel()
    assert second.returncode == 0 and "kids" in out and cache.load(slot, fields)


def test_two_builds_at_once_come_to_the_same(model, tmp_path, own_cache):
    names = ("one.json", "two.json")
    both = [started("--model", model, "--precision", "fp32", "--json", tmp_path / name) for name in names]
    for each in both:
        _, said = each.communicate(timeout=180)
        assert each.returncode == 0, said
    one, two = (json.loads((tmp_path / name).read_text()) for name in names)
    assert [row["psnr_mean_db"] for row in one["rows"]] == [row["psnr_mean_db"] for row in two["rows"]]
    assert one["engines"] == two["engines"]
    for slot, fields in one["engines"].items():
        assert Cache(own_cache).load(slot, fields)
    assert not list(own_cache.glob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("out", [False, True])
def test_what_is_stopped_leaves_nothing_half_made(model, own_cache, tmp_path, out):
    arguments = ["--model", model, "--precision", "fp32", "--batch", "1,2,3,4,5,6,7,8"]
    arguments += ["--out", tmp_path / "made"] if out else []
    build_ = started(*arguments)
    line = build_.stderr.readline()
    assert "adults: compiling" in line, line
    build_.send_signal(signal.SIGINT)
    _, said = build_.communicate(timeout=120)
    assert build_.returncode == 130 and said.splitlines()[-1] == "python -m engine.build: stopped"
    assert "Traceback" not in said
    assert not (tmp_path / "made").exists()
    for left in own_cache.rglob("*"):
        assert not left.name.startswith("."), left
        if left.suffix == ".cache":
            header, content = left.read_bytes().split(b"\n", 1)
            assert manifest.hashlib.sha256(content).hexdigest() == json.loads(header)["sha256"]
    assert run(*arguments[:4], "--groups", "kids") == 0
    assert open_runner(model, "kids", precision="fp32").spec.group == "kids"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_export_that_is_stopped_leaves_nothing(tmp_path, own_cache):
    save_generator(tmp_path / "mine.safetensors", network("live", groups=["a"], widths=(8, 8, 8, 16), blocks=(0, 1, 0)))
    stopped = started("--model", tmp_path / "mine.safetensors", "--precision", "fp32", "--size", "64")
    line = stopped.stderr.readline()
    assert "exporting" in line, line
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == 130 and said.splitlines()[-1] == "python -m engine.build: stopped"
    assert list((own_cache / "runs").iterdir()) == []
