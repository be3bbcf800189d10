"""How long a crop takes, and how exact it is: PyTorch eager, ONNX Runtime and OpenVINO side by side in one run.

Eager gets what suits it best: float32 planes already in memory, inference mode, all cores. The engines are timed
as live video calls them: uint8 picture in, uint8 picture out, conversions included. The opponent is the dense
network that the live one was designed against, with random weights; time does not depend on them.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import timing
from benchmarks.crops import astronaut_crops
from benchmarks.eager import eager_network
from calib.crops import read_crops
from engine import backends, machine, manifest
from engine.export import export, psnr_db
from engine.runner import Runner, open_runner
from livetoon import cli
from livetoon.files import write_json
from trainer.checkpoint import load_generator
from trainer.networks import build

OPPONENT = "live-dense"
PACKAGES = ("torch", "openvino", "onnxruntime", "numpy")
ROUNDS, ROUNDS_QUICK = 12, 3
CROPS, CROPS_QUICK = 64, 8
COLUMNS = {
    "model": "model",
    "backend": "backend",
    "precision": "precision",
    "threads": "threads",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "min_ms": "min ms",
    "cpu_ms": "cpu ms",
    "ratio_to_eager": "x eager",
    "psnr_db": "psnr dB",
    "psnr_db_worst": "worst dB",
}


@dataclass(frozen=True)
class Contender:
    """One row before it is measured. `run`: one crop; `infer`: float32 (N, 3, S, S) -> (N, 4, S, S)."""

    model: str
    network: str
    backend: str
    precision: str
    threads: int
    run: Callable[[], object]
    infer: Callable[[np.ndarray], np.ndarray]


def contenders(name: str, folder: Path, network: nn.Module, crop: np.ndarray) -> list[Contender]:
    """Eager first, then every installed backend, precision and thread count (one, and all cores).

    crop: (S, S, 3) uint8 RGB, what the timed calls are given.
    """
    group = network.groups[0]
    x = _floats(crop[None])
    planes = torch.from_numpy(x)

    def eager() -> None:
        with torch.inference_mode():
            network(planes, group)

    def eager_infer(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(x), group).numpy()

    kind = network.network_name
    found = [Contender(name, kind, "pytorch eager", "fp32", torch.get_num_threads(), eager, eager_infer)]
    stored = manifest.read(folder).precisions
    for backend, precisions in backends.usable(stored).items():
        for precision in precisions:
            for threads in sorted({1, machine.cores()}):
                runner = open_runner(folder, group, backend, precision, threads)
                found.append(Contender(name, kind, backend, precision, threads, _call(runner, crop), runner.infer))
    return found


def measure(
    found: list[Contender], crops: np.ndarray, rounds: int, progress: Callable[[int], None]
) -> list[dict[str, object]]:
    """One row for each contender. crops: (N, S, S, 3) uint8 RGB, for the accuracy."""
    keys = {f"{each.model} {each.backend} {each.precision} {each.threads}": each for each in found}
    timings = timing.interleaved({key: each.run for key, each in keys.items()}, rounds, progress=progress)
    x = _floats(crops)
    expected, eager_ms = {}, {}
    rows = []
    for key, each in keys.items():
        got = np.concatenate([each.infer(one[None]) for one in x])
        expected.setdefault(each.model, got)
        eager_ms.setdefault(each.model, timings[key].p50_ms)
        row = {
            "model": each.model,
            "network": each.network,
            "backend": each.backend,
            "precision": each.precision,
            "threads": each.threads,
            "batch": 1,
            **asdict(timings[key]),
            "images_per_s": round(1e3 / timings[key].p50_ms, 1),
            "ratio_to_eager": round(eager_ms[each.model] / timings[key].p50_ms, 2),
        }
        if got is not expected[each.model]:
            decibels = [psnr_db(one, true) for one, true in zip(got, expected[each.model], strict=True)]
            row |= {"psnr_db": round(float(np.mean(decibels)), 1), "psnr_db_worst": round(min(decibels), 1)}
        rows.append(row)
    return rows


@contextmanager
def opened(model: str) -> Iterator[tuple[str, Path, nn.Module]]:
    """Name, model folder and eager network of a zoo name, a model folder or anything that can be exported."""
    if model in manifest.zoo_names() or (Path(model) / manifest.NAME).is_file():
        folder = manifest.find(model)
        yield manifest.read(folder).name, folder, eager_network(folder)
        return
    with exported(load_generator(model), Path(model).stem) as folder:
        yield Path(model).stem, folder, load_generator(model)


@contextmanager
def exported(network: nn.Module, name: str, size: int = 256) -> Iterator[Path]:
    """A model folder for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / name
        export(network, folder, size=size, report=lambda line: None)
        yield folder


def _floats(crops: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1)


def _call(runner: Runner, crop: np.ndarray) -> Callable[[], object]:
    return lambda: runner(crop[None])


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m benchmarks.latency",
        "Milliseconds a crop and PSNR against PyTorch, for every backend that is installed.",
        "python -m benchmarks.latency --json latency.json",
    )
    arguments.add_argument("--model", default="live", help="zoo name, model folder, run or .safetensors (default live)")
    arguments.add_argument(
        "--pictures", type=Path, nargs="+", metavar="DIR", help="crops for the accuracy (default: the astronaut)"
    )
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    arguments.add_argument("--quick", action="store_true", help="fewer rounds and crops: a look, not a figure")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    rounds, count = (ROUNDS_QUICK, CROPS_QUICK) if options.quick else (ROUNDS, CROPS)
    opponent = build(OPPONENT, groups=["everyone"]).eval()
    with opened(options.model) as (name, folder, network):
        size = manifest.read(folder).size
        crops = read_crops(options.pictures, count, size) if options.pictures else astronaut_crops(count, size)
        with exported(opponent, OPPONENT, size) as opponent_folder:
            found = contenders(name, folder, network, crops[0])
            found += contenders(OPPONENT, opponent_folder, opponent, crops[0])
            rows = measure(found, crops, rounds, lambda done: _progress(done, rounds))
    described = timing.described_machine(PACKAGES)
    print(_headline(described, size, len(crops)))
    print(timing.table(rows, COLUMNS))
    if options.json:
        write_json(options.json, {"machine": described, "crops": len(crops), "size": size, "rows": rows})


def _progress(done: int, rounds: int) -> None:
    print(f"round {done} of {rounds}", end="\n" if done == rounds else "\r", file=sys.stderr, flush=True)


def _headline(described: Mapping[str, object], size: int, crops: int) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    return (
        f"{described['processor']}, {described['cores']} cores, {' '.join(described['instruction_sets'])}; {versions}\n"
        f"{size}x{size}, batch 1, PSNR over {crops} crops; eager: float32 planes in and out, engines: pictures\n"
    )


if __name__ == "__main__":
    sys.exit(main())
