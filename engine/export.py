"""From a trained generator to a model folder: one small ONNX graph per group, the weights once, all of it proven.

    graph     live_graph.py for the live generators, drawing_graph.py for the translation networks
    pack      what the groups share stored once; weights of live generators in float16
    calibrate with `--int8`: a second graph per group whose convolutions read int8 (calib)
    prove     every graph in ONNX Runtime against torch on the same crops, before it takes its place

Input `crop` (N, 3, S, S) float32 RGB in [-1, 1]; output `rgba` (N, 4, S, S) float32 in [0, 1].
The only part of the engine that needs torch, with the graph files that it opens.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    if __name__ == "__main__":
        sys.exit('python -m engine.export: torch is not installed; install it with: pip install ".[train]"')
    raise

from calib.crops import read_crops
from calib.sensitivity import LEAST_SHARE, Accuracy, Calibrated, calibrated
from engine import from_run, manifest, pack, rewrite
from engine.cache import Cache
from engine.drawing_graph import DrawingGraphs
from engine.from_run import CALIBRATION_CROPS, LEAST_CROPS
from engine.live_graph import LiveGraphs
from engine.manifest import CARD
from engine.proof import agreement, graph_drawn
from livetoon import cli
from livetoon.errors import ModelError, UsageError
from livetoon.files import naming, sha256, user_folder, write_json
from trainer import public_files
from trainer.checkpoint import load_network
from trainer.networks.branches import Branched, Drawing

LICENCE = "weights: research and non-commercial use only, see MODEL_CARD.md"
CALIBRATION = "calibration.json"
LEAST_DB = {"fp32": 50.0, "int8": 33.0}  # on the worst crop; below it a crop would visibly differ
INT8_DB = 40.0  # mean over crops that an INT8 graph should reach; errors of two grey levels
USUAL_SIZE = 256  # px, of live generators whose run is not known
JUDGED = 4  # every fourth of these crops does not calibrate, it judges


def export(
    generator: nn.Module,
    folder: str | os.PathLike,
    name: str | None = None,
    size: int = 256,
    batch: int | None = None,
    licence: str = LICENCE,
    calibration: np.ndarray | None = None,
    report: Callable[[str], None] = print,
    int8_db: float = INT8_DB,
    own_lines: bool = True,
) -> manifest.Manifest:
    """Write `generator`, live or translating, as a model folder.

    size: side S of a crop in px. batch: crops per call, None for any number.
    calibration: (N, S, S, 3) uint8 RGB, crops as live video gives them, for INT8 graphs beside the float ones; every
    fourth is kept to judge them. int8_db: mean PSNR that they should reach; convolutions that stand in the way stay
    float (calib.sensitivity).
    Files that stand in `folder` are replaced only when every new graph agrees with torch; ModelError tells which
    one does not. Graphs of the model that was there before go; files that it did not list stay.
    """
    folder = Path(folder)
    name = name or folder.name
    _check_shape(size, batch)
    graphs = _graphs(generator.float().eval(), name, size, batch)
    batch = graphs.batch
    if calibration is not None and len(calibration) < LEAST_CROPS:
        raise UsageError(f"--int8: {len(calibration)} crops are too few, expected {LEAST_CROPS} or more")
    judged = {"fp32": proof_crops(size)}
    if calibration is not None:
        x = calibration.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        judged["int8"], calibration = x[::JUDGED], np.delete(x, np.s_[::JUDGED], axis=0)
    int8: dict[str, Calibrated] = {}
    models = {}
    for group in generator.groups:
        report(f"{group}: exporting")
        title = f"{name}/{group}"
        model = graphs.graph(group, title)
        if calibration is not None:
            report(f"{group}: calibrating on {len(calibration)} crops, judging on {len(judged['int8'])}")
            int8[group] = _calibrated(model, calibration, judged["int8"], batch or 1, int8_db, report, group)
            models[manifest.graph_name(group, "int8")] = rewrite.clean(int8[group].model, title)
        stored = pack.halve_weights(model) if graphs.half_weights else model
        models[manifest.graph_name(group)] = rewrite.clean(stored, title)
    folder.mkdir(parents=True, exist_ok=True)
    with naming(folder, folder / ".export-"), tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as made:
        made = Path(made)
        pack.write(models, made, manifest.WEIGHTS)
        if int8:
            write_json(made / CALIBRATION, _calibration(int8, len(calibration)))
        for group in generator.groups:
            for precision, crops in judged.items():
                graph = made / manifest.graph_name(group, precision)
                prove(generator, graph, group, crops, batch or 1, LEAST_DB[precision], report)
        described = manifest.Manifest(
            name=name,
            network=generator.network_name,
            settings=generator.settings,
            groups=tuple(generator.groups),
            size=size,
            batch=batch,
            licence=licence,
            files={path.name: sha256(path) for path in sorted(made.iterdir())},
            nodes={graph: len(model.graph.node) for graph, model in sorted(models.items())},
            precisions=tuple(judged),
            alpha=graphs.has_alpha,
            traced_nodes=dict.fromkeys((manifest.graph_name(group) for group in generator.groups), graphs.operations),
            own_lines=own_lines,
            int8={group: {"share": round(each.share, 4), "kept": list(each.kept)} for group, each in int8.items()},
        )
        if not (folder / CARD).exists():
            (made / CARD).write_text(card(described), encoding="utf-8")
        described.write(made)
        earlier = _earlier_files(folder)
        for old in folder.glob("*.onnx"):
            if old.name in earlier and old.name not in described.files:
                old.unlink()
        # Within one disk, where room is no question; the description comes last.
        for file in sorted(made.iterdir(), key=lambda file: file.name == manifest.NAME):
            file.replace(folder / file.name)
    return described


def _check_shape(size: int | None, batch: int | None) -> None:
    if batch is not None and batch < 1:
        raise UsageError(f"--batch {batch}: expected 1 or more")
    if size is not None and size < 16:
        raise UsageError(f"--size {size}: expected at least 16")


def _graphs(generator: nn.Module, name: str, size: int, batch: int | None) -> LiveGraphs | DrawingGraphs:
    """What makes the graphs of `generator`; UsageError for crops that it cannot draw."""
    live = hasattr(generator, "logits")
    if not live and not isinstance(generator, Branched):
        raise ModelError(f"{name}: a network {generator.network_name}, which draws no pictures; expected a generator")
    crops = torch.zeros(1, 3, size, size)
    try:
        side = drawn(generator, crops, generator.groups[0]).shape[-1]
    except RuntimeError:  # torch's words for layers that do not fit together
        side = None
    if side != size:
        usual = generator.settings.get("size", "a multiple of 16")
        raise UsageError(f"--size {size}: expected a side that network {generator.network_name} draws, as {usual}")
    return LiveGraphs(generator, size, batch) if live else DrawingGraphs(generator, size, batch, Cache(user_folder()))


def _earlier_files(folder: Path) -> set[str]:
    """What the model.json that stands in `folder` lists; nothing where there is none that can be read."""
    try:
        return set(manifest.read(folder).files)
    except ModelError:
        return set()


def _calibrated(
    model: onnx.ModelProto,
    crops: np.ndarray,
    judged: np.ndarray,
    batch: int,
    int8_db: float,
    report: Callable[[str], None],
    group: str,
) -> Calibrated:
    """The INT8 graph of `model`. crops, judged: (N, 3, S, S) float32 in [-1, 1]."""

    expected = graph_drawn(model.SerializeToString(), judged, batch)

    def judge(graph: onnx.ModelProto) -> Accuracy:
        found = agreement(graph_drawn(graph.SerializeToString(), judged, batch), expected)
        return Accuracy(found.mean_db, found.worst_db)

    bar = Accuracy(int8_db, LEAST_DB["int8"])
    made = calibrated(model, crops, judge, bar, lambda line: report(f"{group}: {line}"), batch)
    if not made.accuracy.reaches(bar):
        report(
            f"{group}: INT8 misses {bar} with {LEAST_SHARE:.0%} of the work in int8; learn its rounding with "
            "python -m trainer.run --preset live --qat, or use fp16"
        )
    return made


def _calibration(int8: dict[str, Calibrated], crops: int) -> dict[str, object]:
    """What calibration.json tells: how the int8 graphs came about."""
    groups = {
        group: {
            "method": each.method,
            "psnr_db": round(each.accuracy.mean, 2),
            "psnr_db_worst": round(each.accuracy.worst, 2),
            "share": round(each.share, 4),
            "kept": list(each.kept),
            "ranges": {name: float(f"{value:.6g}") for name, value in sorted(each.ranges.items())},
        }
        for group, each in int8.items()
    }
    return {"version": 1, "crops": crops, "groups": groups}


def drawn(generator: nn.Module, x: Tensor, group: str) -> Tensor:
    """What torch draws: (N, 4, S, S), RGB in [-1, 1], alpha in [0, 1] and 1 where the network has none."""
    with torch.inference_mode():
        picture = generator(x, group)
    if isinstance(picture, Drawing):
        return torch.cat([picture.image, torch.ones_like(picture.image[:, :1])], dim=1)
    return picture


def prove(
    generator: nn.Module,
    graph: Path,
    group: str,
    crops: np.ndarray,
    batch: int,
    least_db: float,
    report: Callable[[str], None],
) -> None:
    """Run `graph` in ONNX Runtime against torch; ModelError when the worst crop has less than `least_db`.

    crops: (N, 3, S, S) float32 in [-1, 1]. batch: how many the graph takes.
    """
    expected = drawn(generator.float().eval(), torch.from_numpy(crops), group).numpy()
    found = agreement(graph_drawn(graph, crops, batch), expected)
    report(
        f"{graph.stem}: {found.mean_db:.1f} dB against torch, worst crop {found.worst_db:.1f} dB, "
        f"largest error {found.largest:.1e}, {graph.stat().st_size / 1e3:.0f} kB"
    )
    if not found.worst_db >= least_db:  # of what is no number too
        raise ModelError(
            f"{graph.name} differs from torch: {found.worst_db:.1f} dB on its worst crop, expected {least_db:.0f}; "
            f"nothing was written"
        )


def proof_crops(size: int, count: int = 4) -> np.ndarray:
    """(count, 3, size, size) float32 in [-1, 1]: colour at every scale, the same on every machine."""
    random = np.random.default_rng(2026)
    crops = np.zeros((count, 3, size, size), np.float32)
    for cells in (2, 8, 32):
        coarse = random.uniform(-1, 1, (count, 3, cells, cells)).astype(np.float32)
        step = -(-size // cells)
        crops += coarse.repeat(step, axis=2).repeat(step, axis=3)[..., :size, :size]
    return np.clip(crops / 2, -1, 1)


def card(described: manifest.Manifest) -> str:
    """A first model card; a person completes it, and no later export overwrites it."""
    return (
        f"# {described.name}\n\n"
        f"Network `{described.network}`, crops of {described.size} px, groups: {', '.join(described.groups)}.\n\n"
        f"Licence: {described.licence}\n"
    )


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m engine.export",
        "Write a trained generator as a model folder: ONNX graph per group, weights once, hashes, proof.",
        "python -m engine.export runs/live engine/zoo/live",
    )
    arguments.add_argument(
        "model",
        metavar="MODEL",
        help="run folder (its newest checkpoint), checkpoint folder, .safetensors, or a public .pt or .pth",
    )
    arguments.add_argument("out", metavar="OUT_DIR", type=Path, help="model folder to write")
    arguments.add_argument("--name", help="name of the model (default: the name of OUT_DIR)")
    arguments.add_argument("--size", type=int, help="side of a crop in px (default: what it was trained with)")
    arguments.add_argument("--batch", type=int, help="fix the number of crops per call (default: any number)")
    arguments.add_argument(
        "--int8", type=Path, nargs="+", metavar="DIR", help="add INT8 graphs, calibrated on crops from these folders"
    )
    arguments.add_argument(
        "--int8-db", type=float, default=INT8_DB, metavar="DB", help="mean PSNR that INT8 should reach (default: 40)"
    )
    arguments.add_argument(
        "--reshapes",
        action="store_true",
        help="drawings have other proportions than the photo (trainer.distill --eyes): none of the person's own lines "
        "are laid on them",
    )
    arguments.add_argument("--licence", default=LICENCE, help="licence of the weights, for model.json")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    _check_shape(options.size, options.batch)
    if options.out.exists() and not options.out.is_dir():
        raise UsageError(f"{options.out}: is a file; name a folder")
    if options.out.is_dir() and any(options.out.iterdir()) and not (options.out / manifest.NAME).is_file():
        raise UsageError(f"{options.out}: is not empty and holds no {manifest.NAME}; name another folder")
    with from_run.copied(options.model) as weights:
        generator = load(weights, options.size)
    size = options.size or side_of(generator, weights)
    crops = read_crops(options.int8, CALIBRATION_CROPS, size) if options.int8 else None
    described = export(
        generator,
        options.out,
        options.name,
        size,
        options.batch,
        options.licence,
        crops,
        int8_db=options.int8_db,
        own_lines=not options.reshapes,
    )
    print(_summary(described, options.out))


def load(weights: from_run.Weights, size: int | None = None) -> nn.Module:
    """The generator in `weights`, ours or a public one; ModelError names the file that it was copied from.

    size: side of a public one's pictures in px, where its weights do not tell it.
    """
    if weights.source.suffix in from_run.PUBLIC:
        return _public(weights.source, size)
    try:
        return load_network(weights.copy)
    except ModelError as error:
        raise ModelError(str(error).replace(str(weights.copy), str(weights.source))) from error


def _public(path: Path, size: int | None) -> nn.Module:
    """The network of a public checkpoint that draws cartoons of photos, its groups named as they are by default.

    ModelError where there is none in it.
    """
    networks = public_files.read(path, size=size)
    if "generator" not in networks:
        raise ModelError(
            f"{path}: holds {', '.join(networks)}, but no generator that draws cartoons of photos (genA2B, G_12 or "
            "net_G_A in the public programs' words); give the file that has it"
        )
    return networks["generator"]


def side_of(generator: nn.Module, weights: from_run.Weights) -> int:
    """Side of the crops that `generator` was trained on, px."""
    return generator.settings.get("size") or weights.size or USUAL_SIZE


def _summary(described: manifest.Manifest, folder: Path) -> str:
    weights = (folder / manifest.WEIGHTS).stat().st_size / 1e6
    return f"{folder}: {len(described.groups)} groups in {' and '.join(described.precisions)}, weights {weights:.2f} MB"


if __name__ == "__main__":
    sys.exit(main())
