"""Plans of TensorRT and of TensorRT for RTX: one builder for both, from the names that all their versions share.

    graph, its precision written into it -> network, strongly typed -> plan

TensorRT builds on the card that it builds for. TensorRT for RTX builds on any machine, for the cards that are named
(targets); the plan is finished on the card when it is loaded.
"""

import functools
import importlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING

from livetoon.errors import EngineError, UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

log = logging.getLogger(__name__)

RTX = "tensorrt_rtx"
TITLES = {"tensorrt": "TensorRT", RTX: "TensorRT for RTX"}
TARGETS = {  # compute capabilities that TensorRT for RTX 1.7 compiles for
    "sm75": "RTX 20, GTX 16, T4",
    "sm80": "A100",
    "sm86": "RTX 30, A10",
    "sm89": "RTX 40, L4",
    "sm120": "RTX 50",
    "sm121": "DGX Spark",
}
ALONE = "sm75"  # no plan holds Turing and a newer card
DATA_CENTRE = {"sm90": "Hopper (H100, H200)", "sm100": "Blackwell for data centres (B200)", "sm103": "B300"}
WORKSPACE_BYTES = 1 << 30  # scratch memory of one operation; small cards have 4 GB beside the desktop
REPORT_EVERY_S = 1.0
MESSAGE_CHARACTERS = 400  # of TensorRT's own words in an error


def library(name: str) -> ModuleType:
    """The Python module `name`, one of TITLES."""
    return importlib.import_module(name)


def version(trt: ModuleType) -> str:
    """What a plan depends on: "tensorrt_rtx 1.7.1.116"."""
    return f"{trt.__name__} {trt.__version__}"


def check_targets(targets: Sequence[str], precision: str) -> tuple[str, ...]:
    """`targets` once each and in order, for one plan in `precision`; none is this machine's own card.

    UsageError for a card that TensorRT for RTX does not know, and for Turing beside others or in another precision.

    >>> check_targets(["sm120", "sm86", "sm86"], "fp16")
    ('sm86', 'sm120')
    """
    for target in targets:
        if target in DATA_CENTRE:
            raise UsageError(
                f"--targets {target}: TensorRT for RTX does not compile for {DATA_CENTRE[target]}; on such a machine "
                f"use the full TensorRT (--backend tensorrt, without --targets) or --backend torch"
            )
        if target not in TARGETS:
            known = ", ".join(f"{name} ({cards})" for name, cards in TARGETS.items())
            raise UsageError(f"--targets {target}: expected some of {known}")
    if ALONE in targets and set(targets) != {ALONE}:
        raise UsageError(f"--targets {','.join(targets)}: {ALONE} needs a plan of its own; build it without the others")
    if ALONE in targets and precision != "fp16":
        raise UsageError(f"--targets {ALONE}: TensorRT for RTX runs there in fp16 only; build it with --precision fp16")
    return tuple(target for target in TARGETS if target in targets)


def build_plan(
    model: "ModelProto | bytes",
    targets: Sequence[str] = (),
    batches: Sequence[int] = (1,),
    report: Callable[[str], None] = log.debug,
    package: str = RTX,
    timing: bytearray | None = None,
) -> bytes:
    """The plan of `model`, whose tensors keep their precision. Same graph, same bytes (TensorRT for RTX).

    targets: of TARGETS, for TensorRT for RTX; () is the card of this machine. batches: of a graph whose first dimension
    is free, each gets a profile in which it is fixed. report: called with a line at most once a second. timing: how
    long each kernel took in earlier builds, for TensorRT only, brought up to date in place (TensorRT for RTX asks for a
    GPU when it is given any).
    EngineError, with TensorRT's own words, for a graph that cannot be read or compiled. Ctrl-C stops it soon.
    """
    trt = library(package)
    monitor = _monitor(trt, report)
    blob = model if isinstance(model, bytes) else model.SerializeToString()
    # Python answers Ctrl-C in the main thread: there it would come up inside a callback, and TensorRT drops exceptions
    with ThreadPoolExecutor(1) as aside:
        building = aside.submit(_build, trt, blob, targets, batches, monitor, timing)
        try:
            return building.result()
        except KeyboardInterrupt as stopped:
            monitor.stopped = stopped
            raise


