"""ONNX Runtime on the processor: runs wherever OpenVINO does not."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import machine
from engine import threads as thread_choice
from engine.backends import backend
from engine.cache import Cache
from engine.manifest import WEIGHTS, ModelFiles
from engine.runner import CheckedRunner, RunnerSpec
from livetoon.errors import EngineError

if TYPE_CHECKING:
    import onnxruntime


@backend("onnxruntime", library="onnxruntime", rank=1)
class ONNXRuntimeRunner(CheckedRunner):
    """Only the thread choice is cached: a session opens in 0.05 s.

    Pictures are converted outside the graph, by numpy in 0.5 ms; inside it took as long.
    """

    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """float32 only: INT8 takes a third longer than that here (AVX2, measured)."""
        import onnxruntime  # noqa: F401 -- a broken installation shows here, while another backend can be taken

        return ("fp32",)

    def __init__(self, files: ModelFiles, precision: str, threads: int | None, cache: Cache):
        import onnxruntime

        described = files.manifest
        size = described.size
        graph = files.graph(precision)
        device = machine.processor()
        self._batch = described.batch or 1  # on a processor four calls take no longer than one call with four crops
        if threads is None:
            blank = {"crop": np.zeros((self._batch, 3, size, size), np.float32)}
            threads = thread_choice.choose(
                lambda count: thread_choice.fastest_ms(_session(graph, count).run, None, blank),
                cache,
                f"{described.name}-onnxruntime-{precision}-{files.place}-threads",
                {
                    "digest": described.files[WEIGHTS],  # one choice for all groups
                    "backend": f"onnxruntime {onnxruntime.__version__}",
                    "device": device,
                },
            )
        super().__init__(
            RunnerSpec(described.name, described.network, files.group, size, precision, "onnxruntime", device, threads)
        )
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
        missing = -len(x) % self._batch
        padded = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x
        runs = [
            self._session.run(["rgba"], {"crop": padded[start : start + self._batch]})[0]
            for start in range(0, len(padded), self._batch)
        ]
        return (runs[0] if len(runs) == 1 else np.concatenate(runs))[: len(x)]


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
