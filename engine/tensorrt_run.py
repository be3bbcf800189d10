"""A plan on this machine's GPU: loaded once, run by any number of threads.

    Plan          loaded; its tensors `crop` and `rgba` are found by name
      Worker      of one call at a time: a stream and, for each batch that the plan has a profile for, a
        Lane      context, buffers that stay where they are, page-locked memory to copy through, recorded work

Work runs as it is the first time that it meets a pair of buffers, is recorded as a CUDA graph the second time and
replayed from then on: copy in, run, copy out in one call of the driver.
"""

import logging
import threading
from collections.abc import Callable
from types import ModuleType

import numpy as np

from engine import cuda, tensorrt_plans
from engine.batches import cut
from livetoon.errors import EngineError

log = logging.getLogger(__name__)

CROP, RGBA = "crop", "rgba"
ALIGNED = 256  # bytes; TensorRT reads and writes at such addresses, as CUDA allocates them
RECORDED = 8  # pairs of buffers of which a lane keeps the recorded work; callers use one or two
REFUSED = {  # TensorRT for RTX's reasons, in words that go on after "refuses it: "
    "MALFORMED_ENGINE": "it is cut short, altered or no plan at all",
    "VERSION_MISMATCH": "it was made by another version",
    "UNSUPPORTED_CC": "it was built for other GPUs",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it, update it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it, update it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory",
    "CUDA_ERROR": "CUDA reports an error",
}

Array = np.ndarray | cuda.View


class Plan:
    """A plan that this GPU runs; EngineError says why it does not.

    batches: sizes that it was compiled for. compiled: what TensorRT for RTX compiled for this GPU in an earlier process
    and gave to `keep`. recording: whether work is replayed as CUDA graphs; may be set at any time.
    """

    def __init__(
        self, trt: ModuleType, plan: bytes, compiled: bytes | None = None, keep: Callable[[bytes], None] | None = None
    ):
        self.recording = True
        self._kept, self._keep = compiled, keep
        self._logger = tensorrt_plans.messages(trt)
        self._runtime = trt.Runtime(self._logger)
        _check_validity(trt, self._runtime, plan)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"{tensorrt_plans.titled(trt)} cannot load it: {self._said()}")
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        if modes != {CROP: trt.TensorIOMode.INPUT, RGBA: trt.TensorIOMode.OUTPUT}:
            raise EngineError(f"expected a plan with input {CROP} and output {RGBA}, this one has {', '.join(names)}")
        self.shapes = {name: tuple(engine.get_tensor_shape(name))[1:] for name in names}
        self.dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        fixed = engine.get_tensor_shape(CROP)[0]
        self._has_profiles = fixed == -1
        profiles = range(engine.num_optimization_profiles)
        optimum = 1  # of minimum, optimum and maximum, which are the same in our plans
        self.batches = (
            tuple(engine.get_tensor_profile_shape(CROP, each)[optimum][0] for each in profiles)
            if self._has_profiles
            else (fixed,)
        )
        self._engine = engine
        self._making = threading.Lock()  # contexts of an engine are made one at a time
        self._runtime_config, self._runtime_cache = _shared_cache(trt, engine, compiled)

    def context(self, batch: int, stream: cuda.Stream):
        """A TensorRT context for `batch` crops a run."""
        with self._making:
            context = self._engine.create_execution_context(*([self._runtime_config] if self._runtime_config else []))
        if context is None:
            raise EngineError(f"TensorRT makes no context, the GPU may be out of memory: {self._said()}")
        if self._has_profiles:
            taken = context.set_optimization_profile_async(self.batches.index(batch), stream.handle)
            if not taken or not context.set_input_shape(CROP, (batch, *self.shapes[CROP])):
                raise EngineError(f"the plan does not take {batch} crops: {self._said()}")
            stream.wait()
        return context

    def queue(self, context, crop: int, rgba: int, stream: cuda.Stream) -> None:
        """Queue one run that reads at address `crop` and writes at `rgba`."""
        bound = context.set_tensor_address(CROP, crop) and context.set_tensor_address(RGBA, rgba)
        if not bound or not context.execute_async_v3(stream.handle):
            raise EngineError(f"the plan cannot be run: {self._said()}")

    def keep_compiled(self) -> None:
        """Give to `keep` what was compiled for this GPU since; TensorRT's plans hold all."""
        if self._runtime_cache is None or self._keep is None:
            return
        compiled = bytes(self._runtime_cache.serialize())
        if compiled != self._kept:
            self._keep(compiled)
        self._kept = compiled

    def _said(self) -> str:
        return tensorrt_plans.sentence(self._logger.errors)


def _shared_cache(trt: ModuleType, engine, known: bytes | None) -> tuple:
    """Configuration of contexts that share what is compiled for this GPU, and that cache; TensorRT has neither."""
    if not hasattr(trt.IRuntimeConfig, "create_runtime_cache"):
        return None, None
    runtime_config = engine.create_runtime_config()
    runtime_cache = runtime_config.create_runtime_cache()
    if known and not runtime_cache.deserialize(known):
        log.debug("what was compiled for this GPU earlier is of no use now")
    runtime_config.set_runtime_cache(runtime_cache)
    # by default better kernels come in later, from a thread: a CUDA graph would keep those of the first run
    runtime_config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    return runtime_config, runtime_cache


