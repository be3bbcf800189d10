"""A training run as a model: its newest whole checkpoint, exported once and kept in the user's cache folder.

    RUN                                   a run of trainer.run, also one that goes on: its newest checkpoint
    RUN/checkpoints/best, any folder      with the averaged weights, ema.safetensors
    NAME.safetensors                      a generator of ours

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine import manifest
from livetoon import __version__
from livetoon.errors import ModelError
from livetoon.files import naming, sha256, user_folder

log = logging.getLogger(__name__)

EXPORTER = 2  # to be raised when the same weights give other graphs
AVERAGED = "ema.safetensors"
NEWEST = ("last", ".last.old")  # of RUN/checkpoints; between two renames of a save only the second is there
RENAMED_WITHIN_S, AGAIN_AFTER_S = 2.0, 0.02
KEPT = 2  # exports of one run: the newest, and the one that a server may have just opened
LEFT_S = 24 * 3600  # an unfinished export that is older was killed
LICENCE = "that of the pictures which the model was trained on"


@dataclass(frozen=True)
class Weights:
    """A generator's file. source: where it lay; copy: what stays as it is; size: px of the run's crops, if known."""

    source: Path
    copy: Path
    size: int | None


def playable(model: str | os.PathLike) -> str | os.PathLike:
    """`model` itself when it is in the zoo or a model folder; of a run, a checkpoint or a file the exported model.

    ModelError for a run without a checkpoint, for weights that are no generator, and when torch is needed for the
    export and missing. What is none of these is returned too: `manifest.find` has the words for it.
    """
    path = Path(model)
    if str(model) in manifest.zoo_names() or (path / manifest.NAME).is_file() or not _is_trained(path):
        return model
    with _opened(path) as (source, file):
        folder = _folder(path, source, file)
        if not _is_whole(folder):
            _make(folder, path, source, file)
    return folder


@contextlib.contextmanager
def copied(model: str | os.PathLike) -> Iterator[Weights]:
    """The weights of a run, checkpoint folder or file, in a copy that lasts as long as the block."""
    with _opened(Path(model)) as (source, file), tempfile.TemporaryDirectory(prefix="livetoon-") as folder:
        yield _copy(source, file, Path(folder))


def _is_trained(path: Path) -> bool:
    if path.suffix == ".safetensors" or path.parent.name == "checkpoints":
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
    raise ModelError(f"{path}: no checkpoint; expected a run folder of trainer.run, or a .safetensors file of ours")


def _is_saving(path: Path) -> bool:
    """Whether what is not there may be there in a moment."""
    return any(place.name == "checkpoints" and place.is_dir() for place in (path / "checkpoints", *path.parents))


def _candidates(path: Path) -> list[Path]:
    if path.suffix == ".safetensors":
        return [path]
    return [path / AVERAGED, *(path / "checkpoints" / name / AVERAGED for name in NEWEST)]


def _copy(source: Path, file: BinaryIO, folder: Path) -> Weights:
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
    if path.suffix == ".safetensors":
        return path.stem
    if path.parent.name == "checkpoints":
        return path.parents[1].name if path.name in NEWEST else f"{path.parents[1].name}-{path.name}"
    return path.name


def _folder(path: Path, source: Path, file: BinaryIO) -> Path:
    """Where the export of exactly these weights lies, or will."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    made_of = [digest, _name(path), _run_size(source), EXPORTER, __version__]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    return user_folder() / "runs" / f"{_prefix(path)}{key}"


def _prefix(path: Path) -> str:
    name = re.sub(r"[^\w.-]", "_", _name(path))
    return f"{name}-{manifest.place_of(path)}-"


def _is_whole(folder: Path) -> bool:
    try:
        return all(sha256(folder / name) == known for name, known in manifest.read(folder).files.items())
    except (ModelError, OSError):
        return False


def _make(folder: Path, path: Path, source: Path, file: BinaryIO) -> None:
    """Export the weights to `folder`, which appears whole; exports of older checkpoints go."""
    try:
        from engine.export import export, load, side_of
    except ModuleNotFoundError as error:
        raise ModelError(
            f'{path}: a trained model must be exported once, which needs {error.name}: pip install ".[train]" in '
            f"livetoon's folder, or run python -m engine.export {path} OUT_DIR where it was trained and give OUT_DIR"
        ) from error
    log.info("%s: exporting %s, once for each checkpoint", _name(path), source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".export-*"):
        if time.time() - left.stat().st_mtime > LEFT_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as made:
        made = Path(made)
        weights = _copy(source, file, made)
        generator = load(weights)
        described = made / "model"
        export(generator, described, _name(path), side_of(generator, weights), licence=LICENCE, report=log.info)
        shutil.rmtree(folder, ignore_errors=True)  # what was there is not whole
        try:
            described.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else another start has made it meanwhile
                raise
    _remove_older(folder, _prefix(path))


def _remove_older(newest: Path, prefix: str) -> None:
    """Keep the newest exports of a run; the others go with the engines compiled from them."""
    others = [each for each in newest.parent.glob(f"{prefix}*") if each != newest]
    for old in sorted(others, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        for engine in user_folder().glob(f"*-{manifest.place_of(old)}*.cache"):
            engine.unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
