"""Which device torch computes on in a benchmark; `python -m benchmarks.devices` says what this machine has."""

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks import timing
from engine import cuda, machine
from livetoon import cli
from livetoon.errors import EngineError
from livetoon.files import write_json

DEVICES = ("cpu", "cuda")
PACKAGES = ("torch", "triton", "tensorrt", "tensorrt_rtx", "torch_tensorrt", "cuda-bindings", "onnxruntime-gpu")


def chosen_device(asked: str | None) -> str:
    """`asked`, or without a wish "cuda" where there is an NVIDIA GPU. EngineError where torch finds none."""
    import torch

    has_card = torch.cuda.is_available()
    if asked == "cuda" and not has_card:
        raise EngineError("--device cuda: torch finds no NVIDIA GPU here; leave it out or give cpu")
    return asked or ("cuda" if has_card else "cpu")


def waits(device: str) -> Callable[[], None]:
    """Returns when all that was asked of `device` is done: before a clock is read."""
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m benchmarks.devices",
        "The NVIDIA GPU, its driver and the libraries for it; fails where cuda-bindings reach none.",
        "python -m benchmarks.devices --json look.json",
    )
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write it there")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    described = timing.described_machine(PACKAGES)
    try:
        found, missing = cuda.device(), None
    except EngineError as error:
        found, missing = None, str(error)
    card = {"gpu": str(found), "driver": found.driver} if found else {"gpu": None, "why": missing}
    if options.json:
        write_json(options.json, {"machine": described, **card, "gpus_of_driver": machine.nvidia_gpus()})
    print(f"{described['processor']}, {described['cores']} cores")
    print(", ".join(f"{name} {version}" for name, version in described["versions"].items()))
    if missing:
        raise EngineError(f"no NVIDIA GPU can be described: {missing}")
    print(f"{found}, CUDA up to {found.driver}")


if __name__ == "__main__":
    raise SystemExit(main())
