"""The few-shot paper's own drawings beside ours of people that ours never saw: `python -m benchmarks.left_out`.

    pair N of every group left out -> branches learn anew from the first group's, stage 2 of preset `live`
                                   -> the photos of the pairs N, drawn by them beside the published drawings

The first group is drawn by its branch as it was shipped, which learned from its pairs among a thousand others.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from faces.pictures import pictures
from livetoon import cli
from livetoon.errors import ModelError, TrainingError, UsageError
from livetoon.files import replacing, write_json
from livetoon.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.quality_people import Case

PACKAGES = ("torch", "openvino", "numpy")
FEW_SHOT = "fewshot_groups"
PAPER, PLAIN, SHOWN = "few-shot paper", "ours, network alone", "ours, as shown"
PLAN = "left_out.json"  # of a run: what decides it, and whether it is finished
AS_SHIPPED = ("stage1_steps=0", "basic_batch=0")
TAKEN_FROM = {  # options of trainer.run, and where they lie in --root
    "--data": "data/pairs",
    "--photos": "data/all_age_faces/table.csv",
    "--masks": "models/faces/selfie_seg_256.onnx",
}


def paired(folder: Path) -> list[str]:
    """Names of the photos of a group that have a drawing, sorted: the pair of a number is the same everywhere."""
    drawn = {path.name for path in pictures(folder / "cartoon")}
    return sorted(path.name for path in pictures(folder / "photo") if path.name in drawn)


def digest(start: Path) -> str:
    """Of the values of a .safetensors file alone: its header's strings come in any order."""
    content = start.read_bytes()
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def learn(work: Path, start: Path, root: Path, number: int, changes: Sequence[str]) -> Path:
    """The run of which pair `number` of every group, counted from 0, was left out; one that is finished is kept.

    UsageError where its folder holds what this command did not make, or learned in another way.
    """
    place, drawings = work / str(number + 1), work / str(number + 1) / FEW_SHOT
    plan = {"start": digest(start), "set": list(changes)}
    if place.exists():
        if not (place / PLAN).is_file():
            raise UsageError(f"--work {work}: {place} holds something else; name an empty folder")
        known = json.loads((place / PLAN).read_text(encoding="utf-8"))
        if {key: known.get(key) for key in plan} != plan:
            raise UsageError(f"--work {work}: {place} learned from another model or with another --set; name another")
        if known.get("finished"):
            return place / "run"
        shutil.rmtree(place)
    place.mkdir(parents=True)
    write_json(place / PLAN, plan)
    shutil.copytree(root / "data" / FEW_SHOT, drawings)
    for folder in drawings.iterdir():
        for name in paired(folder)[number : number + 1]:
            for kind in ("photo", "cartoon"):
                (folder / kind / name).unlink()
    words = [word for option, name in TAKEN_FROM.items() for word in (option, str(root / name))]
    words += ["--data", str(drawings), "--init", str(start), "--out", str(place / "run")]
    words += [word for change in (*AS_SHIPPED, *changes) for word in ("--set", change)]
    ended = subprocess.run([sys.executable, "-m", "trainer.run", "--preset", "live", *words], check=False)
    if ended.returncode:
        raise TrainingError(f"{place}: the training ended with {ended.returncode}, as said above; run this again")
    write_json(place / PLAN, plan | {"finished": True})
    return place / "run"


