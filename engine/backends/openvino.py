"""OpenVINO on the processor: pictures in and out inside the compiled graph.

latency      one stream of a few threads, called directly (its asynchronous queue costs 1.3 ms more)
throughput   a stream of one thread for each core, shared by all calls: on two AVX2 cores 1.2 times as many crops a
             second as one stream of two threads, whether they come one by one or four at once
"""

import functools
import io
import logging
import platform
import queue
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine import batches
from engine import threads as thread_choice
from engine.backends import LATENCY, Options, backend, fields_of, slot
from engine.cache import Cache
from engine.manifest import ModelFiles
from engine.runner import CheckedRunner, spec_of
from livetoon.errors import EngineError
from livetoon.inference import openvino_core

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)

NAME = "openvino"
DEVICE = "CPU"
X86 = ("x86_64", "amd64")  # elsewhere OpenVINO's INT8 convolutions were not tried
TIMED_CROPS = 4  # for each thread, so that every stream is busy


@backend(NAME, library="openvino", rank=0)
class OpenVINORunner(CheckedRunner):
    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """bf16 where the processor has it, then int8 (on AVX2 1.7 times as fast as float32), fp32 and fp16."""
        has = {"bf16": "BF16" in _capabilities(), "int8": "int8" in stored and platform.machine().lower() in X86}
        return (*(name for name in has if has[name]), "fp32", "fp16")

    @staticmethod
    def engine_keys(files: ModelFiles, precision: str, options: Options) -> dict[str, dict[str, object]]:
        return {
            slot(files, files.group, NAME, precision, options.mode, f"batch{batch}"): {
                **fields_of(files, precision, options.mode),
                **_machine(),
                "batch": batch,
            }
            for batch in options.batches
        }

    def __init__(self, files: ModelFiles, precision: str, options: Options, cache: Cache):
        keys = dict(zip(options.batches, self.engine_keys(files, precision, options).items(), strict=True))

        @functools.cache
        def engines(threads: int) -> dict[int, "openvino.CompiledModel"]:
            settings = _settings(precision, options.mode, threads)
            return {batch: _engine(files, precision, batch, cache, *key, settings) for batch, key in keys.items()}

        def milliseconds(threads: int) -> float:
            size = files.manifest.size
            count = options.batches[0] if options.mode == LATENCY else TIMED_CROPS * threads
            work = _worker(engines(threads), options.mode, threads)
            return thread_choice.fastest_ms(work, np.zeros((count, size, size, 3), np.uint8)) / count

        threads = thread_choice.chosen(milliseconds, files, precision, options, _machine(), cache)
        arithmetic = "int8" if precision == "int8" else _hint(precision)
        spec = spec_of(files, precision, NAME, _device(), threads, arithmetic)
        super().__init__(spec, at_once=options.mode != LATENCY)
        self._files, self._batches = files, options.batches
        self._work = _worker(engines(threads), options.mode, threads)
        self._float_request: openvino.InferRequest | None = None

    def _pictures(self, crops: np.ndarray) -> np.ndarray:
        return self._work(crops)

    def _rgba(self, x: np.ndarray) -> np.ndarray:
        batch = self._batches[:1]
        if self._float_request is None:
            settings = _settings(self.spec.precision, LATENCY, self.spec.threads)
            model = _read(self._files, self.spec.precision, batch[0])
            self._float_request = openvino_core().compile_model(model, DEVICE, settings).create_infer_request()
        rgba = np.empty((len(x), 4, *x.shape[2:]), np.float32)
        batches.fill(rgba, x, batch, lambda rows: _run(self._float_request, rows))
        return rgba


