"""PyTorch in the forms that suit it: what the engines are compared with.

    eager           the network as it was trained, float32; on a GPU with TF32 as PyTorch has it and cudnn's search
    passive         the same, see contenders.py
    channels_last   pixels' channels side by side; on a GPU in float16, where convolutions are fastest so
    compiled        torch.compile, on a GPU in float16 as well

CUDA graphs: eager work is recorded by torch.cuda.graph, compiled work by torch.compile's mode `reduce-overhead`.
"""

import os
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.contenders import CHANNELS_LAST, COMPILED, CUDA, Contender, Ready
from engine import batches
from trainer.checkpoint import load_network
from trainer.networks.branches import Drawing

WARM_UP = 3  # calls before work is recorded: cudnn chooses its kernels in the first
ARITHMETIC = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


def opened(contender: Contender, x: np.ndarray) -> Ready:
    """x: (batch, 3, S, S) float32 in [-1, 1], what each call is given. torch.compile compiles in the first call."""
    torch.set_num_threads(contender.threads)
    torch.backends.cudnn.benchmark = True
    on_gpu = contender.device == CUDA
    side_by_side = contender.backend == CHANNELS_LAST or (contender.backend == COMPILED and on_gpu)
    layout = torch.channels_last if side_by_side else torch.contiguous_format
    kind = torch.float16 if contender.precision == "fp16" else torch.float32
    network = load_network(contender.subject.weights).to(contender.device, kind, memory_format=layout)
    call = _forward(network, contender)

    def placed(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).to(contender.device, kind).contiguous(memory_format=layout)

    given = placed(x)
    run = _recorded(call, given) if contender.cuda_graphs and contender.backend != COMPILED else lambda: call(given)

    def timed() -> None:
        run()
        if on_gpu:
            torch.cuda.synchronize()

    def draw(x: np.ndarray) -> np.ndarray:
        drawn = np.empty((len(x), 4, *x.shape[2:]), np.float32)
        batches.fill(drawn, x, (contender.batch,), lambda rows: _with_alpha(call(placed(rows))))
        return drawn

    return Ready(timed, draw, ARITHMETIC[contender.precision])


def _forward(network: nn.Module, contender: Contender) -> Callable[[Tensor], Tensor | Drawing]:
    group = contender.subject.group

    def forward(x: Tensor) -> Tensor | Drawing:
        return network(x, group)

    if contender.backend == COMPILED:
        # an empty cache each time, in this run's scratch folder: whether it is done within the limit is then no luck
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(dir=contender.subject.weights.parent)
        forward = torch.compile(forward, mode="reduce-overhead" if contender.cuda_graphs else "default")

    def call(x: Tensor) -> Tensor | Drawing:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=contender.precision == "bf16"):
            return forward(x)

    return call


def _recorded(call: Callable[[Tensor], object], given: Tensor) -> Callable[[], None]:
    """`call(given)` as a CUDA graph."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            call(given)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(given)
    return graph.replay


def _with_alpha(drawn: Tensor | Drawing) -> np.ndarray:
    """(N, 4, S, S) float32: alpha 1 where the network draws none."""
    if isinstance(drawn, Drawing):
        drawn = torch.cat([drawn.image, torch.ones_like(drawn.image[:, :1])], dim=1)
    return drawn.float().cpu().numpy()
