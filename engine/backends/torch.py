"""torch, for cards that no other backend is installed for.

On a processor it is the slowest and asked for by name only, to compare with. There it is not compiled: a translation
network had not been compiled after 400 s.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine import batches, machine
from engine import threads as thread_choice
from engine.backends import Options, backend
from engine.cache import Cache
from engine.manifest import ModelFiles
from engine.runner import CheckedRunner, spec_of

if TYPE_CHECKING:
    from torch import nn

NAME = "torch"
ARITHMETIC = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}  # int8: its codes are multiplied as floats


def rank() -> float:
    """Where there is a card: after TensorRT, before all that runs on the processor. Else last."""
    return -0.5 if machine.nvidia_gpus() else 9


@backend(NAME, library="torch", rank=rank)
class TorchRunner(CheckedRunner):
    """Runs every model folder: its graph becomes a torch module (torch_graph.py). Cached are the thread choice and, by
    torch itself, what it compiled for a card."""

    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """By default fp16 on a card, fp32 on a processor. int8 draws what its graph says, no faster."""
        import onnx  # noqa: F401 -- it reads the graph
        import torch

        if torch.cuda.is_available():
            has = {"fp16": True, "bf16": torch.cuda.is_bf16_supported(including_emulation=False), "fp32": True}
        else:
            has = {"fp32": True, "bf16": machine.has_bf16()}
        return tuple(name for name, there in (has | {"int8": "int8" in stored}).items() if there)

    @staticmethod
    def engine_keys(files: ModelFiles, precision: str, options: Options) -> dict[str, dict[str, object]]:
        return {}

    def __init__(self, files: ModelFiles, precision: str, options: Options, cache: Cache):
        import torch

        from engine import torch_run

        self._files, self._sizes = files, options.batches
        self._on_card = torch.cuda.is_available()
        self._on_threads = torch_run.threads
        network = _network(files, precision, pictures=True)
        if self._on_card:
            self._draw = torch_run.recorded(network, options.batches, files.manifest.size)
            threads, device = options.threads or 1, torch.cuda.get_device_name()
        else:
            self._draw = torch_run.on_processor(network)
            device = machine.processor()
            made_by = {"backend": f"{NAME} {torch.__version__}", "device": device}
            threads = thread_choice.chosen(self._milliseconds, files, precision, options, made_by, cache)
        self._draw_floats: torch_run.Draw | None = None
        super().__init__(spec_of(files, precision, NAME, device, threads, ARITHMETIC[precision], self._on_card))

    def _milliseconds(self, threads: int) -> float:
        """Of one crop."""
        count, size = self._sizes[0], self._files.manifest.size
        with self._on_threads(threads):
            return thread_choice.fastest_ms(self._draw, np.zeros((count, size, size, 3), np.uint8)) / count

    def _pictures(self, crops: np.ndarray) -> np.ndarray:
        pictures = np.empty((*crops.shape[:3], 4), np.uint8)
        with self._on_threads(self.spec.threads):
            batches.fill(pictures, crops, self._sizes, self._draw)
        return pictures

    def _rgba(self, x: np.ndarray) -> np.ndarray:
        from engine import torch_run

        if self._draw_floats is None:
            network = _network(self._files, self.spec.precision, pictures=False)
            self._draw_floats = torch_run.on_card(network) if self._on_card else torch_run.on_processor(network)
        rgba = np.empty((len(x), 4, *x.shape[2:]), np.float32)
        with self._on_threads(self.spec.threads):
            batches.fill(rgba, x, self._sizes, self._draw_floats)
        return rgba


def _network(files: ModelFiles, precision: str, pictures: bool) -> "nn.Module":
    """bf16 is what the graph in fp16 says, in torch's other half precision."""
    import torch

    from engine.graphs import read_graph
    from engine.torch_graph import torch_module

    half = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch_module(read_graph(files, "fp16" if precision == "bf16" else precision, pictures=pictures), half)
