"""A torch module that draws pictures, ready to be called again and again.

processor   as it is, on as many threads as are wanted
card        compiled, channels last, recorded as a CUDA graph for each batch size: copy in, draw, copy out in one call
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from livetoon.errors import EngineError
from livetoon.files import user_folder

log = logging.getLogger(__name__)

WARM_UP = 3  # calls that compile, choose kernels and take memory, before one is recorded

Draw = Callable[[np.ndarray], np.ndarray]  # rows of one batch size; the answer may be overwritten by the next call


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes on `count` threads meanwhile, and no gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


def on_processor(network: nn.Module) -> Draw:
    """`network` for numpy arrays."""
    return lambda rows: network(torch.tensor(rows)).numpy()


def on_card(network: nn.Module) -> Draw:
    """`network`, moved to the GPU, for numpy arrays of any batch size: neither compiled nor recorded."""
    network = _moved(network)

    def draw(rows: np.ndarray) -> np.ndarray:
        with exact():
            return network(torch.tensor(rows, device="cuda")).cpu().numpy()

    return draw


def recorded(network: nn.Module, batches: Sequence[int], size: int) -> Draw:
    """`network`, moved to the GPU, for pictures of these batch sizes. Compiling takes about a minute, once.

    EngineError where it does not run there.
    """
    # what torch compiles is found again at the next start
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_folder() / "torch"))
    try:
        network = _moved(network)
        with exact():
            try:
                compiled = torch.compile(network, dynamic=False)
                lanes = {batch: _Lane(compiled, batch, size) for batch in batches}
            except RuntimeError as error:
                log.warning("torch cannot compile the network here (%s): it is run as it is", _first_line(error))
                lanes = {batch: _Lane(network, batch, size) for batch in batches}
    except RuntimeError as error:
        raise EngineError(
            f"torch cannot run the network on {torch.cuda.get_device_name()}: {_first_line(error)}"
        ) from error
    return lambda rows: lanes[len(rows)](rows)


class _Lane:
    """One batch size: memory that stays where it is, and the work recorded from there to there."""

    def __init__(self, network: Callable[[Tensor], Tensor], batch: int, size: int):
        pinned = {"dtype": torch.uint8, "pin_memory": True}
        self._crops = torch.zeros(batch, size, size, 3, **pinned)
        self._pictures = torch.zeros(batch, size, size, 4, **pinned)
        self._here = self._crops.cuda()
        self._stream = torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):
                network(self._here)
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # other threads may use the GPU meanwhile
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            self._here.copy_(self._crops, non_blocking=True)
            self._pictures.copy_(network(self._here), non_blocking=True)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self._crops.numpy()[:] = rows
        with torch.cuda.stream(self._stream):
            self._graph.replay()
        self._stream.synchronize()
        return self._pictures.numpy()


def _moved(network: nn.Module) -> nn.Module:
    return network.to(device="cuda", memory_format=torch.channels_last)


def exact() -> contextlib.AbstractContextManager:
    """The fastest kernels, and float32 that means float32: TF32 rounds to 10 bits."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
