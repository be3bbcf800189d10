"""ONNX Runtime: on the processor wherever OpenVINO is not, and on whatever else an installed build of it can use.

Only the thread choice is kept: a session opens in 0.05 s. Pictures are converted outside the graph, by numpy in 0.5 ms;
inside it took as long.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import batches, machine
from engine import threads as thread_choice
from engine.backends import LATENCY, Options, backend
from engine.cache import Cache
from engine.manifest import ModelFiles
from engine.runner import CheckedRunner, spec_of
from livetoon.errors import EngineError

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

NAME = "onnxruntime"
CPU = "CPUExecutionProvider"
HALF = (  # execution providers that are fast in half precision, the one to take first; the processor is not
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "ROCMExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
)
LEFT_OUT = (
    "AzureExecutionProvider",  # computes somewhere else
    "TensorrtExecutionProvider",  # both build for minutes at the first crop; our own backends show it and keep more
    "NvTensorRTRTXExecutionProvider",
)
ARITHMETIC = {"fp16": "f16", "fp32": "f32", "int8": "int8"}
TIMED_CROPS = 4  # for each thread, so that all are busy


def provider_of(available: Sequence[str]) -> str:
    """The execution provider to take of those that this build of ONNX Runtime has.

    >>> provider_of(["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"])
    'CUDAExecutionProvider'
    """
    others = (name for name in available if name not in (*HALF, *LEFT_OUT, CPU))
    return next((name for name in (*HALF, *others) if name in available), CPU)


@backend(NAME, library="onnxruntime", rank=1)
class ONNXRuntimeRunner(CheckedRunner):
    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """By default fp16 where the provider is fast in it, else fp32. int8 on two AVX2 cores takes a third longer."""
        import onnxruntime

        if provider_of(onnxruntime.get_available_providers()) in HALF:
            return ("fp16", "fp32")
        return ("fp32", *(("int8",) if "int8" in stored else ()))

    @staticmethod
    def engine_keys(files: ModelFiles, precision: str, options: Options) -> dict[str, dict[str, object]]:
        return {}

    def __init__(self, files: ModelFiles, precision: str, options: Options, cache: Cache):
        import onnxruntime

        provider, size = provider_of(onnxruntime.get_available_providers()), files.manifest.size

        def milliseconds(threads: int) -> float:
            count = options.batches[0] if options.mode == LATENCY else TIMED_CROPS * threads
            work = _worker(_session(files, precision, CPU, threads, options), threads, options)
            blank = np.zeros((count, 3, size, size), np.float32)
            return thread_choice.fastest_ms(work, blank, np.empty((count, 4, size, size), np.float32)) / count

        if provider == CPU:
            made_by = {"backend": f"{NAME} {onnxruntime.__version__}", "device": machine.processor()}
            threads = thread_choice.chosen(milliseconds, files, precision, options, made_by, cache)
        else:
            threads = options.threads or machine.cores()  # for what the provider leaves to the processor
        session = _session(files, precision, provider, threads, options)
        taken = session.get_providers()[0]
        if taken != provider:
            log.warning("ONNX Runtime cannot use its %s here, the processor draws instead", provider)
        device = machine.processor() if taken == CPU else taken.removesuffix("ExecutionProvider")
        # the processor widens halves
        arithmetic = "f32" if taken == CPU and precision == "fp16" else ARITHMETIC[precision]
        spec = spec_of(files, precision, NAME, device, threads, arithmetic, on_card=taken != CPU)
        super().__init__(spec, at_once=_side_by_side(provider, options))
        self._work = _worker(session, threads, options)

    def _pictures(self, crops: np.ndarray) -> np.ndarray:
        x = crops.transpose(0, 3, 1, 2).astype(np.float32)
        x *= np.float32(1 / 127.5)
        x -= 1
        rgba = self._rgba(x)
        rgba *= 255
        np.rint(rgba, out=rgba)
        return np.ascontiguousarray(rgba.astype(np.uint8).transpose(0, 2, 3, 1))

    def _rgba(self, x: np.ndarray) -> np.ndarray:
        rgba = np.empty((len(x), 4, *x.shape[2:]), np.float32)
        self._work(x, rgba)
        return rgba


def _side_by_side(provider: str, options: Options) -> bool:
    """Whether several crops are drawn at a time, each on one thread, instead of one on all threads."""
    return provider == CPU and options.mode != LATENCY


def _worker(
    session: "onnxruntime.InferenceSession", threads: int, options: Options
) -> Callable[[np.ndarray, np.ndarray], None]:
    """Fills its second argument, (N, 4, S, S) float32, with what is drawn of its first, (N, 3, S, S) float32."""
    side_by_side = _side_by_side(session.get_providers()[0], options)
    over = ThreadPoolExecutor(threads, NAME).map if side_by_side else map

    def run(rows: np.ndarray) -> np.ndarray:
        return session.run(["rgba"], {"crop": rows})[0]

    return lambda x, rgba: batches.fill(rgba, x, options.batches, run, over)


def _session(
    files: ModelFiles, precision: str, provider: str, threads: int, options: Options
) -> "onnxruntime.InferenceSession":
    import onnxruntime

    graph = files.graph(precision)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1 if _side_by_side(provider, options) else threads
    settings.log_severity_level = 3  # errors
    # a waiting thread that spins takes the browser's core
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.enable_mem_pattern = provider != "DmlExecutionProvider"  # which refuses it
    providers = [provider] if provider == CPU else [provider, CPU]
    try:
        return onnxruntime.InferenceSession(_model(files, precision), settings, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no narrower base class
        raise EngineError(f"{graph}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error


def _model(files: ModelFiles, precision: str) -> Path | bytes:
    if precision != "fp16":
        return files.graph(precision)
    from engine.graphs import read_graph

    return read_graph(files, precision).SerializeToString()
