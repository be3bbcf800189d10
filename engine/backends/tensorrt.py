"""TensorRT, and TensorRT for RTX, on an NVIDIA GPU: pictures are converted inside the plan, arrays may lie on the GPU.

A plan comes from the cache or is built: by TensorRT for RTX in seconds, by TensorRT, which measures on the card, in
minutes.
"""

import functools
import hashlib
import logging
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine import cuda, tensorrt_plans
from engine.backends import Options, backend
from engine.cache import Cache, cache_of
from engine.manifest import ModelFiles
from engine.runner import CheckedRunner, spec_of
from engine.tensorrt_engines import Recipe, built_elsewhere, package
from engine.tensorrt_plans import ALONE, RTX, TARGETS
from engine.tensorrt_run import Array, Plan, Worker
from livetoon.errors import EngineError

log = logging.getLogger(__name__)

ARITHMETIC = {"fp16": "f16", "int8": "int8", "fp32": "f32"}  # the default first


@backend("tensorrt", library=package(), rank=-2)
class TensorRTRunner(CheckedRunner):
    """Calls that come at once have a stream and contexts each: they do not wait for each other.

    `runner.plan.recording = False` runs it without CUDA graphs.
    """

    package = package()  # the Python module

    @classmethod
    def precisions(cls, stored: Sequence[str]) -> tuple[str, ...]:
        """fp16, then int8 where the model has it, then fp32. TensorRT for RTX has only fp16 for Turing."""
        device = _device(cls.package)
        tensorrt_plans.library(cls.package)
        if cls.package == RTX and device.target == ALONE:
            return ("fp16",)
        return tuple(name for name in ARITHMETIC if name != "int8" or "int8" in stored)

    @classmethod
    def engine_keys(cls, files: ModelFiles, precision: str, options: Options) -> dict[str, dict[str, object]]:
        """Of the plan that is taken: one that lies there for several cards, this one among them, or its own."""
        recipe = Recipe(files, precision, options.batches, cls.package, _device(cls.package))
        cache = cache_of(files.folder)
        return dict([next((key for key in recipe.usable() if cache.has(*key)), recipe.key)])

    def __init__(self, files: ModelFiles, precision: str, options: Options, cache: Cache):
        device = _device(self.package)
        self._cache = cache
        self._recipe = Recipe(files, precision, options.batches, self.package, device)
        self.plan = _open(self._recipe, cache)
        self._float_plan: Plan | None = None
        self._idle: dict[Plan, deque[Worker]] = defaultdict(deque)
        spec = spec_of(files, precision, self.backend_name, device.name, 1, ARITHMETIC[precision], on_card=True)
        super().__init__(spec, at_once=True)

    def __call__(self, crops: object, out: object = None) -> object:
        """As Runner.__call__. `crops`, `out` or both may lie on the GPU: anything with `__cuda_array_interface__`.

        out: (N, S, S, 4) uint8, filled and returned. Without it the answer to crops on the GPU is a cuda.DeviceArray.
        """
        if out is None and not cuda.on_device(crops):
            return super().__call__(crops)
        side = self.spec.size
        given = self._checked(crops, (side, side, 3))
        if out is None:
            out = cuda.DeviceArray((len(given), side, side, 4), np.uint8)
        target = self._checked(out, (side, side, 4), len(given))
        self._run(self.plan, given, target)
        return out

    def _pictures(self, crops: np.ndarray) -> np.ndarray:
        pictures = np.empty((*crops.shape[:3], 4), np.uint8)
        self._run(self.plan, crops, pictures)
        return pictures

    def _rgba(self, x: np.ndarray) -> np.ndarray:
        if self._float_plan is None:
            of_floats = replace(self._recipe, batches=self._recipe.batches[:1], pictures=False)
            self._float_plan = _open(of_floats, self._cache)
        rgba = np.empty((len(x), 4, *x.shape[2:]), np.float32)
        self._run(self._float_plan, x, rgba)
        return rgba

    def _run(self, plan: Plan, given: Array, target: Array) -> None:
        idle = self._idle[plan]
        try:
            worker = idle.pop()
        except IndexError:
            worker = Worker(plan)
        worker.run(given, target)
        idle.append(worker)  # one that failed is not used again

    def _checked(self, array: object, shape: tuple[int, ...], count: int | None = None) -> Array:
        seen = cuda.view(array) if cuda.on_device(array) else np.asarray(array)
        if seen.dtype != np.uint8 or tuple(seen.shape[1:]) != shape or count not in (None, len(seen)):
            wanted = ", ".join(map(str, ("N" if count is None else count, *shape)))
            got = f"{tuple(seen.shape)} of {seen.dtype}"
            raise EngineError(f"model {self.spec.name} takes and gives arrays ({wanted}) of uint8, got {got}")
        return seen


@backend("tensorrt-rtx", library=RTX, rank=-1)
class RTXRunner(TensorRTRunner):
    package = RTX


def _device(package: str) -> cuda.Device:
    """The card to run on; EngineError says what else to do where there is none, or one without a builder."""
    try:
        device = cuda.device()
    except EngineError as error:
        raise EngineError(
            f"it needs an NVIDIA GPU with its driver ({error}); engines for another machine's card are built ahead of "
            "time with --backend tensorrt-rtx --targets sm86"
        ) from error
    if package == RTX and device.target not in TARGETS:
        raise EngineError(
            f"TensorRT for RTX does not compile for {device}; use the full TensorRT (pip install "
            '".[tensorrt]") or --backend torch'
        )
    return device


def _open(recipe: Recipe, cache: Cache) -> Plan:
    """From the cache, or built and kept there."""
    name, fields = recipe.key
    refused = []
    with cache.lock(name):
        for key in recipe.usable():
            if cache.has(*key) and (stored := cache.load(*key)):
                try:
                    return _loaded(recipe, stored, key[0], cache)
                except EngineError as error:
                    refused.append(f"{cache.path(key[0])}: {error}")
        refused += filter(None, [built_elsewhere(cache, recipe.key)])
        for said in refused:
            log.warning("%s; it is built anew", said)
        log.info("building %s for %s, once", name, recipe.where)
        try:
            plan = recipe.build(cache, report=log.info)
        except EngineError as error:
            raise EngineError("; ".join([*refused, str(error)])) from error
        cache.store(name, fields, plan)
    return _loaded(recipe, plan, name, cache)


def _loaded(recipe: Recipe, plan: bytes, slot: str, cache: Cache) -> Plan:
    """With what was compiled for the card in an earlier process, which every process keeps for the next."""
    trt = tensorrt_plans.library(recipe.builder)
    if recipe.builder != RTX:
        return Plan(trt, plan)
    device = recipe.where
    slot = f"{slot}-compiled"
    fields = {"plan": hashlib.sha256(plan).hexdigest(), "device": str(device), "driver": device.driver}
    return Plan(trt, plan, cache.load(slot, fields), functools.partial(cache.store, slot, fields))
