"""`python -m trainer.run --preset live --data DIR --out RUN`: learn a style."""

import dataclasses
import sys
from pathlib import Path

from livetoon import cli
from livetoon.errors import TrainingError, UsageError
from livetoon.files import write_json
from trainer.presets import PRESETS, Preset, resolve


def arguments():
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.run",
        "Learn a cartoon style from photo/cartoon pairs: first the basic group, then a branch for every other group.",
        "python -m trainer.run --preset live --data pairs --data fewshot_groups --out runs/mine",
    )
    parser.add_argument("--preset", default="live", help=f"recipe: {', '.join(PRESETS)} (default: live)")
    parser.add_argument(
        "--data",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="folder with [group/]photo and [group/]cartoon; may be given several times",
    )
    parser.add_argument(
        "--photos",
        action="append",
        type=Path,
        default=[],
        metavar="TABLE.csv",
        help="photos without drawings: a table with file, age, sex and five points",
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="ONNX",
        help="network that marks the person in those photos, (1, S, S, 3) RGB in [0, 1] -> S x S; "
        "without it their alpha is the model's own",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder: checkpoints, log, samples")
    parser.add_argument("--groups", help="comma-separated; the first is the basic group")
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="start from these weights: a run or a .safetensors file"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, exactly where it stopped")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="overrides",
        help="override a field of the preset: "
        + ", ".join(f.name for f in dataclasses.fields(Preset) if f.name not in ("name", "source")),
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved preset and stop")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    preset = resolve(options.preset, options.overrides, options.groups)
    if options.dry_run:
        for name, value in dataclasses.asdict(preset).items():
            print(f"{name:22} {value}")
        return
    if not options.data:
        raise UsageError(
            "--data: no folder given; expected pairs as DIR/[group/]photo/NAME and DIR/[group/]cartoon/NAME"
        )
    config = options.out / "config.json"
    if config.exists() and not options.resume:
        raise UsageError(
            f"--out {options.out}: holds a run already; add --resume to go on with it, or name another folder"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        write_json(
            config,
            {
                "version": 1,
                "preset": dataclasses.asdict(preset),
                "data": [str(path.resolve()) for path in options.data + options.photos],
                "masks": str(options.masks.resolve()) if options.masks else None,
            },
        )
    train(preset, options.data, options.photos, options.out, options.init, options.resume, options.masks)


def train(
    preset: Preset,
    data: list[Path],
    photos: list[Path],
    out: Path,
    init: Path | None = None,
    resume: bool = False,
    masks: Path | None = None,
) -> None:
    """Run `preset` on the given folders and tables; everything it makes lies in `out`."""
    import torch

    from trainer import loop
    from trainer.checkpoint import load_generator
    from trainer.data import load, segmenter
    from trainer.features import FeatureNetwork
    from trainer.networks import build
    from trainer.step import Trainer

    _keep_memory()
    torch.manual_seed(preset.seed)
    generator = build(preset.network, groups=preset.groups)
    if init is not None:
        _start_from(generator, load_generator(init), init)
    pictures = load(data, photos, preset.groups, preset.size, segmenter(masks) if masks else None)
    for group, found in pictures.items():
        print(f"{group}: {len(found.photos)} pairs, {len(found.unpaired)} photos without a drawing", file=sys.stderr)
    features = FeatureNetwork() if preset.feature else None
    loop.train(Trainer(generator, preset, features), pictures, out, resume)


def _keep_memory() -> None:
    """Tell glibc to keep freed memory: a step's activations are else returned to the system and faulted in again,
    which took a third of the step's CPU time (3.1 -> 1.9 CPU seconds, batch 8). Elsewhere nothing happens."""
    import ctypes

    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 32 << 20)  # the most that glibc takes
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 256 << 20)


def _start_from(generator, weights, path: Path) -> None:
    """Copy `weights`; a group that they do not know starts from their basic group's branch."""
    if type(generator) is not type(weights):
        raise TrainingError(
            f"--init {path}: holds a {weights.network_name} network, the preset a {generator.network_name}"
        )
    generator.trunk.load_state_dict(weights.trunk.state_dict())
    for group in generator.groups:
        known = group if group in weights.groups else weights.groups[0]
        generator.branches[group].load_state_dict(weights.branches[known].state_dict())


if __name__ == "__main__":
    sys.exit(main())
