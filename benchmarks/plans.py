"""How long TensorRT for RTX builds a plan ahead of time, how large it gets, and whether two builds give the same bytes.

No GPU is needed, and none is used: the plan is for the cards that are named. A build begins with the model's files.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import photo2cartoon, timing
from engine import backends, manifest
from engine.cache import Cache
from engine.from_run import playable
from engine.tensorrt_engines import Recipe
from engine.tensorrt_plans import ALONE, RTX, check_targets
from livetoon import cli
from livetoon.files import write_json

TOGETHER = ("sm86", "sm89", "sm120")  # RTX 30, 40 and 50
PACKAGES = ("tensorrt_rtx", "onnx")
COLUMNS = {
    "model": "model",
    "group": "group",
    "precision": "precision",
    "targets": "targets",
    "seconds": "s",
    "plan_mb": "plan MB",
    "same_bytes": "same bytes",
}


def recipes(model: str, targets: tuple[str, ...]) -> Iterator[Recipe]:
    """Every group and precision of `model` for `targets` in one plan, and Turing, which stands alone, in FP16."""
    folder = manifest.find(playable(model))
    described = manifest.read(folder)
    for group in described.groups:
        files = manifest.open_files(folder, group)
        if ALONE not in targets:
            for precision in ("fp16", *described.precisions):
                yield Recipe(files, precision, (1,), RTX, targets)
        yield Recipe(files, "fp16", (1,), RTX, (ALONE,))


def measured(recipe: Recipe) -> dict[str, object]:
    """One row; seconds: of the slower of two builds."""
    took, plans = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            start = time.perf_counter()
            plans.append(recipe.build(Cache(Path(folder)), report=lambda line: None))
            took.append(time.perf_counter() - start)
    return {
        "model": recipe.files.manifest.name,
        "group": recipe.files.group,
        "precision": recipe.precision,
        "targets": "+".join(recipe.where),
        "seconds": round(max(took), 2),
        "plan_mb": round(len(plans[0]) / 1e6, 1),
        "same_bytes": "yes" if plans[0] == plans[1] else "NO",
    }


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m benchmarks.plans",
        "Seconds, megabytes and repeatability of plans built ahead of time with TensorRT for RTX.",
        "python -m benchmarks.plans live --json plans.json",
    )
    arguments.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        default=["live", str(photo2cartoon.WEIGHTS)],
        help="zoo names, model folders, runs or .safetensors (default: live and photo2cartoon light)",
    )
    arguments.add_argument(
        "--targets", default=",".join(TOGETHER), help=f"cards of one plan (default {','.join(TOGETHER)})"
    )
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    targets = check_targets(options.targets.split(","), "fp16")
    backends.candidates("tensorrt-rtx")
    rows = []
    for model in options.models:
        for recipe in recipes(model, targets):
            rows.append(measured(recipe))
            print(f"{len(rows)} built twice", end="\r", file=sys.stderr, flush=True)
    print(timing.table(rows, COLUMNS))
    if options.json:
        write_json(options.json, {"machine": timing.described_machine(PACKAGES), "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
