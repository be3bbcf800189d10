"""Several processes that learn one run: Lightning Fabric starts them, or torchrun has."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from livetoon.errors import TrainingError

LOOK_EVERY_S = 1.0  # for the process that started this one


class Parallel:
    """This process's share of a run; alone, every method gives back what it got.

    A joint batch is split by position. Losses are means over pictures, so the mean of the processes' gradients is the
    joint batch's gradient; networks stay equal because they start from one seed and move by equal gradients.

    A context: its end leaves the group. gloo's threads hold tensors, and end the process by SIGABRT where the
    interpreter goes first.
    """

    def __init__(self, fabric=None, device: torch.device | None = None):
        self._fabric = fabric
        self.rank = fabric.global_rank if fabric else 0
        self.processes = fabric.world_size if fabric else 1
        self.device = fabric.device if fabric else device or _device()

    def __enter__(self) -> "Parallel":
        return self

    def __exit__(self, *_) -> None:
        if self.processes > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, in one message."""
        if self.processes == 1 or not parameters:
            return
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
        with _others():
            flat = self._fabric.all_reduce(flat, reduce_op="mean")
        done = 0
        for parameter in parameters:
            count = parameter.grad.numel()
            parameter.grad.copy_(flat[done : done + count].view_as(parameter.grad))
            done += count

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """The mean of every figure over the processes; all have the same names."""
        if self.processes == 1 or not figures:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device)
        with _others():
            values = self._fabric.all_reduce(values, reduce_op="mean").tolist()
        return dict(zip(figures, values, strict=True))

    def gather(self, values: Tensor) -> Tensor:
        """(N, ...) of this process -> (N x processes, ...) of all."""
        if self.processes == 1:
            return values
        with _others():
            return self._fabric.all_gather(values).flatten(0, 1)

    def any(self, yes: bool) -> bool:
        """Whether any process says yes."""
        return yes if self.processes == 1 else self.mean({"yes": float(yes)})["yes"] > 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.processes > 1:
            with _others():
                self._fabric.barrier()


def open_parallel(devices: int = 1, nodes: int = 1) -> Parallel:
    """Join the processes that torchrun started (its environment tells), or take `devices` GPUs of this machine."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 and devices == 1:
        return Parallel()
    from lightning_fabric import Fabric

    here = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    nodes = max(nodes, processes // here)
    fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=nodes, strategy="ddp")
    if os.environ.get("LOCAL_RANK", "0") != "0":
        _end_with(os.getppid())
    fabric.launch()
    return Parallel(fabric)


@contextmanager
def _others() -> Iterator[None]:
    """TrainingError where another process has ended, in the words of the backend."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise TrainingError("another process of this run has ended; the line that it printed says why") from error


def _end_with(launcher: int) -> None:
    """End this process soon after the one that started it. On GPUs it would else wait half an hour for the answer of a
    process that is gone; on CPUs the connection breaks at once."""

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOK_EVERY_S)
        os._exit(1)  # the main thread waits in the backend, where no exception reaches it

    threading.Thread(target=watch, name="end-with-launcher", daemon=True).start()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
