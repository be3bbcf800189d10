"""`python -m trainer.run --data DIR --out RUN`: learn a style."""

import dataclasses
import json
import os
import sys
from pathlib import Path

from livetoon import cli
from livetoon.errors import TrainingError, UsageError
from livetoon.files import sha256, write_json
from trainer.layout import DOMAINS
from trainer.presets import PRESETS, Live, Preset, Translation, fields, resolve
from trainer.recipe import expanded

VERSION = 1  # of config.json
MAY_CHANGE = ("stage1_steps", "stage2_steps", "validate_every")  # when a run is resumed
NO_DATA = (
    "--data: no folder given; expected photos and drawings as DIR/[group/]photo/NAME and DIR/[group/]cartoon/NAME: "
    "python -m trainer.prepare IN DIR makes one of any pictures (--demo tries a run without data)"
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything a run reads, as the command names it."""

    data: tuple[str, ...] = ()
    photos: tuple[Path, ...] = ()
    masks: Path | None = None
    points: Path | None = None
    face_id: Path | None = None
    identity: Path | None = None


def arguments():
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.run",
        "Learn a cartoon style: first the basic group, then a branch for every other group.",
        "python -m trainer.run --data mine --groups young-women,young-men --face-id faceid.safetensors --out runs/mine",
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE.json",
        help="options of a whole run, by their names (trainer/recipes; live: the shipped model's); others may follow",
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the recipe's paths begin (default: here)")
    parser.add_argument("--preset", default="fewshot", help=f"method: {', '.join(PRESETS)} (default: fewshot)")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="DIR",
        help="folder, or address that fsspec reads, with [group/]photo and [group/]cartoon, or trainA and trainB; "
        "may be given several times",
    )
    parser.add_argument(
        "--photos",
        action="append",
        type=Path,
        default=[],
        metavar="TABLE.csv",
        help="more photos without drawings: a table with file, age, sex and five points",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder: checkpoints, log, samples, summary.html")
    parser.add_argument("--groups", help="comma-separated; the first is the basic group")
    parser.add_argument("--basic", metavar="GROUP", help="another of the groups is the basic one")
    parser.add_argument("--ada", choices=("on", "off"), help="adaptive augmentation of what the discriminators see")
    parser.add_argument("--group-loss", choices=("on", "off"), help="whether the discriminators tell groups apart")
    parser.add_argument("--face-id", type=Path, metavar="FILE", help="face recognition network for the face-ID loss")
    parser.add_argument("--no-face-id", action="store_true", help="go without the face-ID loss")
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="another face recognition network, which validation measures by how alike faces stay; it teaches nothing",
    )
    parser.add_argument(
        "--points",
        type=Path,
        metavar="FILE",
        help="keypoint presets: five points of each photo in --data, px of its file: CelebA's landmark list, or a CSV "
        "as trainer.prepare writes it (DATA/crop_points.csv); photos of a table have theirs",
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="ONNX",
        help="preset live: network that marks the person in photos without drawings, (1, S, S, 3) RGB in [0, 1] -> "
        "S x S; without it their alpha is the model's own",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="start from these weights, a run, a folder of trainer.interop or a .safetensors file: groups that "
        "it knows keep what they learned",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out, exactly where it stopped, with the options it was started with; only "
        f"{', '.join(MAY_CHANGE)} and --identity may be others: the run gets longer or shorter, or is judged otherwise",
    )
    parser.add_argument(
        "--qat",
        action="store_true",
        help="preset live: a short run from trained weights (--init) that learns to draw in the steps of INT8",
    )
    parser.add_argument(
        "--as-published", action="store_true", help="where program and paper differ, follow the program"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="overrides",
        help="override a field of the preset by name; --dry-run lists them",
    )
    parser.add_argument(
        "--loggers",
        "--log",
        dest="log",
        default="tensorboard",
        help="loggers beside the CSV: tensorboard, mlflow, wandb, neptune, or none",
    )
    parser.add_argument("--devices", type=int, default=1, help="GPUs of this machine (torchrun tells its own)")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved preset, parameters, memory and time, and stop"
    )
    parser.add_argument("--demo", action="store_true", help="a complete two-stage run in minutes, without data")
    return parser


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    return cli.run(lambda options: _run(expanded(options, arguments(), words)), arguments(), words)


def _run(options) -> int | None:
    if options.demo:
        _check_demo(options)
        from trainer.demo import demo

        return demo(options.out)
    if options.resume and options.init is not None:
        raise UsageError("--init: a run that is resumed goes on from its own checkpoint; leave --init or --resume out")
    preset = _preset(options)
    if options.dry_run:
        from trainer.plan import describe

        return print(describe(preset))
    files = {name: getattr(options, name) for name in ("masks", "points", "face_id", "identity")}
    inputs = Inputs(tuple(options.data), tuple(options.photos), **files)
    from trainer.loggers import check_names

    loggers = [name for name in options.log.split(",") if name and name != "none"]
    _check_inputs(preset, inputs, options.no_face_id)
    check_names(loggers)
    if options.qat and options.init is None and not options.resume:
        raise UsageError(
            "--qat: goes on from trained weights; name a run or a .safetensors file with --init, as "
            "engine/zoo/live/generator.safetensors"
        )
    if options.init is not None and not options.init.exists():
        raise UsageError(f"--init {options.init}: no such file or folder")
    if options.out is None:
        raise UsageError("--out: name a folder for the run")
    if options.devices < 1 or options.nodes < 1:
        raise UsageError("--devices, --nodes: expected at least 1")
    if options.nodes > 1 and "WORLD_SIZE" not in os.environ:
        raise UsageError("--nodes: start the command with torchrun on each machine")
    parallel = (options.devices, options.nodes)
    finished = train(preset, inputs, options.out, options.init, options.resume, loggers, *parallel)
    # torchrun takes any other code of a process for a crash, and prints a traceback of its own.
    return 0 if finished or "WORLD_SIZE" in os.environ else 130


def _check_demo(options) -> None:
    """UsageError for the first option that has no effect on the demo."""
    usual = vars(arguments().parse_args(["--demo"]))
    for name, value in vars(options).items():
        if name not in ("out", "debug") and value != usual[name]:
            option = "set" if name == "overrides" else name.replace("_", "-")
            raise UsageError(f"--{option}: has no effect with --demo, which takes --out alone; leave one of them out")


def _preset(options) -> Preset:
    switches = {"ada": options.ada, "group": options.group_loss}
    overrides = list(options.overrides)
    known = fields(PRESETS[options.preset]) if options.preset in PRESETS else {}
    for name, value in switches.items():
        if value is None:
            continue
        option = "--ada" if name == "ada" else "--group-loss"
        if known and name not in known:
            raise UsageError(f"{option}: preset {options.preset} has no such term; leave it out")
        if name == "group":
            usual = getattr(PRESETS.get(options.preset), "group", 0.0) or 1.0
            value = str(usual) if value == "on" else "0"
        overrides.append(f"{name}={value}")
    if options.no_face_id and "face_id" in known:
        overrides.append("face_id=0")
    return resolve(options.preset, overrides, options.groups, options.basic, options.as_published, options.qat)


def _check_inputs(preset: Preset, inputs: Inputs, no_face_id: bool) -> None:
    if not inputs.data:
        raise UsageError(NO_DATA)
    if no_face_id and inputs.face_id:
        raise UsageError("--no-face-id: clashes with --face-id; give one of them")
    if no_face_id and isinstance(preset, Live):
        raise UsageError("--no-face-id: preset live has no such loss; leave it out")
    if missing := [path for path in inputs.photos if not path.is_file()]:
        raise UsageError(f"--photos {missing[0]}: no such file")
    for name in ("face_id", "identity", "points", "masks"):
        if (path := getattr(inputs, name)) is not None and not path.is_file():
            raise UsageError(f"--{name.replace('_', '-')} {path}: no such file")
    if inputs.identity and not preset.validate_every:
        raise UsageError("--identity: this run never validates; --set validate_every=..., or leave it out")
    if inputs.masks and not isinstance(preset, Live):
        raise UsageError(f"--masks: preset {preset.name} learns no alpha; leave it out")
    if isinstance(preset, Live):
        for name in ("face_id", "points"):
            if getattr(inputs, name):
                raise UsageError(f"--{name.replace('_', '-')}: preset live has no such loss; leave it out")
        return
    if inputs.face_id and not preset.face_id:
        raise UsageError(f"--face-id: preset {preset.name} has no such loss; leave it out, or --set face_id=1")
    if inputs.points and not preset.keypoint:
        raise UsageError(f"--points: preset {preset.name} has no such loss; leave it out")
    if inputs.face_id and inputs.identity and sha256(inputs.face_id) == sha256(inputs.identity):
        raise UsageError(
            f"--identity {inputs.identity}: the network of --face-id, and what teaches must not judge; name another "
            "one, or leave it out"
        )
    if preset.face_id and not inputs.face_id:
        raise UsageError(
            f"--face-id: preset {preset.name} weighs how alike faces stay; name a recognition network (photo2cartoon's "
            "model_mobilefacenet.pth, or one that python -m trainer.faceid train made), or go without by --no-face-id"
        )
    if preset.keypoint and not inputs.points and not inputs.photos:
        raise UsageError(
            f"--points: preset {preset.name} learns where five points of each photo are; name CelebA's "
            "list_landmarks_align_celeba.txt or a CSV with five points (trainer.prepare writes DATA/crop_points.csv)"
        )


def train(
    preset: Preset,
    inputs: Inputs,
    out: Path,
    init: Path | None = None,
    resume: bool = False,
    loggers: list[str] | None = None,
    devices: int = 1,
    nodes: int = 1,
) -> bool:
    """Run `preset` on the given folders and tables; everything it makes lies in `out`. Returns whether it came to its
    end: Ctrl-C saves and stops before.

    `out` holds a run from its first checkpoint on; before it the command may be repeated, and changed.
    """
    import torch

    from trainer import loop
    from trainer.checkpoint import latest
    from trainer.loggers import open_loggers
    from trainer.memory import keep_memory
    from trainer.parallel import open_parallel
    from trainer.remote import local

    inputs = dataclasses.replace(inputs, data=tuple(str(local(name)) for name in inputs.data))
    config = _config(preset, inputs)
    out.mkdir(parents=True, exist_ok=True)
    with open_parallel(devices, nodes) as parallel, _alone(out, parallel.rank):
        begun = latest(out) is not None
        parallel.wait()
        if begun and not resume:
            raise UsageError(f"--out {out}: holds a run already; add --resume to go on with it, or name another folder")
        if resume and not begun:
            if (out / "checkpoints" / "last").exists():
                raise TrainingError(
                    f"{out}: its checkpoint is not whole; start from what is there with --init in another --out"
                )
            raise TrainingError(f"{out}: nothing to resume there; leave --resume out to start")
        keep_memory()
        torch.manual_seed(preset.seed)
        if resume:
            before = _before(out / "config.json", config)
            # What runs of today tell and older ones do not: they go on with the pictures and points they began with.
            kept = {"learned": [], "spared": [], "table_points": False}
            config |= {name: before.get(name, usual) for name, usual in kept.items()}
        make = _live if isinstance(preset, Live) else _translation
        learner = make(preset, inputs, init if not resume else None, config, parallel)
        if parallel.rank:
            return loop.train(learner, out, None, resume, agree=parallel.any)
        write_json(out / "config.json", config)
        with open_loggers(loggers or [], out, config) as opened:
            return loop.train(learner, out, opened, resume, agree=parallel.any)


def _alone(out: Path, rank: int):
    """The folder's lock; only the first process of a run takes it."""
    from contextlib import nullcontext

    from trainer.lock import alone

    return nullcontext() if rank else alone(out)


def _config(preset: Preset, inputs: Inputs) -> dict:
    return {
        "version": VERSION,
        "preset": dataclasses.asdict(preset),
        "data": [str(Path(path).resolve()) for path in (*inputs.data, *inputs.photos)],
        "masks": str(inputs.masks.resolve()) if inputs.masks else None,
        "points": str(inputs.points.resolve()) if inputs.points else None,
        "face_id": str(inputs.face_id.resolve()) if inputs.face_id else None,
        "identity": str(inputs.identity.resolve()) if inputs.identity else None,
        "learned": [],
        "table_points": True,
    }


def _live(preset: Live, inputs: Inputs, init: Path | None, config: dict, parallel):
    """The live generator's learner, from pairs."""
    from trainer.adversary import Adversary
    from trainer.data import load, segmenter
    from trainer.features import FeatureNetwork
    from trainer.initial import branched_network, start_live
    from trainer.live import LiveLearner, spare
    from trainer.live_step import Trainer
    from trainer.look_term import LookTerm
    from trainer.qat import Rounding
    from trainer.validation import Validation, open_judges

    if parallel.processes > 1:
        raise UsageError("--devices: preset live learns in one process; leave it out")
    generator = branched_network(preset)
    if init is not None:
        config["learned"] = start_live(generator, init)
    judges = open_judges(preset, inputs.identity, device=parallel.device)
    folders = [Path(name) for name in inputs.data]
    segment = segmenter(inputs.masks) if inputs.masks else None
    drawings = preset.adversarial > 0
    pictures = load(folders, list(inputs.photos), preset.groups, preset.size, segment, drawings)
    trained, kept, spared = spare(pictures, _may_spare(preset, config))
    for group, found in trained.items():
        judging = f" and {len(kept[group].photo)} that judge" if group in spared else ""
        alone = f", {len(found.drawings)} drawings without a photo" if drawings else ""
        _say(group, f"{len(found.photos)} pairs{judging}, {len(found.unpaired)} photos without a drawing{alone}")
    features = FeatureNetwork() if preset.feature else None
    validation = Validation(preset, kept, spared, judges, paired=True)
    config |= {"metric_features": validation.metric_features, "spared": spared}
    rounding = Rounding() if preset.qat else None
    adversary = Adversary(preset.judge_learning_rate) if preset.adversarial else None
    looks = LookTerm(coloured=preset.looks_coloured) if preset.looks and len(preset.groups) > 1 else None
    trainer = Trainer(generator, preset, features, config["learned"], rounding, adversary, looks)
    return LiveLearner(trainer, trained, parallel.device, validation)


def _translation(preset: Translation, inputs: Inputs, init: Path | None, config: dict, parallel):
    """The learner of every other preset, from unpaired pictures."""
    from trainer.collect import collect
    from trainer.group_names import check_names
    from trainer.identity_files import load_face_id
    from trainer.initial import start_translation
    from trainer.sampling import decoded_size, needed_pools
    from trainer.translation import TranslationLearner
    from trainer.validation import open_judges

    check_names(preset.groups)
    if preset.batch % parallel.processes:
        raise UsageError(f"--set batch={preset.batch}: expected a multiple of the {parallel.processes} processes")
    face_id = load_face_id(inputs.face_id).to(parallel.device) if preset.face_id else None
    judges = open_judges(preset, inputs.identity, face_id, parallel.device)
    folders = [Path(name) for name in inputs.data]
    needed = needed_pools(preset)
    places = folders, list(inputs.photos), preset.groups, needed, decoded_size(preset)
    found = collect(*places, inputs.points, _may_spare(preset, config), config["table_points"])
    for group, pictures in found.train.items():
        if parallel.rank == 0:
            known = sum(marks is not None for marks in pictures.points)
            with_points = f" ({known} with points)" if preset.keypoint else ""
            _say(group, f"{len(pictures.photo)} photos{with_points}, {len(pictures.cartoon)} drawings")
    learner = TranslationLearner(preset, found, face_id, judges, parallel, config["learned"])
    config |= {"metric_features": learner.validation.metric_features, "spared": found.spared}
    if preset.keypoint and not learner.sampler.with_points():
        basic = preset.groups[0]
        if inputs.points is None:
            raise UsageError(f"--points: no photo of {basic} has five points, as the tables hold none; name their list")
        raise UsageError(
            f"--points {inputs.points}: names no photo of {basic} in --data; crops of trainer.prepare have theirs in "
            "DATA/crop_points.csv"
        )
    if init is not None:
        config["learned"] = learner.learned = start_translation(learner, init)
    return learner


def _may_spare(preset: Preset, config: dict) -> dict:
    """The domains of each group that may keep pictures from training: those that did when the run began, or in a new
    run all; none where nothing would look at them."""
    everything = dict.fromkeys(preset.groups, DOMAINS)
    spared = config.get("spared", everything if preset.validate_every else {})
    if isinstance(spared, dict):
        return spared
    # Older runs named groups: of pairs those that spared some (none when there was no such rule yet); other presets
    # kept pictures of every large set apart, and named the groups with two such sets.
    return dict.fromkeys(spared, DOMAINS) if isinstance(preset, Live) else everything


def _say(group: str, counts: str) -> None:
    print(f"{group}: {counts}", file=sys.stderr)


def _before(path: Path, config: dict) -> dict:
    """The configuration of the run that is resumed, after checking `config` against it."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["version"] != VERSION:
            raise TrainingError(f"{path}: version {before['version']}, expected {VERSION}")
        files = ("data", "masks", "points", "face_id")
        # Earlier runs weigh all groups' features alike.
        before["preset"].setdefault("rare_feature", before["preset"].get("feature"))
        if before["preset"].get("looks"):  # and saw drawings as they are
            before["preset"].setdefault("looks_coloured", True)
        old, new = ({**each["preset"], **{name: each.get(name) for name in files}} for each in (before, config))
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; the run cannot be resumed without it") from None
    except (ValueError, KeyError, TypeError):
        raise TrainingError(f"{path}: not the description of a run; it cannot be resumed") from None
    for name, value in new.items():
        value = list(value) if isinstance(value, tuple) else value  # as JSON holds it
        was = old.get(name, value)
        if name not in (*MAY_CHANGE, "source") and was != value:
            name = "preset" if name == "name" else name
            raise UsageError(f"--resume: {name} is {value}, but the run in {path.parent} was started with {was}")
    return before


if __name__ == "__main__":
    sys.exit(main())