def _check_validity(trt: ModuleType, runtime, plan: bytes) -> None:
    """EngineError when TensorRT for RTX says beforehand that `plan` cannot run here; TensorRT has no such question."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, why = runtime.get_engine_validity(plan)
    if validity != trt.EngineValidity.INVALID:
        return
    known = trt.EngineInvalidityDiagnostics.__members__
    reasons = [said for name, said in REFUSED.items() if name in known and int(known[name]) & int(why)]
    # no reason at all is the answer where no GPU is
    raise EngineError(f"{tensorrt_plans.titled(trt)} refuses it: {', '.join(reasons) or 'there is no GPU here'}")


class Worker:
    """What runs a plan for one caller at a time, whichever thread that is."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._stream = cuda.Stream()
        self._lanes: dict[int, Lane] = {}

    def run(self, crops: Array, pictures: Array) -> None:
        """Fill `pictures` with what the plan makes of `crops`: as many, of the plan's shapes and types.

        Arrays of numpy, or on the GPU, of any length: cut into the largest batches that fit, the last one padded.
        """
        start = 0
        for batch in cut(len(crops), self._plan.batches):
            is_new = batch not in self._lanes
            if is_new:
                self._lanes[batch] = Lane(self._plan, batch, self._stream)
            self._lanes[batch].run(crops[start : start + batch], pictures[start : start + batch])
            if is_new:
                self._plan.keep_compiled()
            start += batch


class Lane:
    """One batch size of one worker."""

    def __init__(self, plan: Plan, batch: int, stream: cuda.Stream):
        self._plan, self._batch, self._stream = plan, batch, stream
        self._context = plan.context(batch, stream)
        ends = {name: ((batch, *plan.shapes[name]), plan.dtypes[name]) for name in (CROP, RGBA)}
        self._here = {name: cuda.DeviceArray(*end) for name, end in ends.items()}
        self._staged = {name: cuda.PinnedArray(*end) for name, end in ends.items()}
        self._graphs: dict[tuple, cuda.Graph | None] = {}  # None: was run once

    def run(self, crops: Array, pictures: Array) -> None:
        """As Worker.run, for up to one batch. Arrays on the GPU that fill it are used where they lie."""
        for array in (crops, pictures):
            if isinstance(array, cuda.View):
                array.wait()  # also where pictures go: what was queued there before may still read or write
        crop, rgba = self._place(crops, CROP), self._place(pictures, RGBA)
        if isinstance(crops, np.ndarray):
            self._staged[CROP].array[: len(crops)] = crops
        elif crop != crops.pointer:
            self._stream.copy(crop, crops.pointer, crops.nbytes)
        self._queue(crop, rgba, isinstance(crops, np.ndarray), isinstance(pictures, np.ndarray))
        if isinstance(pictures, cuda.View) and rgba != pictures.pointer:
            self._stream.copy(pictures.pointer, rgba, pictures.nbytes)
        self._stream.wait()
        if isinstance(pictures, np.ndarray):
            pictures[:] = self._staged[RGBA].array[: len(pictures)]

    def _place(self, array: Array, name: str) -> int:
        """The address that TensorRT reads or writes."""
        whole = isinstance(array, cuda.View) and len(array) == self._batch and array.pointer % ALIGNED == 0
        return array.pointer if whole else self._here[name].pointer

    def _queue(self, *call: int | bool) -> None:
        """Queue `_work(*call)`: as it is the first time, afterwards as a CUDA graph where that can be."""
        known = call in self._graphs
        graph = self._graphs.pop(call, None)
        if known and graph is None and self._plan.recording:
            graph = self._record(call)
        self._graphs[call] = graph  # the newest is last
        if len(self._graphs) > RECORDED:
            del self._graphs[next(iter(self._graphs))]
        if graph and self._plan.recording:
            self._stream.launch(graph)
        else:
            self._work(*call)

    def _record(self, call: tuple) -> cuda.Graph | None:
        if hasattr(self._context, "is_stream_capturable") and not self._context.is_stream_capturable(
            self._stream.handle
        ):
            return None
        try:
            return self._stream.record(lambda: self._work(*call))
        except EngineError as error:
            log.info("this plan is run without CUDA graphs (%s)", error)
            self._plan.recording = False
            return None

    def _work(self, crop: int, rgba: int, staged_in: bool, staged_out: bool) -> None:
        if staged_in:
            self._stream.copy(crop, self._staged[CROP].pointer, self._here[CROP].nbytes)
        self._plan.queue(self._context, crop, rgba, self._stream)
        if staged_out:
            self._stream.copy(self._staged[RGBA].pointer, rgba, self._here[RGBA].nbytes)
