"""The papers' methods beside one another: every one learns for as many steps from the same pictures.

    python -m benchmarks.comparison --data pairs --data groups --photos faces/table.csv --drawings anime --out work

A step is one update of the generators. Methods that begin with the basic model (the basic model itself, baselines 2
and 3, ours with and without selective backpropagation) share its first half and then go their own ways for the second
half; all others take as many steps from the start. What a step sees differs (`pictures` in the table): of each group
one where groups have branches, one elsewhere. KID is the unbiased estimate over all held-out pictures, of the drawn
photos against the drawings of their group; its error says how far other photos would move it, not other drawings, nor
another seed. Without --full all networks are narrow, those of one style most of all, and the few-shot paper's methods
draw with U-GAT-IT's generator; what differs from a preset stands in the result as its row's `changed`.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import comparison_sheet, timing
from benchmarks.comparison_data import STYLE, Sources, counts, gather
from benchmarks.comparison_findings import UNCHANGED, findings
from livetoon import cli
from livetoon.errors import TrainingError, UsageError
from livetoon.files import write_json
from trainer.presets import GROUPS, PRESETS, Translation, fields, resolve

SHARED, WHOLE, HALVES = "shared", "whole", "halves"  # begins with the basic model; one stage; two stages of its own
METHODS = {
    "basic": SHARED, "baseline1": WHOLE, "baseline2": SHARED, "baseline3": SHARED, "fewshot-no-selective": SHARED,
    "fewshot": SHARED, "face2webtoon-finetune": HALVES, "face2webtoon-group": WHOLE, "face2webtoon-ada": WHOLE,
    "ugatit-light": WHOLE, "keypoint1": WHOLE, "keypoint2": WHOLE, "keypoint3": WHOLE, "cyclegan": WHOLE,
    "selfie2anime": WHOLE,
}  # fmt: skip
OF_STYLE = ("ugatit-light", "keypoint1", "keypoint2", "keypoint3", "cyclegan", "selfie2anime")
START = "first-half"

STEPS, STEPS_FULL = 2000, 150_000  # an hour and a half on one slow core; the few-shot paper's stages together
# What a CPU learns to draw with in so few steps, found on the basic model alone: the presets' CAM weights (1000) rule
# every step and leave grey noise, hourglasses take twice the time a step, and 200 steps of any of it draw nothing yet.
SMALL = {
    "size": "64", "width": "16", "judge_width": "16", "judge_layers": "5,4", "learning_rate": "0.001", "cam": "10",
    "stage2_cam": "10",
}  # fmt: skip
SMALL_FEW_SHOT = {"network": "ugatit", "cycle": "10"}
SMALL_OWN = "stem,down,up,out"  # of U-GAT-IT's generator: an encoder and a decoder around the shared blocks
SMALL_STYLE = {"width": "8", "judge_width": "8"}  # compared with one another only
SMALL_CYCLEGAN = {"blocks": "4", "cam": "0", "stage2_cam": "0"}
# A predictor that has converged beforehand stops the translation, so its epochs shrink with the steps.
SMALL_KEYPOINT = {"size": "66", "keypoint_epochs": "1,5,10,5", "keypoint_batch": "8"}
MOST = 200  # pictures of a set, small
# ADA measures often, and has full strength after half a run at the earliest, else it would hardly begin.
SMALL_ADA = {"ada_interval": "32"}
ADA_RAMP = 0.5
STRETCHES = 5  # of the keypoint schedule in a whole run: 10 000 of 50 000 steps
PACKAGES = ("torch", "numpy")


@dataclass(frozen=True)
class Plan:
    """What all methods of a comparison have in common; a comparison is resumed with the same one only."""

    groups: tuple[str, ...]
    full: bool
    steps: int
    size: int | None
    seed: int
    face_id: str | None
    identity: str | None
    most: int | None

    def preset(self, name: str) -> Translation:
        """The preset as it learns here; START is the half that `shared` methods begin with."""
        known = "basic" if name == START else name
        first, second = self.steps // 2, self.steps - self.steps // 2
        stages = {
            START: (first, 0), "basic": (second, 0), SHARED: (0, second), HALVES: (first, second),
            WHOLE: (self.steps, 0),
        }  # fmt: skip
        stage1, stage2 = stages[name if name in stages else METHODS[name]]
        changes = {"seed": self.seed, "validate_every": 0, "stage1_steps": stage1, "stage2_steps": stage2}
        changes |= self._small(known) if not self.full else {}
        if self.size is not None:
            changes["size"] = self.size + 2 * known.startswith("keypoint")  # 4k + 2 there, 16k elsewhere
        if known.startswith("keypoint"):
            changes["keypoint_every"] = max(1, self.steps // STRETCHES)
        if PRESETS[known].face_id and not self.face_id:
            changes["face_id"] = 0
        groups = self.groups[:1] if known in OF_STYLE else self.groups
        return resolve(known, [f"{key}={value}" for key, value in changes.items()], ",".join(groups))

    def changed(self, name: str) -> dict:
        """The fields in which the method differs from its published preset, and how."""
        learns, published = self.preset(name), PRESETS["basic" if name == START else name]
        return {
            field: getattr(learns, field)
            for field in fields(learns)
            if getattr(learns, field) != getattr(published, field)
        }

    def _small(self, name: str) -> dict[str, str]:
        preset, more = PRESETS[name], SMALL_STYLE if name in OF_STYLE else {}
        if preset.network == "photo2cartoon":
            more = SMALL_FEW_SHOT | ({"own": SMALL_OWN} if preset.own else {})
        if preset.network == "cyclegan":
            more = more | SMALL_CYCLEGAN
        if preset.keypoint:
            more = more | SMALL_KEYPOINT
        if preset.ada:
            more = SMALL_ADA | {"ada_kimg": str(ADA_RAMP * self.steps / 1000)}
        return SMALL | more


def learn(plan: Plan, name: str, work: Path) -> float | None:
    """Run one method, or the rest of it, in WORK/runs/`name`; returns seconds, None for a run that was resumed.

    TrainingError when it was stopped before its end.
    """
    from trainer import checkpoint
    from trainer.run import Inputs, train

    preset, out = plan.preset(name), work / "runs" / name
    of_style = name in OF_STYLE
    inputs = Inputs(
        (str(work / (STYLE if of_style else "groups")),),
        points=work / "points.csv" if preset.keypoint else None,
        face_id=Path(plan.face_id) if preset.face_id else None,
    )
    init = work / "runs" / START if METHODS.get(name) == SHARED else None
    stage, steps = (2, preset.stage2_steps) if preset.stage2_steps else (1, preset.stage1_steps)
    began, resumed = time.monotonic(), checkpoint.latest(out) is not None
    if not (resumed and _place(out) == (stage, steps)):
        train(preset, inputs, out, init, resumed)
    if _place(out) != (stage, steps):
        raise TrainingError(f"{name}: stopped before its end; the same command with --resume goes on")
    return None if resumed else time.monotonic() - began


def _place(out: Path) -> tuple[int, int]:
    from trainer import checkpoint

    state = checkpoint.read_state(checkpoint.latest(out))
    return state["stage"], state["step"]


def _learned(plan: Plan, name: str, judge, work: Path) -> dict:
    """The row of one method, which is kept beside its run: what is done is not done again."""
    path = work / "runs" / name / "row.json"
    if not path.exists():
        write_json(path, _row(plan, name, learn(plan, name, work), judge, work))
    return json.loads(path.read_text(encoding="utf-8"))


def _row(plan: Plan, name: str, seconds: float | None, judge, work: Path) -> dict:
    from trainer import checkpoint

    preset, folder = plan.preset(name), work / "runs" / name
    of_style = name in OF_STYLE
    generator = checkpoint.load_generator(folder)
    stages = {"shared": plan.steps // 2 if METHODS[name] == SHARED else 0}
    stages |= {"stage1": preset.stage1_steps, "stage2": preset.stage2_steps}
    each = len(preset.groups) if preset.stage2_sampling == "each" else 1
    pictures = preset.batch * (stages["shared"] + stages["stage1"] + each * stages["stage2"])
    ada = checkpoint.read_state(checkpoint.latest(folder)).get("ada", {})
    row = {
        "preset": name, "drawings": STYLE if of_style else "groups", "steps": stages, "pictures": pictures,
        "parameters": sum(value.numel() for value in generator.parameters()),
        "seconds": None if seconds is None else round(seconds, 1),
    }  # fmt: skip
    if ada:
        row["ada_strength"] = {domain: state["strength"] for domain, state in ada.items()}
    names = (STYLE,) if of_style else plan.groups
    return row | judge(generator, names, plan.groups[0] if of_style else None)


def table(rows: list[dict], groups: tuple[str, ...]) -> str:
    """The rows as Markdown, KID a thousand times; groups first, the methods of one style below. Columns that no method
    fills are left out."""
    learned = [row for row in rows if row["preset"] != UNCHANGED] or rows
    names = [name for name in (*groups, STYLE) if any(name in row["kid"] for row in learned)]
    heads = ["method", "steps", "pictures", *(f"KID {name}" for name in names), "FID", "identity", "change"]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row in rows:
        cells = [row["preset"], sum(row["steps"].values()), row["pictures"]]
        cells += [_with_error(row, name) for name in names]
        for key, places in (("fid", 1), ("identity", 2), ("change", 3)):
            values = list(row.get(key, {}).values())
            cells.append(f"{sum(values) / len(values):.{places}f}" if values else "-")
        lines.append(cells)
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _with_error(row: dict, name: str) -> str:
    if name not in row["kid"]:
        return "-"
    error = row["kid_error"][name]
    return f"{1000 * row['kid'][name]:.0f}" + ("" if error is None else f" ± {1000 * error:.0f}")


def arguments():
    """The command's options."""
    parser = cli.parser(
        "python -m benchmarks.comparison",
        "The papers' methods on your pictures, for as many steps each: KID, identity, change, and a contact sheet.",
        "python -m benchmarks.comparison --data groups --photos faces/table.csv --out work --json comparison.json",
    )
    add = parser.add_argument
    add("--data", action="append", type=Path, default=[], metavar="DIR", help="folder with [group/]photo and cartoon")
    add("--groups", default=",".join(GROUPS), help="comma-separated, the first is the basic one (default: %(default)s)")
    add("--photos", action="append", type=Path, default=[], metavar="TABLE.csv",
        help="all photos, of every group, from a table with file, age, sex and five points")  # fmt: skip
    add("--drawings", type=Path, metavar="DIR",
        help="drawings for the methods of one style (keypoint, CycleGAN); default: the basic group's")  # fmt: skip
    add("--points", type=Path, metavar="FILE", help="five points of the photos in --data (tables have their own)")
    add("--presets", default=",".join(METHODS), help="comma-separated (default: all, %(default)s)")
    add("--face-id", type=Path, metavar="FILE", help="face-ID network for the few-shot methods' loss (default: none)")
    add("--identity", type=Path, metavar="FILE", help="another face-ID network, which judges")
    add("--steps", type=int, help=f"of each method (default: {STEPS}, with --full {STEPS_FULL})")
    add("--size", type=int, help=f"side of pictures, px (default: {SMALL['size']}, with --full each preset's own)")
    add("--seed", type=int, default=0, help="every random choice follows from it (default: %(default)s)")
    add("--full", action="store_true", help="networks and pictures of the papers' size: days on a GPU")
    add("--out", type=Path, required=True, metavar="WORK", help="folder for pictures and runs")
    add("--resume", action="store_true", help="go on in --out: methods that are done are kept")
    add("--json", type=Path, metavar="FILE", help="write machine, rows and findings there")
    add(
        "--sheet", type=Path, metavar="FILE", help="the astronaut of scikit-image (public domain) drawn by every method"
    )
    add("--people", type=Path, metavar="FILE", help="held-out people drawn by every method; mind who may see them")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_command, arguments(), argv)


