"""Stand-ins for what only a machine with an NVIDIA GPU has: CUDA's functions over the host's memory, and a runtime of
TensorRT that runs an ONNX graph in place of a plan.

What is queued happens when it is waited for, as late as on a GPU that has much to do: who reads early reads what was.
"""

import ctypes
import json
from collections.abc import Callable, Sequence
from enum import IntEnum
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import tensorrt_rtx

ALIGNED = 256
COMPILED = b"compiled for this GPU"


class Cuda:
    """cuda.bindings.runtime as far as engine.cuda calls it. copied: bytes so far. streams: made so far."""

    class cudaError_t(IntEnum):
        cudaSuccess = 0
        cudaErrorInsufficientDriver = 35
        cudaErrorNoDevice = 100
        cudaErrorStreamCaptureUnsupported = 900

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyDefault=4)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, name: str = "NVIDIA L4", capability: tuple[int, int] = (8, 9), driver: int = 13000):
        self.card = SimpleNamespace(name=name.encode().ljust(256, b"\0"), major=capability[0], minor=capability[1])
        self.driver = driver
        self.devices: tuple[int, int] = (self.cudaError_t.cudaSuccess, 1)
        self.can_record = True
        self.when_waited: Callable[[], object] = lambda: None
        self.memory: dict[int, ctypes.Array] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {1: []}
        self.recordings: dict[int, list[Callable[[], None]]] = {}
        self.copied = self.launched = self.streams = 0

    def queue(self, stream: int, work: Callable[[], None]) -> None:
        self.recordings.get(stream, self.queues[stream]).append(work)

    def cudaDriverGetVersion(self):
        return self.cudaError_t.cudaSuccess, self.driver

    def cudaGetDeviceCount(self):
        return self.devices

    def cudaGetDeviceProperties(self, device):
        return self.cudaError_t.cudaSuccess, self.card

    def cudaGetErrorString(self, status):
        return self.cudaError_t.cudaSuccess, f"error {int(status)}".encode()

    def cudaMalloc(self, size):
        buffer = (ctypes.c_ubyte * (size + ALIGNED))()
        pointer = -(-ctypes.addressof(buffer) // ALIGNED) * ALIGNED
        self.memory[pointer] = buffer
        return self.cudaError_t.cudaSuccess, pointer

    def cudaFree(self, pointer):
        del self.memory[pointer]
        return (self.cudaError_t.cudaSuccess,)

    cudaMallocHost, cudaFreeHost = cudaMalloc, cudaFree

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == 1  # not blocking
        self.streams += 1
        stream = 100 + self.streams
        self.queues[stream] = []
        return self.cudaError_t.cudaSuccess, stream

    def cudaStreamDestroy(self, stream):
        del self.queues[stream]
        return (self.cudaError_t.cudaSuccess,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        assert kind == self.cudaMemcpyKind.cudaMemcpyDefault

        def copy() -> None:
            ctypes.memmove(target, source, size)
            self.copied += size

        self.queue(stream, copy)
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        assert stream not in self.recordings
        self.when_waited()
        work, self.queues[stream] = self.queues[stream], []
        for each in work:
            each()
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode == self.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.recordings[stream] = []
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        recorded = self.recordings.pop(stream)
        if not self.can_record:
            return self.cudaError_t.cudaErrorStreamCaptureUnsupported, None
        return self.cudaError_t.cudaSuccess, recorded

    def cudaGraphInstantiate(self, graph, flags):
        return self.cudaError_t.cudaSuccess, list(graph)

    def cudaGraphDestroy(self, graph):
        graph.clear()
        return (self.cudaError_t.cudaSuccess,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, executable, stream):
        assert stream not in self.recordings
        self.launched += 1
        self.queues[stream].extend(executable)
        return (self.cudaError_t.cudaSuccess,)


def plan_of(model: onnx.ModelProto, batches: Sequence[int], made_by: str) -> bytes:
    """What Library runs."""
    return json.dumps({"batches": list(batches), "made_by": made_by}).encode() + b"\n" + model.SerializeToString()


class Library:
    """The module `tensorrt` or `tensorrt_rtx`, its runtime only. executed: runs queued, without those replayed."""

    ILogger, TensorIOMode = tensorrt_rtx.ILogger, tensorrt_rtx.TensorIOMode
    EngineValidity = tensorrt_rtx.EngineValidity
    EngineInvalidityDiagnostics = tensorrt_rtx.EngineInvalidityDiagnostics
    DynamicShapesKernelSpecializationStrategy = tensorrt_rtx.DynamicShapesKernelSpecializationStrategy
    nptype = staticmethod(tensorrt_rtx.nptype)

    def __init__(self, cuda: Cuda, name: str = "tensorrt", version: str = "11.4.0.106"):
        self.cuda, self.__name__, self.__version__ = cuda, name, version
        self.is_rtx = name == "tensorrt_rtx"
        self.IRuntimeConfig = tensorrt_rtx.IRuntimeConfig if self.is_rtx else object
        self.Runtime = lambda logger: (RTXRuntime if self.is_rtx else Runtime)(self, logger)
        self.executed = 0
        self.given_compiled: list[bytes] = []


class Runtime:
    def __init__(self, library: Library, logger):
        self.library, self.logger = library, logger

    def deserialize_cuda_engine(self, plan: bytes):
        header, _, graph = plan.partition(b"\n")
        made_by = json.loads(header)["made_by"]
        if made_by != self.library.__version__:
            self.logger.log(self.logger.Severity.ERROR, f"version tag {made_by} does not match")
            return None
        return Engine(self.library, onnx.ModelProto.FromString(graph), json.loads(header)["batches"])


class RTXRuntime(Runtime):
    def get_engine_validity(self, plan: bytes):
        why = self.library.EngineInvalidityDiagnostics
        if not plan.startswith(b"{"):
            return self.library.EngineValidity.INVALID, int(why.MALFORMED_ENGINE)
        if json.loads(plan.partition(b"\n")[0])["made_by"] != self.library.__version__:
            return self.library.EngineValidity.INVALID, int(why.VERSION_MISMATCH) | int(why.UNSUPPORTED_CC)
        return self.library.EngineValidity.VALID, 0


class Engine:
    """Gives its tensors the other way round than they are bound."""

    def __init__(self, library: Library, model: onnx.ModelProto, batches: list[int]):
        self.library = library
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.ends = {end.name: end.type.tensor_type for end in (*model.graph.output, *model.graph.input)}
        self.modes = {
            **{end.name: tensorrt_rtx.TensorIOMode.OUTPUT for end in model.graph.output},
            **{end.name: tensorrt_rtx.TensorIOMode.INPUT for end in model.graph.input},
        }
        self.batches = batches
        self.num_io_tensors, self.num_optimization_profiles = len(self.ends), len(batches)

    def get_tensor_name(self, place):
        return list(self.ends)[place]

    def get_tensor_mode(self, name):
        return self.modes[name]

    def get_tensor_shape(self, name):
        return tuple(side.dim_value or -1 for side in self.ends[name].shape.dim)

    def get_tensor_dtype(self, name):
        kinds = {onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.FLOAT: "FLOAT"}
        return getattr(tensorrt_rtx.DataType, kinds[self.ends[name].elem_type])

    def get_tensor_profile_shape(self, name, profile):
        assert self.get_tensor_shape(name)[0] == -1
        return [(self.batches[profile], *self.get_tensor_shape(name)[1:])] * 3

    def create_runtime_config(self):
        assert self.library.is_rtx
        given = self.library.given_compiled
        cache = SimpleNamespace(deserialize=lambda known: given.append(known) or True, serialize=lambda: COMPILED)
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: True)

    def create_execution_context(self, *config):
        assert bool(config) == self.library.is_rtx
        # others leave slow kernels in what is recorded
        eager = tensorrt_rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        assert not config or config[0].dynamic_shapes_kernel_specialization_strategy == eager
        return Context(self)


class Context:
    def __init__(self, engine: Engine):
        self.engine, self.library, self.addresses = engine, engine.library, {}
        shape = engine.get_tensor_shape("crop")
        self.profile, self.shape = (None, None) if shape[0] == -1 else (0, shape)

    def set_optimization_profile_async(self, profile, stream):
        self.profile = profile
        return True

    def set_input_shape(self, name, shape):
        self.shape = shape
        return shape[0] == self.engine.batches[self.profile]

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return address % ALIGNED == 0

    def execute_async_v3(self, stream):
        self.library.executed += 1
        addresses, shape = dict(self.addresses), self.shape

        def run() -> None:
            crop = _array(addresses["crop"], shape, self.engine, "crop")
            rgba = self.engine.session.run(["rgba"], {"crop": crop})[0]
            _array(addresses["rgba"], rgba.shape, self.engine, "rgba")[:] = rgba

        self.library.cuda.queue(stream, run)
        return set(addresses) == {"crop", "rgba"}


def _array(address: int, shape: Sequence[int], engine: Engine, name: str) -> np.ndarray:
    kind = np.dtype(tensorrt_rtx.nptype(engine.get_tensor_dtype(name)))
    return array_at(address, shape, kind)


def array_at(address: int, shape: Sequence[int], kind: np.dtype) -> np.ndarray:
    """What lies on the stand-in GPU, to read and write."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), kind).reshape(shape)


class Foreign:
    """Somebody's array on the stand-in GPU, `offset` bytes behind where memory was had; interface: told otherwise."""

    def __init__(self, gpu: Cuda, values: np.ndarray, offset: int = 0, **interface):
        _, base = gpu.cudaMalloc(values.nbytes + offset)
        self.values = array_at(base + offset, values.shape, values.dtype)
        self.values[:] = values
        told = {"data": (base + offset, False), "shape": values.shape, "typestr": values.dtype.str}
        self.__cuda_array_interface__ = {**told, "version": 3, "stream": None, **interface}
