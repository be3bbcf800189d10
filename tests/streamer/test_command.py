"""The commands `livetoon` and `python -m streamer`: options, models that cannot be used, ports, a clean end."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import aiohttp
import pytest

from benchmarks.serving import server
from engine import manifest
from streamer import opening
from streamer.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def run(*options: str, seconds: float = 60) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "streamer", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port", "99999"], "--port 99999"),
        (["--port", "-1"], "--port -1"),
        (["--max-visitors", "0"], "--max-visitors 0: at least 1"),
        (["--max-faces", "0"], "--max-faces 0: at least 1"),
        (["--bitrate", "9", "--max-bitrate", "2"], "--bitrate 9 --max-bitrate 2"),
        (["--codec", "av1"], "--codec av1: choose one of vp8, h264"),
        (["--key", "key.pem"], "give the certificate too"),
        (["--cert", "missing.pem"], "missing.pem does not exist"),
        (["--cert", "a.pem", "--self-signed"], "choose one of them"),
        (["--ice", "example.org"], "not like stun:"),
        (["--ice", "turn:"], "not like stun:"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--backend", "abacus", "--port", "0"], "abacus"),
        (["--group-rules", "missing.json", "--port", "0"], "missing.json: No such file"),
    ],
)
def test_a_wrong_option_is_named_before_anything_starts(options, sentence, capsys, model):
    assert main([*options, "--model", model]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1 and said.startswith("livetoon: ")


def test_help_shows_an_example_and_needs_no_heavy_library():
    code = "import sys; from streamer.__main__ import arguments; arguments().format_help(); print(list(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    for heavy in ("aiohttp", "aiortc", "av", "cv2", "numpy", "onnxruntime", "openvino", "torch"):
        assert f"'{heavy}'" not in done.stdout
    done = run("--help")
    assert done.returncode == 0 and "example:" in done.stdout and "--self-signed" in done.stdout


def test_a_model_that_is_not_there_is_named_before_serving():
    done = run("--model", "no-such-model", "--port", "0")
    assert done.returncode == 1
    assert "no-such-model" in last_line(done.stderr) and "livetoon is at" not in done.stdout


@pytest.mark.parametrize("spoil", ["alter", "cut", "remove"])
def test_a_model_file_that_is_not_as_it_was_is_named_before_serving(model, tmp_path, spoil):
    folder = tmp_path / "model"
    shutil.copytree(manifest.find(model), folder)
    weights = folder / manifest.WEIGHTS
    data = bytearray(weights.read_bytes())
    if spoil == "alter":
        data[len(data) // 2] ^= 1
    weights.write_bytes(data if spoil == "alter" else data[:-10])
    if spoil == "remove":
        weights.unlink()
    done = run("--model", str(folder), "--port", "0")
    assert done.returncode == 1
    assert manifest.WEIGHTS in last_line(done.stderr) and "livetoon is at" not in done.stdout


def test_a_used_port_is_told_at_once(model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("--model", model, "--port", str(port))
    assert done.returncode == 2
    assert last_line(done.stderr) == (
        f"livetoon: Port {port} is used by another program: stop it or choose another with --port {port + 1}."
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_it_serves_the_page_and_ends_cleanly(model, name):
    async def scene():
        async with server("--model", model) as served:
            async with aiohttp.ClientSession() as session, session.get(f"{served.address}/about") as response:
                about = await response.json()
            served.process.send_signal(getattr(signal, name))
            return about, await asyncio.wait_for(served.process.wait(), 10)

    about, code = asyncio.run(scene())
    described = manifest.read(manifest.find(model))
    assert about["styles"] == {described.name: list(described.groups)}
    assert (about["model"], about["groups"]) == (described.name, list(described.groups))
    assert {"group", "strength", "tone", "background", "background_colour"} <= set(about["defaults"])
    assert code == 0


def test_several_models_are_styles_and_two_of_one_name_are_refused(model, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(manifest.find(model), folder)
    done = run("--model", model, "--model", str(folder), "--port", "0")
    name = manifest.read(folder).name
    assert done.returncode == 2
    assert last_line(done.stderr) == (
        f"livetoon: --model {folder}: a style is called {name} already; rename one of them"
    )
    described = json.loads((folder / manifest.NAME).read_text())
    (folder / manifest.NAME).write_text(json.dumps(described | {"name": "other", "own_lines": False}))

    async def scene():
        async with (
            server("--model", model, "--model", str(folder)) as served,
            aiohttp.ClientSession() as session,
            session.get(f"{served.address}/about") as response,
        ):
            return await response.json()

    about = asyncio.run(scene())
    assert list(about["styles"]) == [name, "other"] and about["model"] == name and about["own_lines"] == [name]


def test_a_machine_carries_at_least_one_visitor_and_more_when_it_is_quick():
    assert opening.places(500.0, 1) == 1
    assert opening.places(15.0, 2) == 1
    assert opening.places(15.0, 8) > opening.places(60.0, 8) > 1


@pytest.mark.parametrize("package", ["livetoon", "faces", "trainer", "calib", "engine", "streamer", "benchmarks"])
def test_the_package_holds_every_file_that_is_no_code(package):
    """The page, the face models, the shipped models: what pyproject.toml does not name is not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folder = ROOT / package
    globs = project["tool"]["setuptools"]["package-data"].get(package, [])
    packed = {path for glob in globs for path in folder.glob(glob)}
    there = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there <= packed