def _command(options: argparse.Namespace) -> None:
    chosen, plan = _checked(options)
    sources = Sources(tuple(options.data), plan.groups, tuple(options.photos), options.drawings, options.points)
    _begin(options, plan, sources)
    from benchmarks.comparison_judge import Judge

    work = options.out
    presets = {name: plan.preset(name) for name in chosen}
    side = options.size or (int(SMALL["size"]) if not plan.full else next(iter(presets.values())).size)
    judge = Judge(work, plan.groups, side, options.identity)
    rows = [_unchanged(plan.groups, judge)]
    if any(METHODS[name] == SHARED for name in chosen):
        _say(START)
        learn(plan, START, work)
    for name in chosen:
        _say(name)
        rows.append(_learned(plan, name, judge, work))
        print(table(rows[:1] + rows[-1:], plan.groups).splitlines()[-1], flush=True)
    said = findings(rows, plan.groups[0])
    print("\n" + table(rows, plan.groups) + "\n\n" + "\n".join(f"- {sentence}" for sentence in said))
    if options.json:
        write_json(options.json, _result(plan, judge, rows, said, work))
    for path, make in ((options.sheet, comparison_sheet.astronaut), (options.people, comparison_sheet.people)):
        if path:
            comparison_sheet.write(path, make(work, chosen, OF_STYLE, plan.groups, side))


