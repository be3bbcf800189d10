"""Memory, streams and recorded graphs of the first NVIDIA GPU that the process sees.

Through cuda-python (its package cuda-bindings): it comes as wheels that need the driver and nothing else, while pycuda
has to be compiled against a CUDA toolkit. Arrays of pycuda, torch and cupy are taken all the same, by the interface
that they share, `__cuda_array_interface__`.

Whatever fails in CUDA is an EngineError with CUDA's own words.
"""

import ctypes
import functools
import importlib
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from livetoon.errors import EngineError

STREAM_OF_ITS_OWN = 1  # cudaStreamNonBlocking: does not wait for the default stream, which others use
DEFAULT_STREAM = 1  # cudaStreamLegacy, where torch works unless it is told otherwise


@dataclass(frozen=True)
class Device:
    """capability: (8, 6) for sm86. driver: the newest CUDA version that it runs, "13.0"."""

    name: str
    capability: tuple[int, int]
    driver: str

    @property
    def target(self) -> str:
        """Capability as TensorRT for RTX calls it.

        >>> Device("NVIDIA GeForce RTX 5080", (12, 0), "13.0").target
        'sm120'
        """
        return f"sm{self.capability[0]}{self.capability[1]}"

    def __str__(self) -> str:
        return f"{self.name} ({self.target})"


@functools.cache
def runtime() -> ModuleType:
    """cuda-python's functions; EngineError where it is not installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineError(f"the Python package cuda-bindings cannot be loaded ({error}): pip install it") from error


def device() -> Device:
    """The GPU that everything here runs on; EngineError says what is missing where there is none."""
    cuda = runtime()
    driver = call("cudaDriverGetVersion")
    if driver == 0:
        raise EngineError("no NVIDIA driver is installed on this machine")
    version = f"{driver // 1000}.{driver % 1000 // 10}"
    status, count = cuda.cudaGetDeviceCount()
    if status == cuda.cudaError_t.cudaErrorInsufficientDriver:
        raise EngineError(f"the NVIDIA driver knows CUDA {version} only, update it")
    if status not in (cuda.cudaError_t.cudaSuccess, cuda.cudaError_t.cudaErrorNoDevice):
        raise EngineError(f"the NVIDIA driver does not answer: {_words(status)}")
    if not count:  # None with cudaErrorNoDevice
        raise EngineError("the NVIDIA driver finds no GPU")
    properties = call("cudaGetDeviceProperties", 0)
    name = properties.name.split(b"\0")[0].decode(errors="replace")
    return Device(name, (properties.major, properties.minor), version)


def call(name: str, *arguments: object) -> object:
    """What CUDA's function `name` gives; EngineError when it fails."""
    status, *given = _all(getattr(runtime(), name)(*arguments))
    if status != runtime().cudaError_t.cudaSuccess:
        raise EngineError(f"{name}: {_words(status)}")
    return given[0] if given else None


class Stream:
    """A queue of work on the GPU, done in order. handle: its address, as TensorRT takes it."""

    def __init__(self):
        self._stream = call("cudaStreamCreateWithFlags", STREAM_OF_ITS_OWN)
        self.handle = int(self._stream)
        _freed(self, "cudaStreamDestroy", self._stream)

    def copy(self, target: int, source: int, size: int) -> None:
        """Queue a copy of `size` bytes between two addresses, of the GPU or of a PinnedArray."""
        addresses_tell = runtime().cudaMemcpyKind.cudaMemcpyDefault
        call("cudaMemcpyAsync", target, source, size, addresses_tell, self._stream)

    def wait(self) -> None:
        """Return when all that was queued is done."""
        call("cudaStreamSynchronize", self._stream)

    def record(self, work: Callable[[], None]) -> "Graph":
        """What `work` queues, recorded instead of done. Other threads may use the GPU meanwhile."""
        mode = runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        finally:
            # a stream whose recording failed answers with that error, and is usable again after it
            status, graph = _all(runtime().cudaStreamEndCapture(self._stream))
        if status != runtime().cudaError_t.cudaSuccess:
            raise EngineError(f"cudaStreamEndCapture: {_words(status)}")
        return Graph(graph)

    def launch(self, graph: "Graph") -> None:
        """Queue what was recorded, in one call."""
        call("cudaGraphLaunch", graph.executable, self._stream)


class Graph:
    """Recorded work, ready to be launched any number of times."""

    def __init__(self, graph: object):
        try:
            self.executable = call("cudaGraphInstantiate", graph, 0)
        finally:
            call("cudaGraphDestroy", graph)
        _freed(self, "cudaGraphExecDestroy", self.executable)


class DeviceArray:
    """Memory on the GPU, its content undefined at first; torch, cupy and pycuda read it without a copy.

    torch.as_tensor(array), cupy.asarray(array).
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.pointer = int(call("cudaMalloc", self.nbytes))
        _freed(self, "cudaFree", self.pointer)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        where = {"data": (self.pointer, False), "stream": None}
        return {"shape": self.shape, "typestr": self.dtype.str, "version": 3, **where}


class PinnedArray:
    """Memory of the host that stays where it is, so that the GPU copies it by itself. array: what numpy sees of it."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        self.pointer = int(call("cudaMallocHost", size))
        self.array = np.frombuffer((ctypes.c_ubyte * size).from_address(self.pointer), dtype).reshape(shape)
        _freed(self, "cudaFreeHost", self.pointer)


@dataclass(frozen=True)
class View:
    """Somebody else's contiguous array on the GPU. stream: where its content is still being made, None: it is there."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype
    stream: int | None
    owner: object  # keeps the memory

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> "View":
        """Rows start to stop."""
        start, stop, _ = part.indices(len(self))
        step = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = (max(stop - start, 0), *self.shape[1:])
        return View(self.pointer + start * step, rows, self.dtype, self.stream, self.owner)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def wait(self) -> None:
        """Return when its content is there."""
        if self.stream is not None:
            call("cudaStreamSynchronize", self.stream)


def on_device(array: object) -> bool:
    """Whether `array` lies on a GPU."""
    return hasattr(array, "__cuda_array_interface__")  # a torch tensor on the processor says no here


def view(array: object) -> View:
    """Of an array of torch, cupy, pycuda or a DeviceArray; EngineError for one that is not contiguous."""
    told = array.__cuda_array_interface__
    shape, dtype = tuple(told["shape"]), np.dtype(told["typestr"])
    if (strides := told.get("strides")) is not None and tuple(strides) != _contiguous(shape, dtype):
        raise EngineError(
            f"an array on the GPU has to be contiguous, this one has strides {tuple(strides)}; copy it first"
        )
    # the interface's first versions do not tell the stream
    return View(told["data"][0], shape, dtype, told.get("stream", DEFAULT_STREAM), array)


def _contiguous(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    return tuple(math.prod(shape[place + 1 :]) * dtype.itemsize for place in range(len(shape)))


def _freed(owner: object, function: str, handle: object) -> None:
    """Call `function(handle)` once `owner` is gone; when the process ends the driver does it."""
    weakref.finalize(owner, getattr(runtime(), function), handle).atexit = False


def _all(answer: object) -> tuple:
    return answer if isinstance(answer, tuple) else (answer,)


def _words(status: object) -> str:
    _, words = runtime().cudaGetErrorString(status)
    return words.decode() if isinstance(words, bytes) else str(words)
