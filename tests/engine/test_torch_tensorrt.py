"""Torch-TensorRT cannot be installed where the tests run: what it is asked for is tested, and what else is ours."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import torch

from engine import backends
from engine.backends import torch_tensorrt as backend_file
from engine.proof import psnr_db
from engine.runner import open_runner
from livetoon.errors import EngineError, UsageError


@pytest.fixture
def library(monkeypatch) -> ModuleType:
    """Stands for torch_tensorrt: gives back the module that it is to compile. asked: what for."""
    library = ModuleType("torch_tensorrt")
    library.__spec__ = ModuleSpec("torch_tensorrt", None)
    library.asked = []
    library.Input = lambda shape: shape

    def compile_(module, **options):
        library.asked.append(options)
        return module

    library.compile = compile_
    monkeypatch.setitem(sys.modules, "torch_tensorrt", library)
    return library


@pytest.fixture
def gpu(monkeypatch) -> None:
    """The processor stands for a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA L4")
    monkeypatch.setattr(backend_file, "DEVICE", "cpu")


@pytest.mark.parametrize("batches", [(1,), (2, 4)])
def test_it_runs_the_graph_in_every_batch(exported, library, gpu, batches):
    runner = open_runner(exported, "kids", "torch-tensorrt", "fp32", batches=batches)
    wanted = open_runner(exported, "kids", "onnxruntime", "fp32")
    crops = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), np.uint8)
    assert np.abs(runner(crops).astype(int) - wanted(crops)).max() <= 1
    x = crops.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    assert psnr_db(runner.infer(x), wanted.infer(x)) > 90
    assert [asked["inputs"] for asked in library.asked] == [[(batch, 3, 64, 64)] for batch in batches]
    assert all(asked["use_explicit_typing"] for asked in library.asked)
    assert (runner.spec.backend, runner.spec.device, runner.spec.arithmetic) == ("torch-tensorrt", "NVIDIA L4", "f32")


def test_half_precision_is_the_default_and_int8_is_not_there(exported, library, gpu):
    assert open_runner(exported, backend="torch-tensorrt").spec.precision == "fp16"
    with pytest.raises(UsageError, match="torch-tensorrt in fp16, fp32; choose"):
        open_runner(exported, backend="torch-tensorrt", precision="int8")


def test_without_a_gpu_it_says_so(exported, library):
    with pytest.raises(EngineError, match=r"^torch-tensorrt cannot be used: it needs an NVIDIA GPU with its driver"):
        open_runner(exported, backend="torch-tensorrt")


def test_without_the_package_it_says_so(exported):
    with pytest.raises(
        EngineError, match="backend torch-tensorrt needs the Python package torch_tensorrt: pip install"
    ):
        open_runner(exported, backend="torch-tensorrt")


def test_auto_takes_it_last(library):
    assert backends.installed()[-1] == "torch-tensorrt"


def test_what_cannot_be_compiled_is_said(exported, library, gpu):
    def refuse(module, **options):
        raise RuntimeError("no converter for aten::pixel_shuffle\nmore lines")

    library.compile = refuse
    with pytest.raises(EngineError, match=r"adults\.onnx: torch-tensorrt cannot compile it: no converter .*shuffle$"):
        open_runner(exported, backend="torch-tensorrt")
