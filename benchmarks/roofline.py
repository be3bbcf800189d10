"""How near a row comes to what the machine can do: work counted in the graph, the machine's rates measured.

    work     multiply-adds of convolutions and matrix products, and bytes that the operations read and write, of the
             float32 graph, one operation after the other
    rates    a large matrix product, and a copy of memory that no cache holds
    share    the least time that work takes at these rates, of the time that was measured

One roof for all rows of a device: float32 on a processor, float16 on a GPU, which both are made for. A row above 1 does
what that arithmetic cannot, in int8 or bf16, or keeps in caches what is counted here as read and written.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, helper, shape_inference

from benchmarks.devices import waits

MATRIX = {"cpu": 1024, "cuda": 8192}  # rows and columns: 2 and 1100 GFLOP a product
COPIED = 128 << 20  # bytes; larger than the caches of most processors
RATE_S = 0.4  # a measurement; the fastest of its calls counts
# Another view of the same bytes
FREE = ("Constant", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Work:
    """One call of a graph. macs: multiply-adds; moved: bytes of weights and of all activations, read and written."""

    macs: int
    moved: int


@dataclass(frozen=True)
class Rates:
    """What a device does at best: arithmetic "f32" or "f16", operations a second (a multiply-add is two), bytes a
    second (a copied byte is read and written, two)."""

    arithmetic: str
    operations_per_s: float
    bytes_per_s: float

    def best(self, other: "Rates") -> "Rates":
        """The faster of each: whoever disturbed one measurement did not make the machine slower."""
        return Rates(
            self.arithmetic,
            max(self.operations_per_s, other.operations_per_s),
            max(self.bytes_per_s, other.bytes_per_s),
        )


def roof_ms(work: Work, rates: Rates) -> float:
    """The least milliseconds that `work` takes: by arithmetic or by memory, whichever is slower."""
    bytes_moved = work.moved / (2 if rates.arithmetic == "f16" else 1)
    return max(2 * work.macs / rates.operations_per_s, bytes_moved / rates.bytes_per_s) * 1e3


def counted(model: ModelProto) -> Work:
    """The work of one call of `model`, float32 with a fixed number of crops (engine.graphs.read_graph).

    ValueError names a tensor whose shape cannot be told.
    """
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {value.name: tuple(value.dims) for value in graph.initializer}
    weights = set(shapes)
    sizes = {value.name: helper.tensor_dtype_to_np_dtype(value.data_type).itemsize for value in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        shapes[value.name] = tuple(side.dim_value for side in kind.shape.dim)
        sizes[value.name] = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize

    def size(tensor: str) -> int:
        if 0 in shapes.get(tensor, (0,)):
            raise ValueError(f"{tensor}: shape {shapes.get(tensor, 'unknown')} is not fixed")
        return math.prod(shapes[tensor]) * sizes[tensor]

    nodes = [node for node in graph.node if node.op_type not in FREE]
    read = {tensor for node in nodes for tensor in node.input if tensor in weights}
    moved = sum(map(size, read))  # once, although a large weight may not stay in a cache
    for node in nodes:
        moved += sum(size(tensor) for tensor in (*node.input, *node.output) if tensor and tensor not in weights)
    return Work(sum(_macs(node, shapes) for node in nodes), moved)


def _macs(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    first, second = (shapes[tensor] for tensor in node.input[:2])
    made = shapes[node.output[0]]
    match node.op_type:
        case "Conv":  # weight (outputs, inputs of a group, height, width), at every pixel that is made
            return made[0] * math.prod(second) * math.prod(made[2:])
        case "ConvTranspose":  # weight (inputs, outputs of a group, height, width), at every pixel that is read
            return first[0] * math.prod(second) * math.prod(first[2:])
        case "Gemm":
            turned = any(each.name == "transA" and each.i for each in node.attribute)
            return math.prod(made) * first[0 if turned else 1]
    return math.prod(made) * first[-1]


def rates(device: str, threads: int | None) -> Rates:
    """Measured now, in a second. device: "cpu" with so many threads, or "cuda"."""
    import torch

    kind = torch.float16 if device == "cuda" else torch.float32
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        side = MATRIX[device]
        left, right = (torch.ones(side, side, dtype=kind, device=device) for _ in range(2))
        product = torch.empty_like(left)
        source = torch.ones(COPIED, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        wait = waits(device)
        product_s = _fastest(lambda: torch.mm(left, right, out=product), wait)
        copy_s = _fastest(lambda: target.copy_(source), wait)
    finally:
        torch.set_num_threads(before)
    return Rates("f16" if device == "cuda" else "f32", 2 * side**3 / product_s, 2 * COPIED / copy_s)


def _fastest(work: Callable[[], object], wait: Callable[[], None]) -> float:
    """Seconds of the fastest call in RATE_S."""
    work()
    wait()
    fastest, until = math.inf, time.perf_counter() + RATE_S
    while time.perf_counter() < until:
        start = time.perf_counter()
        work()
        wait()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest
