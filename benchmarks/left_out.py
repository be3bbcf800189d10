"""The few-shot paper's own drawings beside ours of people that ours never saw: `python -m benchmarks.left_out`.

    pair N of every group left out -> branches learn anew from the first group's, stage 2 of preset `live`
                                   -> the photos of the pairs N, drawn by them beside the published drawings

The first group is drawn by its branch as it was shipped, which learned from its pairs among a thousand others.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from livetoon import cli
from livetoon.errors import TrainingError, UsageError
from livetoon.files import replacing, write_json
from livetoon.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.quality_people import Case

PACKAGES = ("torch", "openvino", "numpy")
FEW_SHOT = "fewshot_groups"
PAPER, PLAIN, SHOWN = "few-shot paper", "ours, network alone", "ours, as shown"
TAKEN_FROM = {  # options of trainer.run, and where they lie in --root; a missing one is left out
    "--data": "data/pairs",
    "--photos": "data/all_age_faces/table.csv",
    "--masks": "models/faces/selfie_seg_256.onnx",
}


def learn(work: Path, start: Path, root: Path, number: int, changes: Sequence[str]) -> Path:
    """The run of which pair `number` of every group, counted from 0, was left out; one that is finished is kept."""
    place = work / str(number + 1)
    run = place / "run"
    if (place / "learned").exists():
        return run
    drawings = place / FEW_SHOT
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root / "data" / FEW_SHOT, drawings)
    for folder in drawings.iterdir():
        for kind in ("photo", "cartoon"):
            if len(files := sorted((folder / kind).glob("*.jpg"))) > number:
                files[number].unlink()
    words = [word for option, name in TAKEN_FROM.items() for word in (option, str(root / name))]
    words += ["--data", str(drawings), "--init", str(start), "--out", str(run)]
    words += [word for change in ("stage1_steps=0", *changes) for word in ("--set", change)]
    ended = subprocess.run([sys.executable, "-m", "trainer.run", "--preset", "live", *words], check=False)
    if ended.returncode:
        raise TrainingError(f"{run}: the training ended with {ended.returncode}, as said above; run this again")
    (place / "learned").touch()
    return run


def first_branch(model: str, out: Path) -> None:
    """Trunk and first branch of a model's trained weights, so that every other branch begins as a copy of that one."""
    from engine.from_run import GENERATOR
    from engine.manifest import find
    from trainer.checkpoint import load_generator, save_generator
    from trainer.networks import build

    whole = load_generator(find(model) / GENERATOR)
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
        number = sorted(path.name for path in case.person.path.parent.glob("*.jpg")).index(case.person.file)
        alone, shown = (laid(one) for one in finished(models[number], case, shares))
        for name, picture in ((PAPER, theirs), (PLAIN, alone), (SHOWN, shown)):
            made[name].append(picture)
    return [case for case, _ in found], made


def sheet(cases: Sequence["Case"], made: dict[str, list["np.ndarray"]]) -> "np.ndarray":
    """Two groups side by side, every person a row: photo, the paper's drawing, ours."""
    import numpy as np

    from benchmarks.comparison_sheet import grid

    heads, halves = ["photo", "paper", "ours alone", "ours, shown"], []
    groups = list(dict.fromkeys(case.kind for case in cases))
    for some in (groups[: len(groups) // 2], groups[len(groups) // 2 :]):
        here = [number for number, case in enumerate(cases) if case.kind in some]
        columns = [[cases[number].crop for number in here], *([of[number] for number in here] for of in made.values())]
        halves.append(grid(heads, [cases[number].kind for number in here], columns))
    height = max(len(half) for half in halves)
    return np.hstack([np.pad(h, ((0, height - len(h)), (0, 0), (0, 0)), constant_values=255) for h in halves])


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
    people = options.root / "data" / FEW_SHOT
    for place in (people, *(options.root / name for name in TAKEN_FROM.values())):
        if not place.exists():
            raise UsageError(f"--root: {place} is missing")
    cli.check_place("--sheet", options.sheet)

    from benchmarks import quality_figures, timing
    from benchmarks.comparison_sheet import write
    from benchmarks.quality import report
    from benchmarks.quality_judges import Judges

    machine, progress = timing.described_machine(PACKAGES), Progress()
    options.work.mkdir(parents=True, exist_ok=True)
    start = options.work / "start.safetensors"
    if not start.exists():
        first_branch(options.model, start)
    folds = max(len(list((folder / "photo").glob("*.jpg"))) for folder in people.iterdir())
    runs = []
    for number in range(folds):
        progress.passing(f"pair {number + 1} of {folds} of every group left out")
        runs.append(learn(options.work, start, options.root, number, options.set))
    cases, made = drawn(runs, options.root)
    judges, figures = Judges({"paper"}, options.root / "models"), []
    for name, pictures in made.items():
        sights = [judges.sight(case, picture) for case, picture in zip(cases, pictures, strict=True)]
        figures += quality_figures.paper(sights, name)
    print(report(figures, []))
    if options.json:
        write_json(options.json, {"machine": machine, "figures": [figure.as_json() for figure in figures]})
    if options.sheet:
        write(options.sheet, sheet(cases, made))


if __name__ == "__main__":
    sys.exit(main())
