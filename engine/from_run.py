"""Trained weights as a model: exported once in the form that is wanted, and kept in the user's cache folder.

    RUN                                   a run of trainer.run, also one that goes on: its newest checkpoint
    RUN/checkpoints/best, any folder      with the averaged weights, ema.safetensors
    NAME.safetensors                      a generator of ours
    NAME.pt, NAME.pth                     a checkpoint of a public program (trainer.public_files)
    a model in another form               of its generator.safetensors

A save renames folders while we look: the file that was opened stays what it is, and is copied from the open file
before anything is made of it. What was exported is found again by the sha256 of the weights, without torch.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from engine import manifest
from engine.cache import Cache
from livetoon import __version__
from livetoon.errors import ModelError, UsageError
from livetoon.files import into_place, naming, sha256, user_folder, write_json

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

log = logging.getLogger(__name__)

EXPORTER = 2  # to be raised when the same weights give other graphs
AVERAGED = "ema.safetensors"
GENERATOR = "generator.safetensors"  # beside a model's graphs: what they were made of
PUBLIC = (".pt", ".pth")
CALIBRATION_CROPS, LEAST_CROPS = 64, 8  # at most, at least
MADE_OF = "made_of.json"  # of an export: what decided it
DIGEST_SIZE = 256  # px, of the crops that a digest is made of where the network is not opened
NEWEST = ("last", ".last.old")  # of RUN/checkpoints; between two renames of a save only the second is there
RENAMED_WITHIN_S, AGAIN_AFTER_S = 2.0, 0.02
KEPT = 2  # exports of one run in one form: the newest, and the one that a server may have just opened
LEFT_S = 24 * 3600  # an unfinished export that is older was killed
LICENCE = "that of the pictures which the model was trained on"


@dataclass(frozen=True)
class Weights:
    """A generator's file. source: where it lay; copy: what stays as it is; size: px of the run's crops, if known."""

    source: Path
    copy: Path
    size: int | None


@dataclass(frozen=True)
class Form:
    """How weights are to be exported.

    size: side S of a crop in px, None as they were trained. calibration: folders of crops for INT8 graphs; () for none.
    groups: that the network must know.
    """

    size: int | None = None
    calibration: Sequence[Path] = ()
    groups: Sequence[str] = ()


@dataclass(frozen=True)
class Exported:
    """A model folder, or the zoo name of one. network: in torch, where it was exported just now."""

    model: str | os.PathLike
    network: "nn.Module | None" = None


@dataclass(frozen=True)
class _MadeOf:
    """What decides an export. size: of the run's crops or as it is wanted; calibration: digest of the crops."""

    weights: str
    name: str
    size: int | None
    calibration: str | None
    exporter: int = EXPORTER
    livetoon: str = __version__


def playable(model: str | os.PathLike) -> str | os.PathLike:
    """`model` itself when it is in the zoo or a model folder; of a run, a checkpoint or a file the exported model.

    ModelError for a run without a checkpoint, for weights that are no generator, and when torch is needed for the
    export and missing. What is none of these is returned too: `manifest.find` has the words for it.
    """
    return exported(model).model


def exported(model: str | os.PathLike, form: Form = Form()) -> Exported:
    """As `playable`, in the form that is wanted; UsageError for a form that cannot be.

    A model folder is exported again, from the generator beside its graphs, where it has another form.
    """
    path, licence = Path(model), LICENCE
    if is_model(model):
        folder = manifest.find(model)
        described = manifest.read(folder)
        if not form.calibration and form.size in (None, described.size):
            return Exported(model)
        path, licence = folder / GENERATOR, described.licence
        if not path.is_file():
            option = "--calibration" if form.calibration else f"--size {form.size}"
            raise UsageError(
                f"{option}: model {described.name} is made anew for that, but no {GENERATOR} lies beside its graphs; "
                "give the run or checkpoint that it was exported from"
            )
    elif not is_trained(path):
        return Exported(model)
    with _opened(path) as (source, file):
        made_of = _made_of(path, source, file, form)
        folder = _folder(path, made_of, form)
        if _is_whole(folder):
            return Exported(folder)
        with Cache(folder.parent).lock(folder.name) as waited:
            if waited and _is_whole(folder):
                return Exported(folder)
            return Exported(folder, _make(folder, path, source, file, form, made_of, licence))


