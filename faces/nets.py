"""Runs one small network on one thread: OpenVINO where it is installed, ONNX Runtime otherwise.

A face network takes 1 to 8 ms: waking a second thread costs more than it gives, and the generator
and the browser want the other core.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from livetoon.errors import EngineError, ModelError
from livetoon.inference import openvino_core


class Net(Protocol):
    """x: float32, or uint8 with `Levels`, in the layout of the file -> every output by name, float32, valid until the
    next start.

    takes: shape of its first input, 0 where any size does; gives: names of its outputs.
    """

    takes: tuple[int, ...]
    gives: tuple[str, ...]

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]: ...

    def start(self, x: np.ndarray) -> None:
        """Begin; `x` may be changed afterwards. One start, then one result."""

    def result(self) -> dict[str, np.ndarray]:
        """Wait for what was begun."""


@dataclass(frozen=True)
class Levels:
    """A network that is handed pixels, x: uint8: the network itself makes (x - zero) / span of them, which saves one
    pass in Python."""

    zero: float
    span: float


def open_net(path: Path, shape: tuple[int, ...] | None = None, levels: Levels | None = None) -> Net:
    """Open a .tflite or .onnx file; `shape` fixes the one input of a network that takes any size.

    Raises ModelError when the file cannot be read, EngineError when nothing here can run it.
    """
    try:
        import openvino  # noqa: F401
    except ImportError:
        if path.suffix != ".onnx":
            raise EngineError(f"{path.name} needs OpenVINO; install it with: pip install openvino") from None
        return OnnxRuntimeNet(path, shape, levels)
    return OpenVinoNet(path, shape, levels)


def open_brought(path: Path, shape: tuple[int, ...], outputs: Sequence[str]) -> Net:
    """Open a .onnx file that the user names, which must take `shape` and give `outputs`.

    Raises what `open_net` raises, and ModelError for a file that is missing or holds another kind of network.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; name the ONNX file of a network")
    net = open_net(path)
    fits = len(net.takes) == len(shape) and all(one in (0, other) for one, other in zip(net.takes, shape, strict=True))
    if not fits or not set(outputs) <= set(net.gives):
        raise ModelError(
            f"{path} is another kind of network: it takes {_said(net.takes)} and gives {', '.join(net.gives)}; "
            f"expected one that takes {_said(shape)} and gives {', '.join(outputs)}"
        )
    return net


def _said(shape: Sequence[int]) -> str:
    return "x".join(str(side or "any") for side in shape)


class OpenVinoNet:
    """One compiled network with one request of its own: not to be called from two threads at once."""

    def __init__(self, path: Path, shape: tuple[int, ...] | None = None, levels: Levels | None = None):
        core = openvino_core()
        try:
            model = core.read_model(path)
            if shape:
                model.reshape(list(shape))
            if levels:
                model = _taking_levels(model, levels)
        except RuntimeError as error:
            raise ModelError(f"{path} cannot be read as a network; copy that file again") from error
        # Asked before compiling, which may give an output a second name and put it first.
        self.gives = names = tuple(output.any_name for output in model.outputs)
        self.takes = tuple(side.get_length() if side.is_static else 0 for side in model.inputs[0].partial_shape)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
                "INFERENCE_NUM_THREADS": 1,
                # A pinned thread waits for its core while a browser computes on it.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request = compiled.create_infer_request()
        self._input = self._request.get_input_tensor(0).data
        self._outputs = {name: self._request.get_output_tensor(index).data for index, name in enumerate(names)}

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        # In the caller's own thread: waking another one and waiting for it takes 1.3 ms.
        np.copyto(self._input, x)
        self._request.infer()
        return self._outputs

    def start(self, x: np.ndarray) -> None:
        # Fixed buffers: handing arrays over by name takes 0.3 ms a call, a tenth of the network's own time.
        np.copyto(self._input, x)
        self._request.start_async()

    def result(self) -> dict[str, np.ndarray]:
        self._request.wait()
        return self._outputs


def _taking_levels(model, levels: Levels):
    """An openvino.Model that takes uint8 in place of float32."""
    from openvino import Type
    from openvino.preprocess import PrePostProcessor

    wrapped = PrePostProcessor(model)
    wrapped.input().tensor().set_element_type(Type.u8)
    wrapped.input().preprocess().convert_element_type(Type.f32).mean(levels.zero).scale(levels.span)
    return wrapped.build()


class OnnxRuntimeNet:
    """The same contract on ONNX Runtime, for .onnx files; all work is done by `start`."""

    def __init__(self, path: Path, shape: tuple[int, ...] | None = None, levels: Levels | None = None):
        try:
            import onnxruntime
        except ImportError:
            raise EngineError(
                f"{path.name} needs OpenVINO or ONNX Runtime; install one with: pip install openvino"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no public base class
            raise ModelError(f"{path} cannot be read as a network; copy that file again") from error
        self._input = self._session.get_inputs()[0].name
        self.gives = tuple(output.name for output in self._session.get_outputs())
        self.takes = tuple(side if isinstance(side, int) else 0 for side in self._session.get_inputs()[0].shape)
        self._levels = levels

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        self.start(x)
        return self.result()

    def start(self, x: np.ndarray) -> None:
        if self._levels:
            x = (x.astype(np.float32) - np.float32(self._levels.zero)) / np.float32(self._levels.span)
        self._found = dict(zip(self.gives, self._session.run(None, {self._input: x}), strict=True))

    def result(self) -> dict[str, np.ndarray]:
        return self._found
