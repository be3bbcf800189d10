"""OpenVINO on the processor: one crop at a time, pictures in and out inside the compiled graph."""

import functools
import io
import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import threads as thread_choice
from engine.backends import backend
from engine.cache import Cache
from engine.manifest import WEIGHTS, ModelFiles
from engine.runner import CheckedRunner, RunnerSpec
from livetoon.errors import EngineError
from livetoon.inference import openvino_core

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)

DEVICE = "CPU"
X86 = ("x86_64", "amd64")  # elsewhere OpenVINO's INT8 convolutions were not tried
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # of what is not quantized


@backend("openvino", library="openvino", rank=0)
class OpenVINORunner(CheckedRunner):
    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """bf16 where the processor has it, then int8 (on AVX2 1.7 times as fast as float32), then fp32."""
        capable = openvino_core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        has = {"bf16": "BF16" in capable, "int8": "int8" in stored and platform.machine().lower() in X86}
        return (*(name for name in has if has[name]), "fp32")

    def __init__(self, files: ModelFiles, precision: str, threads: int | None, cache: Cache):
        import openvino

        described = files.manifest
        size = described.size
        graph = files.graph(precision)
        core = openvino_core()
        device = core.get_property(DEVICE, "FULL_DEVICE_NAME")
        fields = {
            "digest": files.digest(precision),
            "backend": f"openvino {openvino.__version__}",
            "device": f"{device} {' '.join(core.get_property(DEVICE, 'OPTIMIZATION_CAPABILITIES'))}",
            "precision": precision,
            "shape": [1, size, size, 3],
        }

        @functools.cache
        def compiled(count: int) -> openvino.CompiledModel:
            slot = f"{described.name}-{files.group}-openvino-{precision}-{files.place}"
            return _cached(core, graph, size, cache, slot, fields, _settings(precision, count))

        if threads is None:
            blank = np.zeros((1, size, size, 3), np.uint8)
            threads = thread_choice.choose(
                lambda count: thread_choice.fastest_ms(compiled(count).create_infer_request().infer, [blank]),
                cache,
                f"{described.name}-openvino-{precision}-{files.place}-threads",
                {**fields, "digest": described.files[WEIGHTS]},  # one choice for all groups
            )
        super().__init__(
            RunnerSpec(described.name, described.network, files.group, size, precision, "openvino", device, threads)
        )
        self._core = core
        self._graph = graph
        self._pictures_request = compiled(threads).create_infer_request()
        self._float_request: openvino.InferRequest | None = None

    def _pictures(self, crops: np.ndarray) -> np.ndarray:
        pictures = np.empty((*crops.shape[:3], 4), np.uint8)
        for index in range(len(crops)):
            pictures[index] = _run(self._pictures_request, crops[index : index + 1])
        return pictures

    def _rgba(self, x: np.ndarray) -> np.ndarray:
        if self._float_request is None:
            model = _read(self._core, self._graph, self.spec.size)
            settings = _settings(self.spec.precision, self.spec.threads)
            self._float_request = self._core.compile_model(model, DEVICE, settings).create_infer_request()
        return np.concatenate([_run(self._float_request, each[None]).copy() for each in x])


def _run(request: "openvino.InferRequest", array: np.ndarray) -> np.ndarray:
    """The request's own output, overwritten by its next run."""
    return request.infer([array], share_inputs=True, share_outputs=True)[0]


def _settings(precision: str, threads: int) -> dict[str, object]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "ENABLE_CPU_PINNING": False,  # a pinned thread waits behind the browser while another core idles
    }


def _cached(
    core: "openvino.Core", graph: Path, size: int, cache: Cache, slot: str, fields: dict, settings: dict
) -> "openvino.CompiledModel":
    """The compiled engine from `cache`, or made and stored there. Thread count and hints are set as it is loaded."""
    if stored := cache.load(slot, fields):
        try:
            return core.import_model(stored, DEVICE, settings)
        except RuntimeError as error:
            log.warning("cache %s: OpenVINO cannot load it (%s), made anew", slot, _last_line(error))
    try:
        compiled = core.compile_model(_with_pictures(_read(core, graph, size)), DEVICE, settings)
    except RuntimeError as error:
        raise EngineError(f"{graph}: OpenVINO cannot compile it: {_last_line(error)}") from error
    exported = io.BytesIO()
    compiled.export_model(exported)
    cache.store(slot, fields, exported.getvalue())
    return compiled


def _read(core: "openvino.Core", graph: Path, size: int) -> "openvino.Model":
    """The graph for one crop at a time: on a processor four calls take no longer than one call with four crops."""
    try:
        model = core.read_model(graph)
    except RuntimeError as error:
        raise EngineError(f"{graph}: OpenVINO cannot read it: {_last_line(error)}") from error
    model.reshape([1, 3, size, size])
    return model


def _with_pictures(model: "openvino.Model") -> "openvino.Model":
    """(1, S, S, 3) uint8 RGB in, (1, S, S, 4) uint8 RGBA out, rounded."""
    from openvino import Layout, Output, Type, opset13
    from openvino.preprocess import PrePostProcessor

    def to_bytes(rgba: Output) -> Output:
        whole = opset13.multiply(rgba, opset13.constant(np.float32(255)))
        return opset13.round(whole, "half_to_even").output(0)

    ends = PrePostProcessor(model)
    ends.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    ends.input().model().set_layout(Layout("NCHW"))
    ends.input().preprocess().convert_element_type(Type.f32).mean(127.5).scale(127.5)
    ends.output().model().set_layout(Layout("NCHW"))
    ends.output().postprocess().custom(to_bytes)
    ends.output().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    return ends.build()


def _last_line(error: Exception) -> str:
    """OpenVINO's messages name its source files first; the last line says what happened."""
    return str(error).strip().splitlines()[-1].strip()
