"""ONNX Runtime on the processor: runs wherever OpenVINO does not."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import batches, machine
from engine import threads as thread_choice
from engine.backends import Options, backend
from engine.cache import Cache
from engine.manifest import ModelFiles
from engine.runner import CheckedRunner, spec_of
from livetoon.errors import EngineError

if TYPE_CHECKING:
    import onnxruntime

NAME = "onnxruntime"


@backend(NAME, library="onnxruntime", rank=1)
class ONNXRuntimeRunner(CheckedRunner):
    """Only the thread choice is cached: a session opens in 0.05 s.

    Pictures are converted outside the graph, by numpy in 0.5 ms; inside it took as long.
    """

    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """float32 only: INT8 takes a third longer than that here (AVX2, measured)."""
        import onnxruntime  # noqa: F401 -- a broken installation shows here, while another backend can be taken

        return ("fp32",)

    @staticmethod
    def engine_keys(files: ModelFiles, precision: str, options: Options) -> dict[str, dict[str, object]]:
        return {}

    def __init__(self, files: ModelFiles, precision: str, options: Options, cache: Cache):
        import onnxruntime

        self._batches = options.batches
        graph, device = files.graph(precision), machine.processor()
        count, size = options.batches[0], files.manifest.size
        blank = {"crop": np.zeros((count, 3, size, size), np.float32)}

        def milliseconds(threads: int) -> float:
            return thread_choice.fastest_ms(_session(graph, threads).run, None, blank) / count

        made_by = {"backend": f"{NAME} {onnxruntime.__version__}", "device": device}
        threads = thread_choice.chosen(milliseconds, files, precision, options, made_by, cache)
        super().__init__(spec_of(files, precision, NAME, device, threads, "f32"))
        self._session = _session(graph, threads)

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
        batches.fill(rgba, x, self._batches, lambda rows: self._session.run(["rgba"], {"crop": rows})[0])
        return rgba


def _session(graph: Path, threads: int) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # a waiting thread that spins takes the browser's core
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no narrower base class
        raise EngineError(f"{graph}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error