def _checked(options: argparse.Namespace) -> tuple[list[str], Plan]:
    chosen = options.presets.split(",")
    if unknown := [name for name in chosen if name not in METHODS]:
        raise UsageError(f"--presets {unknown[0]}: unknown (there is: {', '.join(METHODS)})")
    if not options.data:
        raise UsageError("--data: no folder given; expected DATA/[group/]photo and DATA/[group/]cartoon")
    steps = options.steps if options.steps is not None else STEPS_FULL if options.full else STEPS
    if steps < STRETCHES:
        raise UsageError(f"--steps {steps}: expected at least {STRETCHES}")
    files = {"face-id": options.face_id, "identity": options.identity}
    for option, path in files.items():
        if path and not path.is_file():
            raise UsageError(f"--{option} {path}: no such file")
    if all(files.values()) and options.face_id.resolve() == options.identity.resolve():
        raise UsageError("--identity: the network of --face-id; one that taught the drawings cannot judge them")
    networks = [str(path.resolve()) if path else None for path in files.values()]
    most, groups = None if options.full else MOST, tuple(options.groups.split(","))
    plan = Plan(groups, options.full, steps, options.size, options.seed, *networks, most)
    for name in chosen:
        if plan.preset(name).keypoint and not (options.photos or options.points):
            raise UsageError(f"--points: {name} learns where five points of each photo are; name a file, or --photos")
    return chosen, plan


