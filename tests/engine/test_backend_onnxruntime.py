"""Which execution provider ONNX Runtime takes, and what a runner tells of it."""

import logging

import numpy as np
import onnxruntime
import pytest

from engine import backends, machine
from engine.backends.onnxruntime import provider_of
from engine.runner import open_runner

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("available", "taken"),
    [
        ([CPU], CPU),
        (["AzureExecutionProvider", CPU], CPU),
        (["TensorrtExecutionProvider", CUDA, CPU], CUDA),
        (["NvTensorRTRTXExecutionProvider", CPU], CPU),
        (["DmlExecutionProvider", CUDA, CPU], CUDA),
        (["DmlExecutionProvider", CPU], "DmlExecutionProvider"),
        (["CoreMLExecutionProvider", "AzureExecutionProvider", CPU], "CoreMLExecutionProvider"),
        (["MIGraphXExecutionProvider", "ROCMExecutionProvider", CPU], "MIGraphXExecutionProvider"),
        (["OpenVINOExecutionProvider", CPU], "OpenVINOExecutionProvider"),
        (["QNNExecutionProvider", "DmlExecutionProvider", CPU], "DmlExecutionProvider"),
    ],
)
def test_the_fastest_provider_that_is_there_is_taken(available, taken):
    assert provider_of(available) == taken


@pytest.mark.parametrize(
    ("available", "precisions"),
    [
        ([CUDA, CPU], ("fp16", "fp32")),
        ([CPU], ("fp32", "int8")),
        (["OpenVINOExecutionProvider", CPU], ("fp32", "int8")),
    ],
)
def test_precision_follows_the_provider(monkeypatch, available, precisions):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    assert backends.candidates("onnxruntime")[0].precisions(("fp32", "int8")) == precisions


def test_the_processor_and_what_it_computes_in_are_told(exported):
    for precision, arithmetic in (("fp32", "f32"), ("int8", "int8")):
        spec = open_runner(exported, backend="onnxruntime", precision=precision, threads=1).spec
        assert (spec.device, spec.arithmetic) == (machine.processor(), arithmetic)


def test_a_provider_that_cannot_be_used_is_told_and_the_processor_draws(exported, monkeypatch, caplog):
    """A build for NVIDIA on a machine without its libraries opens on the processor without a word."""
    whole = onnxruntime.InferenceSession
    asked = []

    def without_cuda(graph, options, providers):
        asked.append(providers)
        return whole(graph, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", without_cuda)
    runner = open_runner(exported, backend="onnxruntime")
    assert asked == [[CUDA, CPU]]
    assert (runner.spec.precision, runner.spec.device, runner.spec.arithmetic) == ("fp16", machine.processor(), "f32")
    assert "cannot use its CUDAExecutionProvider here" in caplog.text
    assert runner(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, 64, 64, 4)


def test_a_provider_that_is_taken_is_the_device(exported, monkeypatch, caplog):
    class Session(onnxruntime.InferenceSession):
        def __init__(self, graph, options, providers):
            super().__init__(graph, options, providers=[CPU])

        def get_providers(self):
            return [CUDA, CPU]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with caplog.at_level(logging.WARNING):
        spec = open_runner(exported, backend="onnxruntime").spec
    assert (spec.precision, spec.device, spec.arithmetic) == ("fp16", "CUDA", "f16")
    assert caplog.text == ""
