"""Seconds and memory of a training step beside the public order of the same work, in one run.

    python -m benchmarks.training --presets photo2cartoon --face-id random --json training.json

Each side learns in a process of its own, so that each one's peak memory is its own; both are alive and warm, and take
turns step by step, so that what else the machine does hits both alike. Ours is `trainer.step` as a run takes it, the
other `benchmarks.public_order`, float32 always: the public programs know nothing else. Pictures are noise; augmentation
and pools are left out on both sides. Memory is the machine's, also where a GPU learns.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks import timing
from benchmarks.devices import DEVICES, chosen_device, waits
from engine import machine
from livetoon import cli
from livetoon.errors import DataError, UsageError
from livetoon.files import write_json
from trainer.presets import Translation, resolve

PRESETS = ("photo2cartoon", "ugatit-light", "fewshot", "face2webtoon-group", "keypoint2", "cyclegan", "selfie2anime")
PACKAGES = ("torch", "numpy")
PRECISIONS = ("fp32", "bf16")
STEPS = 5  # of each side, after one that warms up
RANDOM = "random"
PASSES = {"cyclegan": 6}  # generator passes of a public step; 8 in all of the U-GAT-IT family
COLUMNS = {
    "preset": "preset",
    "precision": "precision",
    "size": "size",
    "batch": "batch",
    "face_id": "face ID",
    "device": "on",
    "step_s": "step s",
    "public_step_s": "public s",
    "ratio_to_public": "ratio",
    "ratio_of_pairs": "of pairs",
    "cpu_ratio": "of cpu s",
    "images_per_s": "images/s",
    "peak_memory_gb": "peak GB",
    "public_peak_memory_gb": "public GB",
    "peak_memory_ratio": "ratio ",
}


@dataclass(frozen=True)
class Job:
    """What one process does. batch: pictures of each domain, with several groups of each group; face_id: a file,
    `random` (for timing only) or None, which leaves the term out; device: where it learns."""

    preset: Translation
    public: bool
    bf16: bool
    batch: int
    face_id: str | None
    device: str = "cpu"


@dataclass(frozen=True)
class Took:
    """One step: wall and processor seconds, bytes at the peak so far above what was there before the first step,
    generator passes, and the unweighted terms."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    passes: float
    figures: dict[str, float]