def _begin(options: argparse.Namespace, plan: Plan, sources: Sources) -> None:
    """Sort the pictures, or check that those in --out are the same comparison's."""
    path, work = options.out / "plan.json", options.out
    changed = {name: plan.changed(name) for name in (START, *METHODS)}
    described = {"plan": asdict(plan), "sources": asdict(sources), "changed": changed}
    described = json.loads(json.dumps(described, default=_resolved))
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if before is None and work.exists() and any(work.iterdir()):
        raise UsageError(f"--out {work}: holds other files; name a new folder")
    if before is not None and before.pop("sorted"):
        if not options.resume:
            raise UsageError(f"--out {work}: holds a comparison; add --resume to go on, or name another folder")
        if before != described:
            raise UsageError(f"--resume: {path} tells of other pictures, steps or sizes; name another --out")
        return
    if options.resume:
        raise UsageError(f"--resume: no comparison in {work}; leave it out to start")
    work.mkdir(parents=True, exist_ok=True)
    write_json(path, described | {"sorted": False})
    gather(sources, work, plan.most)
    write_json(path, described | {"sorted": True})


def _resolved(path: Path) -> str:
    return str(path.resolve())


def _unchanged(groups: tuple[str, ...], judge) -> dict:
    zero = {"shared": 0, "stage1": 0, "stage2": 0}
    row = {"preset": UNCHANGED, "drawings": "all", "steps": zero, "pictures": 0, "parameters": 0, "seconds": 0.0}
    return row | judge(None, (*groups, STYLE))


def _result(plan: Plan, judge, rows: list[dict], said: list[str], work: Path) -> dict:
    shown = [{key: value for key, value in row.items() if key != "folds"} for row in rows]
    for row in shown:
        row["changed"] = plan.changed(row["preset"]) if row["preset"] in METHODS else {}
    return {
        "machine": timing.described_machine(PACKAGES), "steps": plan.steps, "seed": plan.seed,
        "face_id_loss": bool(plan.face_id), "features": judge.name, "pictures": counts(work, plan.groups),
        "rows": shown, "findings": said,
    }  # fmt: skip


def _say(name: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
