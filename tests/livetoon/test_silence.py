"""Nothing is told to anybody: neither by OpenVINO nor by ONNX Runtime."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmarks", "calib", "engine", "faces", "streamer", "trainer")
RUNS_A_NETWORK = """
import importlib, sys
importlib.import_module(sys.argv[1])
import onnxruntime
onnxruntime.InferenceSession(sys.argv[2]).get_inputs()
"""


def modules() -> list[str]:
    """Those that import ONNX Runtime anywhere; any of them may be the first."""
    files = (file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
    asked = re.compile(r"^ *import onnxruntime", re.MULTILINE)
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if asked.search(file.read_text())]


def written(home: Path, code: str, *arguments: object) -> list[str]:
    """What a program leaves in its user's home folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": "", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, check=True, cwd=home)
    return [str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()]


@pytest.mark.parametrize("module", modules())
def test_onnx_runtime_keeps_no_number_and_no_events(tmp_path, module):
    assert written(tmp_path, RUNS_A_NETWORK, module, next((ROOT / "faces/models").glob("*.onnx"))) == []


@pytest.mark.parametrize("room", ROOMS)
def test_openvino_does_not_find_its_telemetry(tmp_path, room):
    code = f"import {room}, openvino, sys; assert sys.modules['openvino_telemetry'] is None"
    assert written(tmp_path, code) == []