def compare(
    preset: Translation, precision: str, batch: int, face_id: str | None, steps: int, device: str = "cpu"
) -> dict[str, object]:
    """One row: `steps` steps of each side, interleaved. DataError when a side makes another number of passes than
    its order has."""
    job = Job(preset, False, precision == "bf16", batch, face_id, device)
    sides = job, replace(job, public=True, bf16=False)
    with _worker(sides[0]) as ours, _worker(sides[1]) as public:
        warm = [_step(side) for side in (ours, public)]
        expected = (6, PASSES.get(preset.network, 8))
        if (found := (warm[0].passes, warm[1].passes)) != expected:
            raise DataError(f"{preset.name}: {found[0]:g} and {found[1]:g} generator passes, expected {expected}")
        pairs = []
        for turn in range(steps):
            order = (ours, public) if turn % 2 else (public, ours)
            took = {side: _step(side) for side in order}
            pairs.append((took[ours], took[public]))
            print(f"{preset.name} {precision}: step {turn + 1} of {steps}", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {**_row(preset, precision, batch, face_id, pairs), "device": device}


def _row(
    preset: Translation, precision: str, batch: int, face_id: str | None, pairs: Sequence[tuple[Took, Took]]
) -> dict[str, object]:
    def median(values: Iterator[float]) -> float:
        return statistics.median(values)

    step_s, public_s = (median(pair[side].wall_s for pair in pairs) for side in (0, 1))
    peak, public_peak = (max(pair[side].peak_bytes for pair in pairs) for side in (0, 1))
    return {
        "preset": preset.name,
        "precision": precision,
        "size": preset.size,
        "batch": batch,
        "face_id": _face_id_said(preset, face_id),
        "step_s": round(step_s, 3),
        "public_step_s": round(public_s, 3),
        "steps_per_s": round(1 / step_s, 4),
        "ratio_to_public": round(step_s / public_s, 3),
        "ratio_of_pairs": round(median(ours.wall_s / public.wall_s for ours, public in pairs), 3),
        "cpu_ratio": round(median(o.cpu_s for o, _ in pairs) / median(p.cpu_s for _, p in pairs), 3),
        "images_per_s": round(batch * len(groups_of(preset)) * 2 / step_s, 4),
        "peak_memory_gb": round(peak / 1e9, 3),
        "public_peak_memory_gb": round(public_peak / 1e9, 3),
        "peak_memory_ratio": round(peak / public_peak, 3),
        "steps": len(pairs),
    }


def groups_of(preset: Translation) -> tuple[str, ...]:
    """Groups that one step sees: all where every step has one picture of each, the basic one elsewhere."""
    return preset.groups if preset.stage2_steps and preset.stage2_sampling == "each" else preset.groups[:1]


def _face_id_said(preset: Translation, face_id: str | None) -> str:
    if not preset.face_id:
        return "none"
    return "left out" if face_id is None else RANDOM if face_id == RANDOM else Path(face_id).name


# In the processes.


def family(preset: Translation, face_id: str | None):
    """The preset's networks, seeded, and its rules: (Networks, Rules)."""
    import torch

    from trainer.networks import build
    from trainer.translation import build_networks, rules

    torch.manual_seed(preset.seed)
    made = build_networks(preset)
    followed = rules(preset, stage=2 if preset.stage2_steps else 1)
    if preset.face_id and face_id is not None:
        made.face_id = _face_network(face_id)
    else:
        followed = replace(followed, face_id=0.0)
    if preset.keypoint:
        made.keypoints = build("keypoints", size=preset.size).requires_grad_(False).eval()
    return made, replace(followed, discriminators_first=False)


def _face_network(face_id: str):
    if face_id != RANDOM:
        from trainer.identity_files import load_face_id

        return load_face_id(face_id)
    from trainer.identity import FaceIdentity
    from trainer.networks import build

    return FaceIdentity(build("mobilefacenet"), "published")


def pictures(preset: Translation, batch: int, seed: int = 0, device: str = "cpu"):
    """Noise for one step, on `device`: `trainer.step.Pictures`, the groups side by side."""
    import torch

    from trainer.step import Pictures

    names = [name for name in groups_of(preset) for _ in range(batch)]
    random = torch.Generator().manual_seed(seed)
    photo, cartoon = torch.rand(2, len(names), 3, preset.size, preset.size, generator=random) * 2 - 1
    points = torch.rand(len(names), 10, generator=random) * preset.size if preset.keypoint else None
    return Pictures(photo.to(device), cartoon.to(device), names, points if points is None else points.to(device))


class Side:
    """One side's networks and its step: called with Pictures it moves everything once and returns the terms."""

    def __init__(self, job: Job):
        from benchmarks.public_order import PublicStep, publish
        from trainer.step import Step

        networks, rules = family(job.preset, job.face_id)
        for network in (*(each for _, each in networks.named()), networks.face_id, networks.keypoints):
            if network is not None:
                network.to(job.device)
        self.networks, self._drawn = networks, 0
        for generator in (networks.to_cartoon, networks.to_photo):
            generator.register_forward_hook(self._count)
        optimizers = _optimizers(networks, job.preset, fused=not job.public)
        if job.public:
            publish(networks)
            self._step = PublicStep(networks, rules, optimizers, job.preset.network == "cyclegan")
        else:
            taken = Step(networks, rules, optimizers, bf16=job.bf16)
            self._step = lambda seen: taken([seen])

    def __call__(self, seen) -> dict[str, float]:
        self._drawn = 0
        return self._step(seen)

    def passes(self, seen) -> float:
        """Generator passes of the last step: a pass draws every picture of the step once."""
        return self._drawn / len(seen.groups)

    def _count(self, module, inputs, output) -> None:
        self._drawn += len(inputs[0])


def _optimizers(networks, preset: Translation, fused: bool) -> dict:
    """Adam as the preset has it, one for both generators and one for all judges."""
    import torch

    judges = [judge for of_domain in networks.judges.values() for judge in of_domain.values()]
    learning = {"generators": (networks.to_cartoon, networks.to_photo), "discriminators": judges}
    settings = {"betas": (preset.beta1, 0.999), "weight_decay": preset.weight_decay, "fused": fused}
    return {
        name: torch.optim.Adam(
            [p for module in modules for p in module.parameters() if p.requires_grad], preset.learning_rate, **settings
        )
        for name, modules in learning.items()
    }


def _work(connection: Connection, job: Job) -> None:
    """The other end of `_step`: takes one step for every message until there are no more."""
    if not job.public:
        from trainer.memory import keep_memory

        keep_memory()  # as a run does
    side, seen = Side(job), pictures(job.preset, job.batch, device=job.device)
    before, _ = timing.resident()
    wait = waits(job.device)
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        wait()
        began, busy = time.perf_counter(), time.process_time()
        figures = side(seen)
        wait()
        wall, processor = time.perf_counter() - began, time.process_time() - busy
        connection.send(Took(wall, processor, timing.resident()[1] - before, side.passes(seen), figures))


# In the process that asks them.


@contextmanager
def _worker(job: Job) -> Iterator[Connection]:
    """A process that takes steps, for as long as it is needed."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, job), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join()


def _step(side: Connection) -> Took:
    time.sleep(timing.REST_S)
    try:
        side.send("step")
        return side.recv()
    except (EOFError, OSError):
        raise DataError("a measuring process ended: the reason stands above; none does when memory ran out") from None


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m benchmarks.training",
        "Seconds and peak memory of a training step, beside the public order of the same work.",
        "python -m benchmarks.training --presets photo2cartoon --face-id random --json training.json",
    )
    arguments.add_argument("--presets", default=",".join(PRESETS), help="comma-separated (default: %(default)s)")
    arguments.add_argument("--size", type=int, help="side of the pictures, px (default: each preset's own)")
    arguments.add_argument("--batch", type=int, default=1, help="pictures of each domain and group (default: 1)")
    arguments.add_argument("--width", type=int, help="channels of all first layers (default: each preset's own)")
    arguments.add_argument("--steps", type=int, default=STEPS, help="steps of each side (default: %(default)s)")
    arguments.add_argument("--device", choices=DEVICES, help="of both sides (default: the GPU where there is one)")
    arguments.add_argument("--precision", default="fp32", help="of ours, comma-separated: fp32, bf16 (default: fp32)")
    arguments.add_argument(
        "--face-id", metavar="FILE", help="face-ID network, or `random` for one that serves the clock alone; "
        "without it the face term is left out on both sides",
    )  # fmt: skip
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    presets, precisions = chosen(options), options.precision.split(",")
    if unknown := [name for name in precisions if name not in PRECISIONS]:
        raise UsageError(f"--precision {unknown[0]}: expected one of {', '.join(PRECISIONS)}")
    for name in ("steps", "batch"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} {getattr(options, name)}: expected at least 1")
    if options.face_id not in (None, RANDOM) and not Path(options.face_id).is_file():
        raise UsageError(f"--face-id {options.face_id}: no such file; expected a face-ID network or `{RANDOM}`")
    device = chosen_device(options.device)
    described = timing.described_machine(PACKAGES)
    print(_headline(described, "bf16" in precisions and device == "cpu"))
    rows = [
        compare(preset, precision, options.batch, options.face_id, options.steps, device)
        for preset in presets
        for precision in precisions
    ]
    print(timing.table([{key: _said(row[key]) for key in COLUMNS} for row in rows], COLUMNS))
    if options.json:
        write_json(options.json, {"machine": described, "rows": rows})


def chosen(options: argparse.Namespace) -> list[Translation]:
    """The presets with the size and width asked for; UsageError names one that cannot be measured."""
    changes = [f"size={options.size}"] if options.size is not None else []
    if options.width is not None:
        changes += [f"width={options.width}", f"judge_width={options.width}"]
    found = []
    for name in options.presets.split(","):
        preset = resolve(name, changes if isinstance(resolve(name, []), Translation) else [])
        if not isinstance(preset, Translation) or preset.keypoint_apart:
            raise UsageError(f"--presets {name}: has no public order to be measured against; leave it out")
        found.append(preset)
    return found


def _headline(described: dict[str, object], bf16: bool) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    lines = [f"{described['processor']}, {described['cores']} cores; {versions}; public: float32, plain Adam"]
    if bf16 and not machine.has_bf16():
        lines.append("This processor has no fast bf16: its bf16 rows tell memory, not speed.")
    return "\n".join(lines) + "\n"


def _said(value: object) -> object:
    return f"{value:.3g}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
