"""`python -m engine.build` through its own door, on a small model and on the shipped one."""

import json
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine import build, build_engines, build_report, build_timing, export, manifest
from engine.build_engines import Figures
from engine.cache import Cache
from engine.proof import Crops, agreement, planes, psnr_db
from engine.runner import open_runner
from trainer.checkpoint import save_generator

BLOCKED = "import sys\nsys.modules['torch'] = None\nfrom engine.build import main\nsys.exit(main(sys.argv[1:]))"


def run(*arguments: object) -> int:
    return build.main([str(each) for each in arguments])


def record(path: Path) -> dict:
    return json.loads(path.read_text())


def cells(table: str) -> list[dict[str, str]]:
    """The rows of a printed table, by heading."""
    headings, *rows = [[cell for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]
    return [dict(zip((each.strip() for each in headings), map(str.strip, row), strict=True)) for row in rows]


def never(*_, **__):
    raise AssertionError("compiled again")


@pytest.fixture
def quick(monkeypatch) -> None:
    """Figures of time do not matter here."""
    monkeypatch.setattr(build_timing, "ROUNDS", 3)


def test_the_shipped_model_is_built_without_torch_and_found_again_in_two_seconds(tmp_path):
    def built(*more: str) -> tuple[subprocess.CompletedProcess, float]:
        began = time.monotonic()
        command = [sys.executable, "-c", BLOCKED, "--precision", "fp32", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done, time.monotonic() - began

    first, _ = built("--json", str(tmp_path / "first.json"))
    assert first.returncode == 0, first.stderr
    groups = manifest.read(manifest.ZOO / "live").groups
    rows = record(tmp_path / "first.json")["rows"]
    assert [row["group"] for row in rows] == list(groups)
    assert all(row["psnr_worst_db"] > 50 and row["bytes"] > 1e6 and row["p50_ms"] > 0 for row in rows)
    for group in groups:
        assert f"{group}: compiling with openvino" in first.stderr and f"{group}: comparing" in first.stderr
    times = []
    for name in ("second.json", "third.json"):
        again, seconds = built("--json", str(tmp_path / name))
        times.append(seconds)
        found = record(tmp_path / name)["rows"]
        assert [row | {"cached": False} for row in found] == rows and all(row["cached"] for row in found)
        assert again.stderr == ""
        assert again.stdout.count(" yes") == len(groups)
    assert min(times) < 2


def test_table_and_record_tell_the_same(model, capsys, tmp_path, quick):
    assert run("--model", model, "--precision", "fp32", "--batch", "3,1", "--json", tmp_path / "build.json") == 0
    said = record(tmp_path / "build.json")
    printed = capsys.readouterr().out.splitlines()
    rows = cells("\n".join(printed[:5]))
    assert [(row["group"], row["batch"]) for row in rows] == [
        ("adults", "1"), ("adults", "3"), ("kids", "1"), ("kids", "3"),
    ]  # fmt: skip
    assert [(row["group"], row["batch"]) for row in said["rows"]] == [
        ("adults", 1), ("adults", 3), ("kids", 1), ("kids", 3),
    ]  # fmt: skip
    for shown, row in zip(rows, said["rows"], strict=True):
        assert shown["p50 ms"] == f"{row['p50_ms']:.1f}" and shown["computes in"] == "f32"
        assert row["psnr_worst_db"] <= row["psnr_mean_db"] and row["largest_error"] < 1e-3
    assert rows[0]["PSNR mean"] == f"{said['rows'][0]['psnr_mean_db']:.1f}" and rows[1]["PSNR mean"] == "-"
    assert said["backend"].startswith("openvino 20") and said["versions"]["openvino"]
    assert said["machine"]["cores"] >= 1 and said["size"] == 64
    assert {fields["batch"] for fields in said["engines"].values()} == {1, 3} and len(said["engines"]) == 4


def test_what_was_built_is_what_livetoon_opens(model, own_cache, quick):
    assert run("--model", model, "--precision", "fp32", "--batch", "1,4") == 0
    kept = {path.name: path.stat().st_mtime_ns for path in own_cache.iterdir()}
    for group in ("adults", "kids"):
        open_runner(model, group, precision="fp32", batches=(1, 4))
    assert {path.name: path.stat().st_mtime_ns for path in own_cache.iterdir()} == kept


def test_the_figures_are_those_of_the_engine(model, generator, tmp_path, quick):
    assert run("--model", model, "--precision", "int8", "--groups", "kids", "--json", tmp_path / "build.json") == 0
    (row,) = record(tmp_path / "build.json")["rows"]
    x = planes(Crops(None, 64, build.CROPS).pictures)
    got = open_runner(model, "kids", precision="int8").infer(x)
    decibels = [
        psnr_db(one, true)
        for one, true in zip(got, export.drawn(generator, torch.from_numpy(x), "kids").numpy(), strict=True)
    ]
    assert row["psnr_mean_db"] == pytest.approx(np.mean(decibels), abs=0.1)
    assert row["psnr_worst_db"] == pytest.approx(min(decibels), abs=0.1)
    assert row["reference"] == "float32 graph in ONNX Runtime" and row["compared"] == "engine"
    assert row["arithmetic"] == "int8"


def test_a_second_call_compiles_compares_and_times_nothing(model, capsys, monkeypatch, quick):
    assert run("--model", model, "--precision", "int8", "--groups", "kids") == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(build_engines.Compiled, "make", never)
    monkeypatch.setattr(build, "graph_drawn", never)
    assert run("--model", model, "--precision", "int8", "--groups", "kids") == 0
    again = capsys.readouterr()
    assert again.out.replace("yes", "no ").split() == first.split() and "yes" in again.out
    assert again.err == ""


def test_a_changed_field_builds_again_and_is_named(model, make_generator, caplog, capsys, monkeypatch, quick):
    caplog.set_level(logging.INFO)
    arguments = ["--model", model, "--precision", "fp32", "--groups", "kids"]
    assert run(*arguments) == 0
    other = make_generator("live", 1, groups=["adults", "kids"], widths=(8, 16, 16, 32), blocks=(1, 1, 1))
    export.export(other, model, size=64, report=lambda line: None)
    caplog.clear()
    assert run(*arguments) == 0
    assert "is for another digest, made anew" in caplog.text and "compiling" in capsys.readouterr().err
    caplog.clear()
    monkeypatch.setattr(build, "CROPS", 5)
    assert run(*arguments) == 0
    assert "is for another crops, made anew" in caplog.text
    said = capsys.readouterr()
    assert "opening openvino" in said.err and "on 5 crops" in said.err and " yes" in said.out
    caplog.clear()
    monkeypatch.setattr("openvino.__version__", "2030.1.0-1")
    assert run(*arguments) == 0
    assert "is for another backend, made anew" in caplog.text
    assert "compiling with openvino 2030.1.0" in capsys.readouterr().err


def test_an_engine_that_was_cut_short_is_made_anew(model, own_cache, caplog, capsys, quick):
    arguments = ["--model", model, "--precision", "fp32", "--groups", "kids"]
    assert run(*arguments) == 0
    (engine,) = own_cache.glob("small-kids-*-latency-batch1-*.cache")
    whole = engine.read_bytes()
    for spoilt in (whole[: len(whole) // 2], b"", whole[:-1] + b"?"):
        engine.write_bytes(spoilt)
        caplog.clear()
        capsys.readouterr()
        assert run(*arguments) == 0
        assert "cannot be used" in caplog.text
        assert len(engine.read_bytes()) > len(whole) // 2
        assert Cache(own_cache).load(engine.stem, json.loads(engine.read_bytes().split(b"\n")[0])["fields"])
    assert "compiling" in capsys.readouterr().err


def test_crops_of_a_folder_judge_where_they_are_given(model, tmp_path, capsys, quick):
    (tmp_path / "crops").mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "crops" / f"{index}.png"), cv2.resize(noise, (64, 64)))
    arguments = ["--model", model, "--precision", "fp32", "--groups", "kids", "--json", tmp_path / "build.json"]
    assert run(*arguments, "--crops", tmp_path / "crops") == 0
    assert record(tmp_path / "build.json")["crops"] == f"3 of {tmp_path / 'crops'}"
    assert "on 3 crops" in capsys.readouterr().err


def test_an_engine_that_draws_too_differently_is_not_kept(model, own_cache, capsys, monkeypatch, quick):
    monkeypatch.setitem(build.FLOOR_DB, "int8", 300.0)
    assert run("--model", model, "--precision", "int8", "--groups", "kids") == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("python -m engine.build: kids: drawings of openvino")
    assert "expected 300: the engine is not kept; build --precision fp16" in said.err and said.out == ""
    assert not list(own_cache.glob("small-kids-*latency-batch1-*.cache")) and not list(own_cache.glob("*figures*"))


def test_pictures_are_compared_in_every_batch(model, capsys, monkeypatch, quick):
    runner_of = build_engines.open_runner

    def with_a_bad_batch(*arguments, **options):
        runner = runner_of(*arguments, **options)
        draw = runner._pictures
        runner._pictures = lambda crops: draw(crops) // 2 if len(crops) == 4 else draw(crops)
        return runner

    monkeypatch.setattr(build_engines, "open_runner", with_a_bad_batch)
    assert run("--model", model, "--precision", "fp32", "--groups", "kids", "--batch", "1,4") == 1
    assert "kids: pictures, 4 a call, of openvino" in capsys.readouterr().err


def test_what_is_no_number_agrees_with_nothing():
    x = np.zeros((2, 3, 4, 4), np.float32)
    broken = x.copy()
    broken[1, 0, 0, 0] = np.nan
    assert not agreement(broken, x).worst_db >= 0
    assert agreement(x, x).worst_db > 150


def test_int8_is_timed_beside_what_it_must_beat(model, capsys, tmp_path, monkeypatch):
    took = {"rival": 8.0, (0, 1): 10.0, (1, 1): 11.0}
    monkeypatch.setattr(build_timing, "p50_ms", lambda calls: {name: took[name] for name in calls})
    assert run("--model", model, "--precision", "int8", "--json", tmp_path / "build.json") == 0
    said = record(tmp_path / "build.json")
    rival = next(row["rival"] for row in said["rows"])
    assert rival == {"precision": rival["precision"], "p50_ms": 8.0, "own_p50_ms": 10.0}
    assert rival["precision"] in ("bf16", "fp32")
    assert said["advice"].startswith("int8 is not faster with openvino")
    assert said["advice"].endswith(f"build --precision {rival['precision']} instead")
    assert capsys.readouterr().out.splitlines()[-1] == said["advice"]
    assert run("--model", model, "--precision", "int8") == 0
    assert capsys.readouterr().out.splitlines()[-1] == said["advice"]


def test_int8_that_pays_is_praised_and_other_precisions_are_not():
    fields = dict.fromkeys(("arithmetic", "device", "reference", "compared"), "") | dict.fromkeys(
        ("threads", "bytes", "build_s", "psnr_mean_db", "psnr_worst_db", "largest_error"), 1
    )
    rival = {"precision": "bf16", "p50_ms": 8.0, "own_p50_ms": 4.0}
    quick, other = Figures("a", "int8", rival=rival, **fields), Figures("b", "fp16", **fields)
    assert build_report.advice([other, quick], "x") == "int8: 4.0 ms a crop where bf16 takes 8.0, 2.00 times as fast"
    assert build_report.advice([other], "x") is None


def test_with_little_of_its_work_in_int8_it_is_called_mixed(model, capsys, quick):
    path = model / manifest.NAME
    described = json.loads(path.read_text())
    described["int8"]["kids"]["share"] = 0.62
    path.write_text(json.dumps(described))
    assert run("--model", model, "--precision", "int8") == 0
    rows = cells("\n".join(capsys.readouterr().out.splitlines()[:3]))
    assert [row["precision"] for row in rows] == ["int8", "mixed (62% int8)"]


def test_a_model_of_a_fixed_batch_is_built_for_it(make_generator, tmp_path, capsys, quick):
    fixed = make_generator("live", groups=["adults"], widths=(8, 8, 8, 16), blocks=(0, 1, 0))
    export.export(fixed, tmp_path / "fixed", size=64, batch=2, report=lambda line: None)
    assert run("--model", tmp_path / "fixed", "--precision", "fp32", "--json", tmp_path / "build.json") == 0
    assert [row["batch"] for row in record(tmp_path / "build.json")["rows"]] == [2]
    assert run("--model", tmp_path / "fixed", "--batch", "1,2") == 2
    assert "model fixed was exported for 2 crops a call" in capsys.readouterr().err


def test_onnx_runtime_compiles_nothing_and_is_told_the_same_way(model, capsys, tmp_path, monkeypatch, quick):
    arguments = ["--model", model, "--backend", "onnxruntime", "--groups", "kids", "--json", tmp_path / "build.json"]
    assert run(*arguments) == 0
    (row,) = record(tmp_path / "build.json")["rows"]
    assert row["bytes"] == (model / "kids.onnx").stat().st_size + (model / manifest.WEIGHTS).stat().st_size
    monkeypatch.setattr(build_engines.Compiled, "make", never)
    assert run(*arguments) == 0
    assert " yes" in capsys.readouterr().out


def test_another_size_is_made_of_the_generator_beside_and_compared_with_torch(
    model, generator, capsys, tmp_path, quick
):
    save_generator(model / "generator.safetensors", generator)
    arguments = ["--model", model, "--size", 48, "--precision", "fp32", "--json", tmp_path / "build.json"]
    assert run(*arguments) == 0
    said = record(tmp_path / "build.json")
    assert said["size"] == 48 and {row["reference"] for row in said["rows"]} == {"torch"}
    assert "comparing with torch" in capsys.readouterr().err
    assert run(*arguments) == 0
    assert {row["cached"] for row in record(tmp_path / "build.json")["rows"]} == {True}


# --out


def test_a_folder_brings_its_engines_along(model, tmp_path, own_cache, capsys, monkeypatch, quick):
    out = tmp_path / "made"
    assert run("--model", model, "--precision", "fp32", "--batch", "1,2", "--out", out) == 0
    assert record(out / "build.json")["rows"][0]["group"] == "adults"
    assert manifest.read(out) == manifest.read(model)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"in {out}")
    assert not [path for path in own_cache.iterdir() if path.name.startswith("small")]
    elsewhere = Path(shutil.move(out, tmp_path / "box"))
    kept = {path: path.stat().st_mtime_ns for path in (elsewhere / "engines").iterdir()}
    runner = open_runner(elsewhere, "kids", precision="fp32", batches=(1, 2))
    assert runner(np.zeros((3, 64, 64, 3), np.uint8)).shape == (3, 64, 64, 4)
    assert {path: path.stat().st_mtime_ns for path in (elsewhere / "engines").iterdir()} == kept
    monkeypatch.setattr(build_engines.Compiled, "make", never)
    assert run("--model", model, "--precision", "fp32", "--batch", "1,2", "--out", elsewhere) == 0
    assert run("--model", elsewhere, "--precision", "fp32", "--batch", "1,2", "--out", elsewhere) == 0


def test_a_folder_that_was_made_before_is_brought_up_to_date(model, make_generator, tmp_path, caplog, quick):
    caplog.set_level(logging.INFO)
    out = tmp_path / "made"
    assert run("--model", model, "--precision", "fp32", "--out", out) == 0
    other = make_generator("live", 1, groups=["adults", "kids"], widths=(8, 16, 16, 32), blocks=(1, 1, 1))
    export.export(other, model, size=64, report=lambda line: None)
    assert run("--model", model, "--precision", "fp32", "--out", out) == 0
    assert "is for another digest" in caplog.text
    assert manifest.open_files(out, "kids").manifest == manifest.read(model)


def test_a_folder_of_somebody_else_is_left_alone(model, make_generator, tmp_path, capsys, quick):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for out, said in ((tmp_path / "mine", "is not empty"), (tmp_path / "mine" / "letter.txt", "is a file")):
        assert run("--model", model, "--precision", "fp32", "--out", out) == 2
        assert said in capsys.readouterr().err
    assert run("--model", model, "--precision", "fp32", "--groups", "kids", "--out", tmp_path / "made") == 0
    export.export(
        make_generator("live", groups=["a"], widths=(8, 8, 8, 16), blocks=(0, 1, 0)),
        tmp_path / "other", size=64, report=lambda line: None,
    )  # fmt: skip
    capsys.readouterr()
    assert run("--model", tmp_path / "other", "--precision", "fp32", "--out", tmp_path / "made") == 2
    assert "holds model small, not other" in capsys.readouterr().err
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    assert manifest.read(tmp_path / "made").name == "small"


def test_a_folder_that_was_begun_and_failed_goes(model, tmp_path, monkeypatch, quick):
    monkeypatch.setitem(build.FLOOR_DB, "fp32", 300.0)
    assert run("--model", model, "--precision", "fp32", "--out", tmp_path / "made") == 1
    assert not (tmp_path / "made").exists()
    monkeypatch.setitem(build.FLOOR_DB, "fp32", 50.0)
    assert run("--model", model, "--precision", "fp32", "--out", tmp_path / "made") == 0
    monkeypatch.setitem(build.FLOOR_DB, "int8", 300.0)
    assert run("--model", model, "--precision", "int8", "--out", tmp_path / "made") == 1
    assert open_runner(tmp_path / "made", "kids", precision="fp32").spec.precision == "fp32"
