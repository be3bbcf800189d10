"""How long a crop takes, and how exact it is: PyTorch, ONNX Runtime, OpenVINO and TensorRT side by side in one run.

    subjects      a model: its graphs, and its network in PyTorch
    contenders    the rows that there are on this machine; opponents: PyTorch's, each as it runs best
    worker        every row in a process of its own, whose peak is the row's memory: libraries, network and calls
    timing        all rows of a model and batch in turn, round by round
    roofline      what the network asks for, and what this machine gives
    measured      all of it for one model

PSNR is that of float pictures over the range 2 against PyTorch in float32 on the processor, crop by crop; rows that
differ in threads or CUDA graphs alone share it. Ratios are to PyTorch on the same device with all cores.
"""

import argparse
import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import timing
from benchmarks.contenders import SAME_DB
from engine.backends import PRECISIONS
from livetoon import cli
from livetoon.errors import EngineError, UsageError
from livetoon.files import write_json

MODELS = ("photo2cartoon-light", "live")
PACKAGES = ("torch", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "numpy")
BATCHES, QUICK_BATCHES = (1, 4, 8), (1,)
COMPILE_S, QUICK_COMPILE_S = 120.0, 0.0
CROPS, QUICK_CROPS = 64, 4
EFFORT = timing.Effort(rounds=12, per_round=5, round_s=2, all_s=30, least=5)
QUICK_EFFORT = timing.Effort(rounds=2, per_round=3, round_s=0.3, all_s=2, least=2)
BUSY = 0.25  # of the cores: load of others that shows in ratios
COLUMNS = {
    "model": "model",
    "batch": "batch",
    "backend": "backend",
    "precision": "precision",
    "device": "on",
    "cuda_graphs": "graphs",
    "threads": "threads",
    "p50_ms": "p50 ms",
    "p95_ms": "p95",
    "p99_ms": "p99",
    "min_ms": "min",
    "images_per_s": "images/s",
    "peak_memory_mb": "MB",
    "gpu_memory_mb": "GPU MB",
    "ratio_to_eager": "x eager",
    "ratio_to_pytorch": "x PyTorch",
    "roofline_percent": "roof %",
    "psnr_db": "PSNR dB",
    "psnr_db_worst": "worst",
    "note": "",
}
OF_GPUS = ("device", "cuda_graphs", "gpu_memory_mb")  # columns


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m benchmarks.latency",
        "Milliseconds a crop, memory and PSNR beside PyTorch, for every backend and precision that is installed.",
        "python -m benchmarks.latency --quick --plot latency.png",
    )
    arguments.add_argument(
        "--model",
        nargs="+",
        default=MODELS,
        help="zoo names, photo2cartoon-light, model folders, runs, checkpoints or public files "
        f"(default: {' '.join(MODELS)})",
    )
    arguments.add_argument("--dense", action="store_true", help="also the live generator's first, dense design")
    arguments.add_argument(
        "--precisions", default=",".join(PRECISIONS), help="of the engines, with commas (default: %(default)s)"
    )
    arguments.add_argument(
        "--batches", help=f"crops a call (default: {_listed(BATCHES)}; with --quick {_listed(QUICK_BATCHES)})"
    )
    arguments.add_argument(
        "--compile-limit",
        type=float,
        metavar="S",
        help=f"seconds that torch.compile may take, 0: it is not tried (default: {COMPILE_S:g}; with --quick "
        f"{QUICK_COMPILE_S:g})",
    )
    arguments.add_argument(
        "--pictures", type=Path, nargs="+", metavar="DIR", help="crops for the accuracy (default: the astronaut)"
    )
    arguments.add_argument(
        "--calibration",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="crops to calibrate INT8 with, of models that have none yet (default: other crops of the astronaut)",
    )
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    arguments.add_argument("--plot", type=Path, metavar="FILE", help="draw them there (.png, .svg, .pdf)")
    arguments.add_argument("--quick", action="store_true", help="fewer rounds and crops: a look, not a figure")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    precisions, batches = _checked(options)
    # they bring torch, which every row's process would load too if it were imported above
    from benchmarks import measured, subjects
    from calib.crops import read_crops
    from engine.proof import astronaut_crops

    effort, count = (QUICK_EFFORT, QUICK_CROPS) if options.quick else (EFFORT, CROPS)
    compile_s = QUICK_COMPILE_S if options.quick else COMPILE_S
    extent = measured.Extent(effort, batches, compile_s if options.compile_limit is None else options.compile_limit)
    calibration = (options.calibration or [subjects.astronaut_folder()]) if "int8" in precisions else None
    described = timing.described_machine(PACKAGES) | measured.graphics_card()  # now: the load is that of others
    found = measured.Found()
    with tempfile.TemporaryDirectory(prefix="livetoon-latency-") as scratch:
        opened = [subjects.opened(model, Path(scratch), calibration) for model in options.model]
        if options.dense:
            opened.append(subjects.dense(Path(scratch)))
        if twice := [name for name, count in Counter(each.name for each in opened).items() if count > 1]:
            raise UsageError(f"--model: two models are called {twice[0]}; rename the file or folder of one")
        for subject in opened:
            size = subject.size
            crops = read_crops(options.pictures, count, size) if options.pictures else astronaut_crops(count, size)
            measured.measure(subject, crops, extent, precisions, found, _progress)
            count = len(crops)
    if not found.rows:
        raise EngineError(f"nothing could be measured: {found.left_out[-1]['why']}")
    result = {
        "machine": described,
        "quick": options.quick,
        "crops": {"judged": count, "of": _said(options.pictures), "calibrating": _said(options.calibration)},
        "models": found.models,
        "rates": measured.described(found.rates),
        "rows": found.rows,
        "left_out": found.left_out,
    }
    print(file=sys.stderr)
    print(report(result))
    if options.json:
        write_json(options.json, result)
    if options.plot:
        from benchmarks import latency_plot

        latency_plot.write(result, options.plot)


