"""Which rows there are on this machine, and how one of them is made ready to run.

    PyTorch      eager, eager with threads that sleep while they wait (passive: on cores that others use too they
                 are not in their own way), eager with channels last, torch.compile
    engines      every backend of the engine that is installed, in each precision that it has here

PyTorch gets what suits it best: float32 planes already in memory (on a GPU: already there) in inference mode. Engines
are timed as live video calls them: uint8 pictures in and out, conversions and copies to and from a GPU included.
"""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import backends, machine, manifest
from engine.backends import PRECISIONS
from engine.cache import cache_of
from engine.proof import planes
from engine.runner import open_runner
from livetoon.errors import EngineError

EAGER, PASSIVE, CHANNELS_LAST = "pytorch eager", "pytorch eager passive", "pytorch channels_last"
COMPILED = "torch.compile"
PYTORCH = (EAGER, PASSIVE, CHANNELS_LAST, COMPILED)
EMULATED = {("torch", "int8")}  # draws what the graph says, multiplied in float32: accuracy without speed
RECORDING = ("tensorrt", "tensorrt-rtx")  # engines that can be told to do without CUDA graphs
CPU, CUDA = "cpu", "cuda"
SAME_DB = 200.0  # engine.proof calls the PSNR of pictures that are the same to the bit 206


@dataclass(frozen=True)
class Subject:
    """A model to measure. folder: its graphs; weights: the same in a .safetensors file, for PyTorch; alpha: whether it
    draws its own, otherwise accuracy is that of the colours alone; without_int8: why it has no
    INT8 graph although it was to have one."""

    name: str
    network: str
    folder: Path
    weights: Path
    group: str
    size: int
    alpha: bool
    without_int8: str | None = None


@dataclass(frozen=True)
class Contender:
    """One row before it is measured. device: "cpu" or "cuda"; threads: of the processor; cuda_graphs: whether a GPU's
    work is recorded and replayed, None on a processor."""

    subject: Subject
    backend: str
    precision: str
    device: str
    threads: int
    batch: int
    cuda_graphs: bool | None = None

    @property
    def is_pytorch(self) -> bool:
        return self.backend in PYTORCH

    @property
    def is_eager(self) -> bool:
        """Whether ratios are to it: float32, all cores, as PyTorch runs it."""
        alone = self.threads == machine.cores() and not self.cuda_graphs
        return self.backend == EAGER and self.precision == "fp32" and alone


@dataclass(frozen=True)
class Ready:
    """A row that can be run. run: one call of `batch` crops; draw: (N, 3, S, S) float32 in [-1, 1] -> (N, 4, S, S);
    arithmetic: what most of it is computed in; made: whether an engine was compiled for it just now."""

    run: Callable[[], object]
    draw: Callable[[np.ndarray], np.ndarray]
    arithmetic: str
    made: bool = False


def contenders(subject: Subject, batch: int, precisions: Collection[str] = PRECISIONS) -> list[Contender]:
    """Every row of one model and batch, eager in float32 on the processor first: the reference.

    precisions: of engines.
    """
    threads = sorted({1, machine.cores()}, reverse=True) if batch == 1 else [machine.cores()]
    found = [
        Contender(subject, backend, precision, device, count, batch, graphs)
        for backend, precision, device, graphs in _pytorch()
        for count in (threads if (backend, precision, device) == (EAGER, "fp32", CPU) else threads[:1])
    ]
    for backend, has in backends.usable(manifest.read(subject.folder).precisions).items():
        for precision in [each for each in has if each in precisions and (backend, each) not in EMULATED]:
            if backend in RECORDING:
                found += [Contender(subject, backend, precision, CUDA, 1, batch, graphs) for graphs in (False, True)]
            elif _takes_cuda(backend):
                found.append(Contender(subject, backend, precision, CUDA, 1, batch))
            else:
                found += [Contender(subject, backend, precision, CPU, count, batch) for count in threads]
    return found


def _pytorch() -> Iterator[tuple[str, str, str, bool | None]]:
    """Backend, precision, device and CUDA graphs of PyTorch's rows."""
    yield EAGER, "fp32", CPU, None
    if machine.has_bf16():
        yield EAGER, "bf16", CPU, None
    yield PASSIVE, "fp32", CPU, None
    yield CHANNELS_LAST, "fp32", CPU, None
    yield COMPILED, "fp32", CPU, None
    if _has_cuda():
        for graphs in (False, True):
            yield EAGER, "fp32", CUDA, graphs
            yield CHANNELS_LAST, "fp16", CUDA, graphs
            yield COMPILED, "fp16", CUDA, graphs


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _takes_cuda(backend: str) -> bool:
    """Whether a backend that can do without runs on an NVIDIA GPU here."""
    if backend == "onnxruntime":
        import onnxruntime

        return _has_cuda() and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return _has_cuda() and backend.startswith("torch")


def ready(contender: Contender, crops: np.ndarray) -> Ready:
    """Open `contender` in this process. crops: (batch, S, S, 3) uint8 RGB, what each call is given."""
    if contender.backend == PASSIVE:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read as torch is loaded
    if contender.is_pytorch:
        from benchmarks.opponents import opened

        return opened(contender, planes(crops))
    return _engine(contender, crops)


def _engine(contender: Contender, crops: np.ndarray) -> Ready:
    subject = contender.subject
    made = not _is_kept(contender)
    threads = contender.threads if contender.device == CPU else None
    runner = open_runner(
        subject.folder, subject.group, contender.backend, contender.precision, threads, (contender.batch,)
    )
    if contender.device == CUDA and not runner.spec.on_card:
        raise EngineError(f"{contender.backend} cannot use the GPU here, the processor would draw")
    if contender.cuda_graphs is False:
        runner.plan.recording = False
    return Ready(lambda: runner(crops), runner.infer, runner.spec.arithmetic, made)


def _is_kept(contender: Contender) -> bool:
    """Whether every engine of it lies in the cache."""
    subject = contender.subject
    files = manifest.open_files(subject.folder, subject.group)
    options = backends.Options(contender.threads, (contender.batch,))
    keys = backends.candidates(contender.backend)[0].engine_keys(files, contender.precision, options)
    cache = cache_of(files.folder)
    return all(cache.has(slot, fields) for slot, fields in keys.items())