def _worker(
    engines: "dict[int, openvino.CompiledModel]", mode: str, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes (N, S, S, 4) uint8 RGBA of (N, S, S, 3) uint8 RGB. engines: by batch size."""
    return _one_by_one(engines) if mode == LATENCY else _Streams(engines, threads)


def _one_by_one(engines: "dict[int, openvino.CompiledModel]") -> Callable[[np.ndarray], np.ndarray]:
    requests = {batch: engine.create_infer_request() for batch, engine in engines.items()}

    def work(crops: np.ndarray) -> np.ndarray:
        pictures = np.empty((*crops.shape[:3], 4), np.uint8)
        batches.fill(pictures, crops, tuple(requests), lambda rows: _run(requests[len(rows)], rows))
        return pictures

    return work


class _Streams:
    """Requests that all callers share: of each batch size one for every stream."""

    def __init__(self, engines: "dict[int, openvino.CompiledModel]", streams: int):
        self._idle = {batch: queue.SimpleQueue() for batch in engines}
        for batch, engine in engines.items():
            for _ in range(streams):
                self._idle[batch].put(engine.create_infer_request())

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        pictures = np.empty((*crops.shape[:3], 4), np.uint8)
        running = deque()
        try:
            for place, rows in batches.parts(crops, tuple(self._idle)):
                request = self._request(len(rows), running, pictures)
                running.append((request, place, rows))  # rows: kept as long as they are read
                request.start_async([rows], share_inputs=True)
        finally:
            while running:
                self._finish(running, pictures)
        return pictures

    def _request(self, batch: int, running: deque, pictures: np.ndarray) -> "openvino.InferRequest":
        """An idle one. A caller who has some waits for its own: two who wait for each other's would never go on."""
        while running:
            try:
                return self._idle[batch].get_nowait()
            except queue.Empty:
                self._finish(running, pictures)
        return self._idle[batch].get()

    def _finish(self, running: deque, pictures: np.ndarray) -> None:
        request, place, rows = running.popleft()
        try:
            request.wait()
            pictures[place] = request.get_output_tensor().data[: place.stop - place.start]
        finally:
            self._idle[len(rows)].put(request)


def _run(request: "openvino.InferRequest", array: np.ndarray) -> np.ndarray:
    """The request's own output, overwritten by its next run."""
    return request.infer([array], share_inputs=True, share_outputs=True)[0]


def _capabilities() -> list[str]:
    return openvino_core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def _device() -> str:
    return openvino_core().get_property(DEVICE, "FULL_DEVICE_NAME")


def _machine() -> dict[str, object]:
    """What a compiled engine depends on beside the model."""
    import openvino

    return {
        "backend": f"{NAME} {openvino.__version__}",
        "device": _device(),
        "capabilities": _capabilities(),
    }


def _hint(precision: str) -> str:
    """What is not quantized computes in it. fp16: in f16 where the processor has it, else in what it has."""
    if precision == "fp16":
        return next((hint for name, hint in (("FP16", "f16"), ("BF16", "bf16")) if name in _capabilities()), "f32")
    return {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[precision]


def _settings(precision: str, mode: str, threads: int) -> dict[str, object]:
    return {
        "PERFORMANCE_HINT": mode.upper(),
        "NUM_STREAMS": 1 if mode == LATENCY else threads,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": _hint(precision),
        "ENABLE_CPU_PINNING": False,  # a pinned thread waits behind the browser while another core idles
    }


def _engine(
    files: ModelFiles, precision: str, batch: int, cache: Cache, name: str, fields: dict, settings: dict
) -> "openvino.CompiledModel":
    """The compiled engine from `cache`, or made and stored there. Thread count and hints are set as it is loaded."""
    if engine := _loaded(cache, name, fields, settings):
        return engine
    with cache.lock(name) as waited:
        if waited and (engine := _loaded(cache, name, fields, settings)):
            return engine
        model = _with_pictures(_read(files, precision, batch))
        try:
            engine = openvino_core().compile_model(model, DEVICE, settings)
        except RuntimeError as error:
            raise EngineError(f"{files.graph(precision)}: OpenVINO cannot compile it: {_last_line(error)}") from error
        exported = io.BytesIO()
        engine.export_model(exported)
        cache.store(name, fields, exported.getvalue())
    return engine


def _loaded(cache: Cache, name: str, fields: dict, settings: dict) -> "openvino.CompiledModel | None":
    stored = cache.load(name, fields)
    if stored is None:
        return None
    try:
        return openvino_core().import_model(stored, DEVICE, settings)
    except RuntimeError as error:
        log.warning("cache %s: OpenVINO cannot load it (%s), made anew", name, _last_line(error))
        return None


def _read(files: ModelFiles, precision: str, batch: int) -> "openvino.Model":
    """The graph for `batch` crops a call, which every other size is then cut into."""
    graph = files.graph(precision)
    if precision == "fp16":
        from engine.graphs import read_graph

        graph = read_graph(files, precision).SerializeToString()
    try:
        model = openvino_core().read_model(graph)
    except RuntimeError as error:
        raise EngineError(f"{files.graph(precision)}: OpenVINO cannot read it: {_last_line(error)}") from error
    model.reshape([batch, 3, files.manifest.size, files.manifest.size])
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