def _build(
    trt: ModuleType, graph: bytes, targets: Sequence[str], batches: Sequence[int], monitor, timing: bytearray | None
) -> bytes:
    logger = messages(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph) or network.num_inputs == 0:  # of no bytes at all it makes a network without anything
        said = [_located(parser.get_error(index)) for index in range(parser.num_errors)]
        raise EngineError(
            f"{titled(trt)} cannot read the graph: {sentence(said or logger.errors or ['nothing is in it'])}"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32; faster precisions have names of their own
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # what CUDA graphs ask of TensorRT for RTX
    config.progress_monitor = monitor
    if targets:
        _set_targets(trt, config, targets)
    _add_profiles(builder, network, config, batches)
    if timing is not None:
        config.set_timing_cache(config.create_timing_cache(bytes(timing)), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise monitor.stopped
    if plan is None:
        raise EngineError(f"{titled(trt)} cannot compile the graph: {sentence(logger.errors)}")
    if timing is not None:
        timing[:] = bytes(config.get_timing_cache().serialize())
    return bytes(plan)


def _set_targets(trt: ModuleType, config, targets: Sequence[str]) -> None:
    if not hasattr(trt, "ComputeCapability"):
        raise UsageError(
            "--targets: TensorRT builds for the card of its own machine; TensorRT for RTX builds for others "
            "(--backend tensorrt-rtx)"
        )
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(trt.ComputeCapability, target.upper(), None)
        if capability is None or not config.set_compute_capability(capability, index):
            raise UsageError(f"--targets {target}: {titled(trt)} does not compile for it")


def _add_profiles(builder, network, config, batches: Sequence[int]) -> None:
    """A profile for each batch, the only size that it allows: static shapes make the fastest kernels."""
    crop = network.get_input(0)
    if -1 not in crop.shape:
        return
    for batch in batches:
        shape = (batch, *crop.shape[1:])
        profile = builder.create_optimization_profile()
        profile.set_shape(crop.name, shape, shape, shape)
        config.add_optimization_profile(profile)


@functools.cache
def _messages_class(trt: ModuleType) -> type:
    class Messages(trt.ILogger):
        """Keeps errors, which TensorRT tells nobody else; the rest goes to the debug log."""

        def __init__(self):
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity, text: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(text)
            elif severity != trt.ILogger.Severity.VERBOSE:  # some thousand a build
                log.debug("%s: %s", TITLES[trt.__name__], text.strip())

    return Messages


def messages(trt: ModuleType):
    """A logger for TensorRT that keeps what went wrong in `errors`."""
    return _messages_class(trt)()


def _monitor(trt: ModuleType, report: Callable[[str], None]):
    """Tells `report` what is being done. Once `stopped` is set the build ends; an exception in `report` sets it."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            super().__init__()
            self.stopped: BaseException | None = None
            self._steps: dict[str, int] = {}
            self._told_at = float("-inf")

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            self._tell(phase, 0)

        def step_complete(self, phase: str, step: int) -> bool:
            self._tell(phase, step + 1)
            return self.stopped is None

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

        def _tell(self, phase: str, done: int) -> None:
            # TensorRT writes an exception to standard error and goes on as if it were none
            try:
                now = time.monotonic()
                if self.stopped is None and now - self._told_at >= REPORT_EVERY_S:
                    self._told_at = now
                    report(f"{phase} ({done} of {self._steps.get(phase, done)})")
            except BaseException as error:
                self.stopped = error

    return Monitor()


def titled(trt: ModuleType) -> str:
    """What people call it: "TensorRT for RTX 1.7.1.116"."""
    return f"{TITLES[trt.__name__]} {trt.__version__}"


def _located(parser_error) -> str:
    node = parser_error.node_name()
    return f"{parser_error.desc()} (at {node})" if node else parser_error.desc()


def sentence(said: Sequence[str]) -> str:
    """TensorRT's own words on one line, each once."""
    lines = dict.fromkeys(" ".join(text.split()) for text in said)
    return "; ".join(lines)[:MESSAGE_CHARACTERS] or "it gives no reason"
