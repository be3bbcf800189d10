"""What `python -m engine.build` is asked for, checked before anything slow.

What a model must be known for (groups, graphs, batches) is checked at once where it is a model folder, and right after
the export, or before it begins (from_run.py), where it is one of weights.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import backends, from_run, manifest
from engine.backends import Backend
from engine.manifest import Manifest
from engine.runner import choose
from livetoon import cli
from livetoon.errors import UsageError

PRECISIONS = ("auto", *backends.PRECISIONS)
RTX_BACKEND = "tensorrt-rtx"
AHEAD = ("fp16", "fp32", "int8")  # what a plan can be built in for other machines, the default first
RECORD = "build.json"
LEAST_SIDE = 16  # px


@dataclass(frozen=True)
class Wanted:
    """What is asked for. groups: () for all of the model's. batches: from small to large, each once.

    targets: cards of other machines; () builds for this one. calibration, crops: folders of pictures of faces.
    """

    model: str = "live"
    precision: str = "auto"
    backend: str = "auto"
    groups: tuple[str, ...] = ()
    size: int | None = None
    batches: tuple[int, ...] = (1,)
    targets: tuple[str, ...] = ()
    calibration: tuple[Path, ...] = ()
    crops: Path | None = None
    out: Path | None = None
    json: Path | None = None


def check(wanted: Wanted) -> None:
    """UsageError for what cannot be, EngineError for a backend that cannot be used here, ModelError for no model."""
    if wanted.precision not in PRECISIONS:
        raise UsageError(f"--precision {wanted.precision}: choose one of {', '.join(PRECISIONS)}")
    if wanted.size is not None and wanted.size < LEAST_SIDE:
        raise UsageError(f"--size {wanted.size}: expected at least {LEAST_SIDE} px")
    if not wanted.batches or min(wanted.batches) < 1:
        raise UsageError(f"--batch {_list(wanted.batches)}: expected whole numbers from 1 up, as 1,4,8")
    if wanted.targets:
        _check_targets(wanted)
    else:
        backends.candidates(wanted.backend)
    _check_folders(wanted)
    if from_run.is_model(wanted.model):
        check_model(wanted, manifest.read(manifest.find(wanted.model)))
    elif not from_run.is_trained(Path(wanted.model)):
        manifest.find(wanted.model)
    elif wanted.precision == "int8" and not wanted.calibration:
        raise UsageError(f"--precision int8: {wanted.model} was not calibrated; {_two_ways(wanted.model)}")
    else:
        chosen(wanted, ("fp32", "int8") if wanted.calibration else ("fp32",), wanted.model)


def check_model(wanted: Wanted, described: Manifest) -> None:
    """What only the model tells; errors as of `check`."""
    if unknown := [group for group in wanted.groups if group not in described.groups]:
        raise UsageError(f"--groups {unknown[0]}: model {described.name} has {', '.join(described.groups)}")
    batches_of(wanted, described)
    stored = described.precisions
    if wanted.precision == "int8" and "int8" not in stored and not wanted.calibration:
        raise UsageError(f"--precision int8: model {described.name} has no INT8 graphs; {_two_ways('RUN')}")
    chosen(wanted, (*stored, "int8") if wanted.calibration and "int8" not in stored else stored, described.name)


def batches_of(wanted: Wanted, described: Manifest) -> tuple[int, ...]:
    """Sizes to compile for; UsageError for those that the model does not take."""
    return described.batches(wanted.batches, f"--batch {_list(wanted.batches)}")


def chosen(wanted: Wanted, stored: Sequence[str], name: str) -> tuple[type[Backend] | None, str]:
    """The backend that builds, None for one that builds for other machines, and the precision."""
    if wanted.targets:
        return None, AHEAD[0] if wanted.precision == "auto" else wanted.precision
    return choose(wanted.backend, wanted.precision, stored, name)


def _check_targets(wanted: Wanted) -> None:
    from engine.tensorrt_engines import package
    from engine.tensorrt_plans import RTX, check_targets

    # the backend `tensorrt` is TensorRT for RTX where that alone is installed
    builders = ("auto", RTX_BACKEND, *(["tensorrt"] if package() == RTX else []))
    if wanted.backend not in builders:
        raise UsageError(
            f"--targets: {wanted.backend} builds for the machine that it runs on; --backend {RTX_BACKEND} builds for "
            "others"
        )
    if wanted.precision not in ("auto", *AHEAD):
        raise UsageError(f"--precision {wanted.precision}: with --targets choose one of {', '.join(AHEAD)}")
    check_targets(wanted.targets, AHEAD[0] if wanted.precision == "auto" else wanted.precision)
    backends.candidates(RTX_BACKEND)


def _check_folders(wanted: Wanted) -> None:
    if wanted.calibration and wanted.precision not in ("auto", "int8"):
        raise UsageError(f"--calibration: is for --precision int8, not {wanted.precision}; leave it out")
    options = [("--calibration", folder) for folder in wanted.calibration]
    options += [("--crops", wanted.crops)] if wanted.crops else []
    for option, folder in options:
        if not folder.is_dir():
            raise UsageError(f"{option} {folder}: no such folder; expected one with crops of faces")
    out = wanted.out
    if out is None or not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    if any(out.iterdir()) and not (out / RECORD).is_file():
        raise UsageError(
            f"--out {out}: is not empty and was not made by this command (no {RECORD} in it); choose another name or "
            "remove it"
        )


def _two_ways(model: str) -> str:
    return (
        "give --calibration DIR with crops of faces as live video sees them, or a model folder that python -m "
        f"engine.export {model} OUT_DIR --int8 DIR made"
    )


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def arguments() -> argparse.ArgumentParser:
    made = cli.parser(
        "python -m engine.build",
        "Build the engines of a model for this machine, or plans for other machines' cards, and prove each against the "
        "network. With nothing but --precision: of the shipped model.",
        "python -m engine.build --precision fp16 --model runs/mine --batch 1,4",
    )
    made.add_argument(
        "--precision", default="auto", help=f"numbers to compute with: {', '.join(PRECISIONS)} (auto: the fastest here)"
    )
    made.add_argument(
        "--model",
        default="live",
        help="zoo name, model folder, training run, checkpoint, .safetensors, or a public .pt or .pth (live)",
    )
    made.add_argument("--groups", default="", metavar="A,B", help="whose engines (default: all groups of the model)")
    made.add_argument(
        "--backend", default="auto", help="auto, openvino, onnxruntime, torch, tensorrt, tensorrt-rtx, ... (auto)"
    )
    made.add_argument("--size", type=int, metavar="PX", help="side of a crop (default: as the model has it)")
    made.add_argument("--batch", default="1", metavar="1,4,8", help="crops a call that engines are compiled for (1)")
    made.add_argument(
        "--calibration", type=Path, nargs="+", default=[], metavar="DIR", help="crops of faces to find INT8 ranges on"
    )
    made.add_argument(
        "--targets", default="", metavar="sm86,sm89", help="cards that TensorRT for RTX builds for, without one here"
    )
    made.add_argument("--crops", type=Path, metavar="DIR", help="crops to compare on (default: the astronaut's)")
    made.add_argument("--out", type=Path, metavar="DIR", help="make a model folder that brings its engines along")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the table, machine and versions there too")
    return made


def wanted_of(options: argparse.Namespace) -> Wanted:
    return Wanted(
        model=options.model,
        precision=options.precision,
        backend=options.backend,
        groups=_names(options.groups),
        size=options.size,
        batches=_numbers(options.batch),
        targets=_names(options.targets),
        calibration=tuple(options.calibration),
        crops=options.crops,
        out=options.out,
        json=options.json,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        raise UsageError(f"--batch {text}: expected whole numbers from 1 up, as 1,4,8") from None