def _checked(options: argparse.Namespace) -> tuple[list[str], tuple[int, ...]]:
    """Precisions and batches; UsageError for an option that cannot be."""
    precisions = options.precisions.split(",")
    for name in precisions:
        if name not in PRECISIONS:
            raise UsageError(f"--precisions {name}: expected some of {', '.join(PRECISIONS)}")
    batches = QUICK_BATCHES if options.quick else BATCHES
    if options.batches is not None:
        words = options.batches.split(",")
        if not all(word.isdecimal() and int(word) for word in words):
            raise UsageError(f"--batches {options.batches}: expected whole numbers from 1 up, as 1,4,8")
        batches = tuple(sorted({int(word) for word in words}))
    if options.compile_limit is not None and not options.compile_limit >= 0:
        raise UsageError(f"--compile-limit {options.compile_limit:g}: expected seconds")
    if options.plot and options.plot.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {options.plot}: expected NAME.png, .svg or .pdf")
    if options.plot and not importlib.util.find_spec("matplotlib"):
        raise UsageError('--plot needs matplotlib: pip install ".[dev]" in livetoon\'s folder')
    return precisions, batches


def report(result: Mapping[str, object]) -> str:
    """Everything that was measured, for a terminal."""
    machine, crops = result["machine"], result["crops"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    card = f", {machine['gpu']}" if "gpu" in machine else ""
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {' '.join(machine['instruction_sets'])}{card}; {versions}"
    ]
    lines += [
        f"{each['device']}{_threads(each['threads'])}: {each['gflop_per_s']:.0f} GFLOP/s in {each['arithmetic']}, "
        f"{each['gb_per_s']:.1f} GB/s"
        for each in result["rates"]
    ]
    lines += [
        f"{name}: {each['size']}x{each['size']}, {each['gmac']:.2f} GMAC, {each['moved_mb']} MB in float32 a crop"
        for name, each in result["models"].items()
    ]
    lines += [
        f"PSNR over {crops['judged']} crops of {crops['of']}, -: the same to the bit; INT8 made here from crops of "
        f"{crops['calibrating']}",
        "PyTorch: float planes in and out; engines: pictures. MB: peak of a process that does nothing else",
    ]
    if (load := machine["load_1min"] or 0) > BUSY * machine["cores"]:
        lines.append(
            f"busy: load {load} before it began; PyTorch's threads then wait for each other, see its passive row"
        )
    if result["quick"]:
        lines.append("quick: a look, not a figure")
    rows = [_shown(row) for row in (*result["rows"], *result["left_out"])]
    models = list(result["models"])
    rows.sort(key=lambda row: (models.index(row["model"]), row["batch"]))
    columns = {key: title for key, title in COLUMNS.items() if key not in OF_GPUS or "gpu" in machine}
    return "\n".join([*lines, "", timing.table(rows, columns)])


def _shown(row: Mapping[str, object]) -> dict[str, object]:
    """A row for the terminal."""
    shown = {**row, "note": row.get("why", "strongest PyTorch" if row.get("strongest_pytorch") else "")}
    if "roofline_share" in row:
        shown["roofline_percent"] = 100 * row["roofline_share"]
    if row.get("psnr_db", 0) >= SAME_DB:
        shown["psnr_db"] = shown["psnr_db_worst"] = None
    if row["cuda_graphs"] is not None:
        shown["cuda_graphs"] = "on" if row["cuda_graphs"] else "off"
    return shown


def _threads(count: int | None) -> str:
    return "" if count is None else f", {count} thread{'s' if count > 1 else ''}"


def _said(folders: Sequence[Path] | None) -> str:
    return ", ".join(str(folder) for folder in folders) if folders else "the astronaut"


def _listed(batches: Sequence[int]) -> str:
    return ",".join(map(str, batches))


def _progress(line: str) -> None:
    print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
