"""Torch-TensorRT: the graph as a torch module (torch_graph.py), whose parts TensorRT compiles.

For machines whose torch brings its own TensorRT. It compiles anew at every start, in minutes, so `auto` takes it last;
int8 is left to the tensorrt backend, which reads quantizers from the graph.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine import batches
from engine.backends import Options, backend
from engine.cache import Cache
from engine.manifest import ModelFiles
from engine.runner import CheckedRunner, spec_of
from livetoon.errors import EngineError

if TYPE_CHECKING:
    import torch

DEVICE = "cuda"
ARITHMETIC = {"fp16": "f16", "fp32": "f32"}  # the default first


@backend("torch-tensorrt", library="torch_tensorrt", rank=10)
class TorchTensorRTRunner(CheckedRunner):
    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        import torch

        if not torch.cuda.is_available():
            raise EngineError(
                f"it needs an NVIDIA GPU with its driver, and a torch for CUDA; torch {torch.__version__} finds none"
            )
        import torch_tensorrt  # noqa: F401 -- a broken installation shows here, while another backend can be taken

        return tuple(ARITHMETIC)

    @staticmethod
    def engine_keys(files: ModelFiles, precision: str, options: Options) -> dict[str, dict[str, object]]:
        return {}

    def __init__(self, files: ModelFiles, precision: str, options: Options, cache: Cache):
        import torch

        self._compiled = {batch: _compiled(files, precision, batch) for batch in options.batches}
        device = torch.cuda.get_device_name()
        arithmetic = ARITHMETIC[precision]
        super().__init__(spec_of(files, precision, self.backend_name, device, 1, arithmetic, on_card=True))

    def _pictures(self, crops: np.ndarray) -> np.ndarray:
        import torch

        pictures = np.empty((*crops.shape[:3], 4), np.uint8)

        def run(rows: np.ndarray) -> np.ndarray:
            planes = torch.from_numpy(rows).to(DEVICE).permute(0, 3, 1, 2).float() * (2 / 255) - 1
            rgba = self._rgba_of(planes)
            return (rgba * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

        batches.fill(pictures, crops, tuple(self._compiled), run)
        return pictures

    def _rgba(self, x: np.ndarray) -> np.ndarray:
        import torch

        rgba = np.empty((len(x), 4, *x.shape[2:]), np.float32)

        def run(rows: np.ndarray) -> np.ndarray:
            return self._rgba_of(torch.from_numpy(rows).to(DEVICE)).cpu().numpy()

        batches.fill(rgba, x, tuple(self._compiled), run)
        return rgba

    def _rgba_of(self, planes: "torch.Tensor") -> "torch.Tensor":
        """planes (N, 3, S, S) in [-1, 1], N one of the batches -> (N, 4, S, S) in [0, 1]."""
        import torch

        with torch.inference_mode():
            return self._compiled[len(planes)](planes.contiguous())


def _compiled(files: ModelFiles, precision: str, batch: int) -> "torch.nn.Module":
    import torch_tensorrt

    from engine.graphs import read_graph
    from engine.torch_graph import torch_module

    module = torch_module(read_graph(files, precision, batch))
    side = files.manifest.size
    try:
        return torch_tensorrt.compile(
            module.to(DEVICE),
            ir="dynamo",
            inputs=[torch_tensorrt.Input((batch, 3, side, side))],
            use_explicit_typing=True,  # the graph says what is computed in which precision
        )
    except RuntimeError as error:
        first = next(iter(str(error).strip().splitlines()), "it gives no reason")
        raise EngineError(f"{files.graph(precision)}: torch-tensorrt cannot compile it: {first}") from error