def is_model(model: str | os.PathLike) -> bool:
    """Whether it is a name in the zoo or a model folder."""
    named = isinstance(model, str) and model in manifest.zoo_names()
    return named or (Path(model) / manifest.NAME).is_file()


def calibration_crops(folders: Sequence[Path], size: int) -> "np.ndarray":
    """(N, size, size, 3) uint8 RGB; UsageError for a folder without pictures and for too few of them."""
    from calib.crops import read_crops

    crops = read_crops(folders, CALIBRATION_CROPS, size)
    if len(crops) < LEAST_CROPS:
        raise UsageError(
            f"--calibration: {len(crops)} pictures in {', '.join(map(str, folders))} are too few, expected "
            f"{LEAST_CROPS} or more; with {CALIBRATION_CROPS} from every group the ranges are sure"
        )
    return crops


@contextlib.contextmanager
def copied(model: str | os.PathLike) -> Iterator[Weights]:
    """The weights of a run, checkpoint folder or file, in a copy that lasts as long as the block."""
    with _opened(Path(model)) as (source, file), tempfile.TemporaryDirectory(prefix="livetoon-") as folder:
        yield _copy(source, file, Path(folder))


def is_trained(path: Path) -> bool:
    """Whether it looks like weights: a run, a checkpoint or a file of them."""
    if path.suffix in (".safetensors", *PUBLIC) or path.parent.name == "checkpoints":
        return True
    return any((path / name).exists() for name in ("checkpoints", "config.json", AVERAGED))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The file of weights and itself, opened; tried again while a save renames it."""
    until = time.monotonic() + RENAMED_WITHIN_S
    while True:
        for candidate in _candidates(path):
            try:
                file = open(candidate, "rb")  # noqa: SIM115 -- closed below, once it is known to be there
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ModelError(f"{candidate}: cannot be read ({error.strerror})") from None
            with file:
                yield candidate, file
            return
        if not _is_saving(path) or time.monotonic() > until:
            break
        time.sleep(AGAIN_AFTER_S)
    if (path / "config.json").exists() or (path / "checkpoints").exists():
        raise ModelError(
            f"{path}: the run has saved no checkpoint yet; it saves within minutes of its start, so try again then"
        )
    raise ModelError(
        f"{path}: no checkpoint; expected a run folder of trainer.run, a .safetensors file of ours, or a public "
        f"{' or '.join(PUBLIC)} file"
    )


def _is_saving(path: Path) -> bool:
    """Whether what is not there may be there in a moment."""
    return any(place.name == "checkpoints" and place.is_dir() for place in (path / "checkpoints", *path.parents))


def _candidates(path: Path) -> list[Path]:
    if path.suffix in (".safetensors", *PUBLIC):
        return [path]
    return [path / AVERAGED, *(path / "checkpoints" / name / AVERAGED for name in NEWEST)]


def _copy(source: Path, file: BinaryIO, folder: Path) -> Weights:
    if source.suffix in PUBLIC:  # no run writes them, their names tell what is in them, and some hold gigabytes
        return Weights(source, source, None)
    copy = folder / AVERAGED
    file.seek(0)
    with naming(copy), open(copy, "wb") as written:
        shutil.copyfileobj(file, written, 1 << 20)
    return Weights(source, copy, _run_size(source))


def _run_size(source: Path) -> int | None:
    """Side of a crop by the description of the run in which `source` lies: RUN/checkpoints/NAME/ema.safetensors."""
    run = source.resolve().parents[2] if len(source.resolve().parents) > 2 else source.parent
    try:
        size = json.loads((run / "config.json").read_text(encoding="utf-8"))["preset"]["size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if type(size) is int else None


def _name(path: Path) -> str:
    """What the model is called: its run, with the checkpoint where it is not the newest."""
    path = path.resolve()
    if path.name == GENERATOR:
        return path.parent.name
    if path.suffix in (".safetensors", *PUBLIC):
        return path.stem
    if path.parent.name == "checkpoints":
        return path.parents[1].name if path.name in NEWEST else f"{path.parents[1].name}-{path.name}"
    return path.name


def _made_of(path: Path, source: Path, file: BinaryIO, form: Form) -> _MadeOf:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = form.size or _run_size(source)
    calibration = None
    if form.calibration:
        crops = calibration_crops(form.calibration, size or DIGEST_SIZE)
        calibration = hashlib.sha256(crops.tobytes()).hexdigest()
    return _MadeOf(digest, _name(path), size, calibration)


def _folder(path: Path, made_of: _MadeOf, form: Form) -> Path:
    """Where the export of exactly these weights in this form lies, or will."""
    key = hashlib.sha256(json.dumps(asdict(made_of)).encode()).hexdigest()[:16]
    return user_folder() / "runs" / f"{_prefix(path, form)}{key}"


def _prefix(path: Path, form: Form) -> str:
    name = re.sub(r"[^\w.-]", "_", _name(path))
    side = f"{form.size}px" if form.size else "trained"
    return f"{name}-{manifest.place_of(path)}-{side}{'-int8' if form.calibration else '-float'}-"


def _is_whole(folder: Path) -> bool:
    try:
        return all(sha256(folder / name) == known for name, known in manifest.read(folder).files.items())
    except (ModelError, OSError):
        return False


def _make(
    folder: Path, path: Path, source: Path, file: BinaryIO, form: Form, made_of: _MadeOf, licence: str
) -> "nn.Module":
    """Export the weights to `folder`, which appears whole; exports of older checkpoints go. Returns the network."""
    try:
        from engine.export import export, load, side_of
    except ModuleNotFoundError as error:
        raise ModelError(
            f'{path}: a trained model must be exported once, which needs {error.name}: pip install ".[train]" in '
            f"livetoon's folder, or run python -m engine.export {path} OUT_DIR where it was trained and give OUT_DIR"
        ) from error
    log.info("%s: exporting %s, %s", made_of.name, source, _reason(folder, _prefix(path, form), made_of))
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".export-*"):
        if time.time() - left.stat().st_mtime > LEFT_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as made:
        made = Path(made)
        weights = _copy(source, file, made)
        generator = load(weights, form.size)
        size = form.size or side_of(generator, weights)
        if unknown := [group for group in form.groups if group not in generator.groups]:
            raise UsageError(f"--groups {unknown[0]}: {source} has {', '.join(generator.groups)}")
        crops = calibration_crops(form.calibration, size) if form.calibration else None
        described = made / "model"
        export(generator, described, made_of.name, size, licence=licence, calibration=crops, report=log.info)
        write_json(described / MADE_OF, asdict(made_of))
        into_place(described, folder, lambda: _is_whole(folder))
    _remove_older(folder, _prefix(path, form))
    return generator


def _reason(folder: Path, prefix: str, made_of: _MadeOf) -> str:
    """Why there is no export yet: for the log."""
    earlier = max(folder.parent.glob(f"{prefix}*"), key=lambda each: each.stat().st_mtime, default=folder)
    try:
        known = json.loads((earlier / MADE_OF).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "once for each checkpoint"
    changed = [field for field, value in asdict(made_of).items() if known.get(field) != value]
    return f"of another {', '.join(changed)} than before" if changed else "what was there is not whole"


def _remove_older(newest: Path, prefix: str) -> None:
    """Keep the newest exports of a run; the others go with the engines compiled from them."""
    others = [each for each in newest.parent.glob(f"{prefix}*") if each != newest]
    for old in sorted(others, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        for engine in user_folder().glob(f"*-{manifest.place_of(old)}*.cache"):
            engine.unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
