"""`python -m trainer.run --preset live --data DIR --out RUN`: learn a style."""

import dataclasses
import json
import sys
from pathlib import Path

from livetoon import cli
from livetoon.errors import TrainingError, UsageError
from livetoon.files import write_json
from trainer.presets import PRESETS, Preset, resolve

VERSION = 1  # of config.json
MAY_CHANGE = ("stage1_steps", "stage2_steps")  # when a run is resumed


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
        "--init",
        type=Path,
        metavar="FILE",
        help="start from these weights, a run or a .safetensors file: groups that it knows keep what they learned",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out, exactly where it stopped, with the options it was started with; only "
        "stage1_steps and stage2_steps may be others: the run gets longer or shorter",
    )
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
    """Run `preset` on the given folders and tables; everything it makes lies in `out`.

    `out` holds a run from its first checkpoint on; before it the command may be repeated, and changed.
    """
    import torch

    from trainer import loop
    from trainer.checkpoint import latest, load_generator
    from trainer.data import load, segmenter
    from trainer.features import FeatureNetwork
    from trainer.lock import alone
    from trainer.live_step import Trainer

    config = {
        "version": VERSION,
        "preset": dataclasses.asdict(preset),
        "data": [str(path.resolve()) for path in data + photos],
        "masks": str(masks.resolve()) if masks else None,
        "learned": [],
    }
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        begun = latest(out) is not None
        if begun and not resume:
            raise UsageError(f"--out {out}: holds a run already; add --resume to go on with it, or name another folder")
        if resume and not begun:
            raise TrainingError(f"{out}: nothing to resume there; leave --resume out to start")
        _keep_memory()
        torch.manual_seed(preset.seed)
        generator = _build(preset)
        if resume:
            config["learned"] = _learned_before(out / "config.json", config)
        elif init is not None:
            config["learned"] = _start_from(generator, load_generator(init), init)
        pictures = load(data, photos, preset.groups, preset.size, segmenter(masks) if masks else None)
        for group, found in pictures.items():
            counts = f"{len(found.photos)} pairs, {len(found.unpaired)} photos without a drawing"
            print(f"{group}: {counts}", file=sys.stderr)
        features = FeatureNetwork() if preset.feature else None
        write_json(out / "config.json", config)
        loop.train(Trainer(generator, preset, features, config["learned"]), pictures, out, resume)


def _build(preset: Preset):
    """The preset's network, which must have a trunk and a branch for each group."""
    from torch import nn

    from trainer.networks import build

    if taken := [group for group in preset.groups if hasattr(nn.ModuleDict(), group)]:
        raise UsageError(f"--groups: {', '.join(taken)} cannot name a group (torch uses it); choose another name")
    generator = build(preset.network, groups=preset.groups)
    if not hasattr(generator, "branches"):
        raise UsageError(f"--set network={preset.network}: has no branches to train; expected live")
    return generator


def _learned_before(path: Path, config: dict) -> list[str]:
    """Check `config` against the one of the run that is resumed; returns the groups that had learned before it."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["version"] != VERSION:
            raise TrainingError(f"{path}: version {before['version']}, expected {VERSION}")
        old, new = ({**each["preset"], "data": each["data"], "masks": each.get("masks")} for each in (before, config))
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; the run cannot be resumed without it") from None
    except (ValueError, KeyError, TypeError):
        raise TrainingError(f"{path}: not the description of a run; it cannot be resumed") from None
    for name, value in new.items():
        value = list(value) if isinstance(value, tuple) else value  # as JSON holds it
        if name not in (*MAY_CHANGE, "source") and old.get(name, value) != value:
            raise UsageError(f"--resume: {name} is {value}, but the run in {path.parent} was started with {old[name]}")
    return before.get("learned", [])


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


def _start_from(generator, weights, path: Path) -> list[str]:
    """Copy `weights`; a group that they do not know starts from their basic group's branch.

    Returns the groups whose branches had learned: normalization that never counted a batch tells those that a run
    made and, as it ended in stage 1, never used.
    """
    if type(generator) is not type(weights):
        raise TrainingError(
            f"--init {path}: holds a {weights.network_name} network, the preset a {generator.network_name}"
        )
    for name, value in generator.settings.items():
        if name != "groups" and weights.settings[name] != value:
            raise TrainingError(f"--init {path}: {name} {weights.settings[name]}, the preset's network has {value}")
    generator.trunk.load_state_dict(weights.trunk.state_dict())
    for group in generator.groups:
        known = group if group in weights.groups else weights.groups[0]
        generator.branches[group].load_state_dict(weights.branches[known].state_dict())
    counted = {group: weights.branches[group].e1[1].num_batches_tracked.item() for group in weights.groups}
    return [group for group in generator.groups if counted.get(group)]


if __name__ == "__main__":
    sys.exit(main())
