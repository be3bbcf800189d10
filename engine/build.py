"""`python -m engine.build`: from a checkpoint to the engines that a machine runs, proven against the network.

    door       every option checked, before anything slow (build_door.py)
    export     trained or public weights as a model folder (from_run.py); the zoo and model folders have graphs already
    compile    an engine for each group, for this machine or for cards of others (build_engines.py)
    compare    each with the original network on real crops; an engine that draws too differently is not kept
    time       all engines in turn, and int8 beside what it must beat (build_timing.py)
    tell       a table, `--json FILE`, and with `--out DIR` a model folder that brings its engines (build_report.py)

What was built and measured before is found again by all that decides it; then only the table is printed.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import build_report, build_timing, manifest
from engine.build_door import RECORD, Wanted, arguments, batches_of, check, check_model, chosen, wanted_of
from engine.build_engines import Ahead, Compiled, Engine, Figures, Kept, label
from engine.build_report import Built, Line
from engine.cache import ENGINES
from engine.from_run import Form, exported
from engine.manifest import CARD, Manifest, ModelFiles
from engine.proof import Agreement, Crops, agreement, graph_drawn, planes
from livetoon import cli
from livetoon.errors import EngineError, UsageError
from livetoon.files import replacing, sha256, user_folder, write_json
from livetoon.progress import Progress

if TYPE_CHECKING:
    from torch import nn

CROPS = 8  # to compare on; photo2cartoon takes torch 0.7 s each
FLOOR_DB = {"fp32": 50.0, "fp16": 34.0, "bf16": 34.0, "int8": 33.0}  # of the worst crop; below it one sees it


def build(wanted: Wanted, progress: Progress) -> Built:
    """Build and prove what is wanted; in `wanted.out`, or where `open_runner` finds it.

    UsageError for what cannot be, ModelError for weights that are none, EngineError for a graph that does not compile
    and for an engine that draws too differently, which is not kept.
    """
    check(wanted)
    made = exported(wanted.model, Form(wanted.size, wanted.calibration, wanted.groups))
    source = manifest.find(made.model)
    described = manifest.read(source)
    check_model(wanted, described)
    if wanted.out is None:
        return _built(wanted, source, source, described, made.network, progress)
    with _laid_out(source, wanted.out, described):
        built = _built(wanted, source, wanted.out, described, made.network, progress)
        if missing := [line.figures.group for line in built.lines if not line.kept]:
            raise EngineError(f"--out {wanted.out}: the engine of {missing[0]} cannot be written there")
        write_json(wanted.out / RECORD, build_report.described(built))
    return built


@contextmanager
def _laid_out(source: Path, out: Path, described: Manifest) -> Iterator[None]:
    """The model in `out`, with a place for its engines. What was begun and failed goes, where nothing was before."""
    if (out / manifest.NAME).is_file() and (name := manifest.read(out).name) != described.name:
        raise UsageError(f"--out {out}: holds model {name}, not {described.name}; choose another name or remove it")
    for group in described.groups:
        manifest.open_files(source, group)
    begun = not out.exists() or not any(out.iterdir())
    try:
        (out / ENGINES).mkdir(parents=True, exist_ok=True)
        for name in (*described.files, CARD, manifest.NAME):  # the description last: without it there is no model
            if (source / name).is_file() and not _same(source / name, out / name):
                with replacing(out / name) as temporary:
                    shutil.copyfile(source / name, temporary)
        yield
    except BaseException:
        if begun:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and (os.path.samefile(one, other) or sha256(one) == sha256(other))


def _built(
    wanted: Wanted, source: Path, folder: Path, described: Manifest, network: "nn.Module | None", progress: Progress
) -> Built:
    """The engines of the model in `folder`. source: where the model lay before; network: in torch, if it is there."""
    engines = _engines(wanted, folder, described)
    crops = Crops(wanted.crops, described.size, CROPS)
    places = [Kept(engine, crops) for engine in engines]
    found = [place.load() for place in places]
    cached = [figures is not None or place.has_engine for figures, place in zip(found, places, strict=True)]
    new = [index for index, figures in enumerate(found) if figures is None]
    for index in new:
        found[index] = _proven(engines[index], places[index], network, crops, progress)
    if new:
        timed = build_timing.timed([engines[index] for index in new], source, crops.pictures, progress)
        for index, times in zip(new, timed, strict=True):
            found[index] = replace(found[index], **times)
    kept = [index not in new or places[index].store(found[index]) for index in range(len(engines))]
    return Built(
        model=described,
        title=engines[0].title,
        crops=f"{CROPS} of the astronaut" if wanted.crops is None else f"{len(crops.pictures)} of {wanted.crops}",
        lines=[Line(*each, engines[0].batches) for each in zip(found, cached, kept, strict=True)],
        engines={name: fields for engine in engines for name, fields in engine.keys.items()},
        folder=str(wanted.out or user_folder()),
        advice=build_report.advice(found, engines[0].title),
    )


def _engines(wanted: Wanted, folder: Path, described: Manifest) -> list[Engine]:
    backend, precision = chosen(wanted, described.precisions, described.name)
    batches = batches_of(wanted, described)
    groups = [manifest.open_files(folder, group) for group in wanted.groups or described.groups]
    if backend is None:
        return [Ahead(files, wanted.targets, precision, batches) for files in groups]
    return [Compiled(files, backend, precision, batches) for files in groups]


def _proven(engine: Engine, place: Kept, network: "nn.Module | None", crops: Crops, progress: Progress) -> Figures:
    """Make `engine`, or take it from the cache, and compare it. EngineError where it draws too differently."""
    files, group = engine.files, engine.files.group
    cached, began = place.has_engine, time.monotonic()
    with progress.stage(f"{group}: {'opening' if cached else 'compiling with'} {engine.title}"):
        engine.make(lambda said: progress.passing(f"{group}: {said}"))
    build_s = None if cached else round(time.monotonic() - began, 2)
    reference = "torch" if network is not None else "float32 graph in ONNX Runtime"
    with progress.stage(f"{group}: comparing with {reference} on {len(crops.pictures)} crops"):
        expected = _original(files, network, planes(crops.pictures), progress)
        found = _compared(engine, place, expected, crops)
    spec = engine.runner.spec if engine.runner else None
    return Figures(
        group=group,
        precision=label(files, engine.precision),
        arithmetic=spec.arithmetic if spec else {"fp32": "f32", "fp16": "f16"}.get(engine.precision, engine.precision),
        device=spec.device if spec else engine.title,
        threads=spec.threads if spec else None,
        bytes=place.bytes,
        build_s=build_s,
        reference=reference,
        compared=engine.compared,
        psnr_mean_db=round(found.mean_db, 2),
        psnr_worst_db=round(found.worst_db, 2),
        largest_error=float(f"{found.largest:.4g}"),
        slots=place.filled,
    )


def _original(files: ModelFiles, network: "nn.Module | None", x: np.ndarray, progress: Progress) -> np.ndarray:
    """What the network draws of x (N, 3, S, S): (N, 4, S, S). Without torch the float32 graph, proven at its export."""
    if network is None:
        return graph_drawn(files.graph("fp32"), x, files.manifest.batch or 1)
    import torch

    from engine.export import drawn

    pictures = []
    for each in torch.from_numpy(x).split(1):
        pictures.append(drawn(network, each, files.group).numpy())
        progress.tick(f"{files.group}: torch has drawn {len(pictures)} of {len(x)} crops")
    return np.concatenate(pictures)


def _compared(engine: Engine, place: Kept, expected: np.ndarray, crops: Crops) -> Agreement:
    """How floats agree; that pictures do, in every batch, is asked for too."""
    channels = 4 if engine.files.manifest.alpha else 3  # an alpha that is 1 everywhere flatters

    def agrees(got: np.ndarray, true: np.ndarray, what: str) -> Agreement:
        found = agreement(got[:, :channels], true[:, :channels])
        floor = FLOOR_DB[engine.precision]
        if not found.worst_db >= floor:  # of what is no number too
            place.drop()
            other = {"fp32": "", "int8": "; build --precision fp16"}.get(engine.precision, "; build --precision fp32")
            raise EngineError(
                f"{engine.files.group}: {what} of {engine.title} in {engine.precision} reach {found.worst_db:.1f} dB "
                f"on their worst crop, expected {floor:.0f}: the engine is not kept{other}"
            )
        return found

    found = agrees(engine.infer(planes(crops.pictures)), expected, "drawings")
    for batch in engine.batches if engine.runner else ():
        which = np.arange(batch) % len(expected)
        agrees(planes(engine.runner(crops.pictures[which])), expected[which], f"pictures, {batch} a call,")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(_command, arguments(), argv)


def _command(options: argparse.Namespace) -> None:
    wanted = wanted_of(options)
    built = build(wanted, Progress())
    print(build_report.summary(built))
    if wanted.json:
        write_json(wanted.json, build_report.described(built))


if __name__ == "__main__":
    sys.exit(main())