def first_branch(model: str, out: Path) -> None:
    """Trunk and first branch of a model's trained weights, so that every other branch begins as a copy of that one."""
    from engine.from_run import GENERATOR
    from engine.manifest import find
    from trainer.checkpoint import load_generator, save_generator
    from trainer.networks import build

    try:
        whole = load_generator(find(model) / GENERATOR)
    except ModelError as error:
        raise UsageError(f"--model: {error}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in whole.settings.items() if name != "groups"}
    one = build(whole.network_name, groups=whole.groups[:1], **settings)
    one.load_state_dict({name: value for name, value in whole.state_dict().items() if name in one.state_dict()})
    with replacing(out) as temporary:
        save_generator(temporary, one)


def drawn(runs: Sequence[Path], root: Path) -> tuple[list["Case"], dict[str, list["np.ndarray"]]]:
    """The people of the pairs, and what each method makes of them, (256, 256, 3) uint8 RGB on white; ours is drawn by
    the run that never saw the person."""
    from benchmarks.quality_judges import published
    from benchmarks.quality_people import PLAIN as ALONE
    from benchmarks.quality_people import Cutter, Model, finished, laid
    from streamer.pipeline import Settings

    found = published(root / "data", Cutter())
    models = [Model(str(run)) for run in runs]
    shares = (ALONE, (Settings().tone, Settings().detail))
    made: dict[str, list] = {PAPER: [], PLAIN: [], SHOWN: []}
    for case, theirs in found:
        number = paired(case.person.path.parent.parent).index(case.person.file)
        alone, shown = (laid(one) for one in finished(models[number], case, shares))
        for name, picture in ((PAPER, theirs), (PLAIN, alone), (SHOWN, shown)):
            made[name].append(picture)
    return [case for case, _ in found], made


def sheet(cases: Sequence["Case"], made: dict[str, list["np.ndarray"]]) -> "np.ndarray":
    """Two groups side by side, every person a row: photo, the paper's drawing, ours."""
    from benchmarks.comparison_sheet import grid
    from benchmarks.quality_sheet import side_by_side

    heads, halves = ["photo", "paper", "ours alone", "ours, shown"], []
    groups = list(dict.fromkeys(case.kind for case in cases))
    for some in (groups[: len(groups) // 2], groups[len(groups) // 2 :]):
        here = [number for number, case in enumerate(cases) if case.kind in some]
        columns = [[cases[number].crop for number in here], *([of[number] for number in here] for of in made.values())]
        halves.append(grid(heads, [cases[number].kind for number in here], columns))
    return side_by_side(halves)


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m benchmarks.left_out",
        "Hold the few-shot paper's own drawings against ours of the same people, who were left out of the training.",
        "python -m benchmarks.left_out --root shared --work left_out --json left_out.json --sheet left_out.jpg",
    )
    parser.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder of data/ and models/, as recipe live reads them"
    )
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="runs; what is there is gone on with")
    parser.add_argument("--model", default="live", help="whose first branch the others begin as (default: live)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a field of the preset, as in trainer.run"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and figures there")
    parser.add_argument("--sheet", type=Path, metavar="FILE.jpg", help="contact sheet, of people: not to be published")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options: argparse.Namespace) -> None:
    people, judged_by = options.root / "data" / FEW_SHOT, options.root / "models"
    for place in (people, *(options.root / name for name in TAKEN_FROM.values())):
        if not place.exists():
            raise UsageError(f"--root: {place} is missing")
    folds = max((len(paired(folder)) for folder in people.iterdir() if folder.is_dir()), default=0)
    if not folds:
        raise UsageError(f"--root: {people} holds no pair, GROUP/photo/NAME with GROUP/cartoon/NAME")
    if options.work.exists() and not options.work.is_dir():
        raise UsageError(f"--work {options.work}: is no folder")
    cli.check_place("--sheet", options.sheet)

    from benchmarks import quality_figures, quality_judges, timing
    from benchmarks.comparison_sheet import write
    from benchmarks.quality import report

    try:
        quality_judges.check({"paper"}, judged_by)
    except UsageError:
        raise UsageError(f"--root: {judged_by} lacks a network that judges, as benchmarks.quality takes them") from None
    machine, progress = timing.described_machine(PACKAGES), Progress()
    start = options.work / "start.safetensors"
    first_branch(options.model, start)
    runs = []
    for number in range(folds):
        progress.passing(f"pair {number + 1} of {folds} of every group left out")
        runs.append(learn(options.work, start, options.root, number, options.set))
    cases, made = drawn(runs, options.root)
    judges, figures = quality_judges.Judges({"paper"}, judged_by), []
    for name, drawings in made.items():
        sights = [judges.sight(case, drawing) for case, drawing in zip(cases, drawings, strict=True)]
        figures += quality_figures.paper(sights, name)
    print(report(figures, []))
    if options.json:
        told = {"model": options.model, "start": digest(start), "set": [*AS_SHIPPED, *options.set]}
        write_json(options.json, {"machine": machine, **told, "figures": [figure.as_json() for figure in figures]})
    if options.sheet:
        write(options.sheet, sheet(cases, made))


if __name__ == "__main__":
    sys.exit(main())
