"""What is measured: a model folder with an INT8 graph where there can be one, and its network for PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from torch import nn

from benchmarks import photo2cartoon
from benchmarks.contenders import Subject
from benchmarks.eager import eager_network
from engine import from_run, manifest
from engine.export import load
from engine.proof import astronaut_crops
from livetoon.errors import ModelError, UsageError
from livetoon.files import replacing, user_folder
from trainer.checkpoint import load_network, save_generator
from trainer.networks import build

PHOTO2CARTOON, DENSE = "photo2cartoon-light", "live-dense"
CALIBRATING, CALIBRATING_SEED = 32, 7  # crops, of one face alike enough; not those that are judged
CROP_SIZE = 256  # px, of the crops on disk


def opened(model: str, scratch: Path, calibration: Sequence[Path] | None) -> Subject:
    """A zoo name, "photo2cartoon-light", a model folder, a run, a checkpoint, or a file of ours or of a public program.

    scratch: a folder of this run for the weights. calibration: folders of crops for INT8 of what is exported now, None
    for none. What was exported is found again next time.
    """
    path = photo2cartoon.WEIGHTS if model == PHOTO2CARTOON else Path(model)
    if from_run.is_model(model):
        folder = manifest.find(model)
        return _subject(folder, _network_of(folder), scratch)
    if not from_run.is_trained(path):
        manifest.find(model)  # has the words for what is no model
    with from_run.copied(path) as weights:
        network = load(weights)
    folder, without_int8 = _exported(path, calibration)
    return _subject(folder, network, scratch, without_int8)


def dense(scratch: Path) -> Subject:
    """The first design of the live generator, with random weights: time does not depend on them, INT8 would."""
    path = _kept(f"{DENSE}.safetensors")
    if not path.is_file():
        torch.manual_seed(0)
        with replacing(path) as temporary:
            save_generator(temporary, build(DENSE, groups=["everyone"]).eval())
    return opened(str(path), scratch, None)


def astronaut_folder() -> Path:
    """Crops of the astronaut to calibrate with, others than those that are judged, written once."""
    folder = _kept(f"astronaut-{CROP_SIZE}")
    folder.mkdir(exist_ok=True)
    for place, crop in enumerate(astronaut_crops(CALIBRATING, CROP_SIZE, CALIBRATING_SEED)):
        path = folder / f"{place:02}.png"
        if not path.is_file():
            with replacing(path) as temporary:
                cv2.imwrite(str(temporary), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    return folder


def _kept(name: str) -> Path:
    folder = user_folder() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _exported(path: Path, calibration: Sequence[Path] | None) -> tuple[Path, str | None]:
    """Model folder, and why it has no INT8 graph."""
    if calibration is None:
        return Path(from_run.exported(path).model), None
    try:
        return Path(from_run.exported(path, from_run.Form(calibration=calibration)).model), None
    except ModelError as error:  # INT8 misses its bar, as with weights that were never trained; anything else shows now
        return Path(from_run.exported(path).model), str(error)


def _network_of(folder: Path) -> nn.Module:
    """The network of a model folder with the weights of its graphs, or where they cannot be read back from those, with
    the ones that lie beside them."""
    try:
        return eager_network(folder)
    except ModelError as error:
        if (folder / from_run.GENERATOR).is_file():
            return load_network(folder / from_run.GENERATOR)
        raise UsageError(
            f"--model {folder}: PyTorch cannot run it as it was trained ({error}); give the run, checkpoint or file "
            "that it was exported from"
        ) from error


def _subject(folder: Path, network: nn.Module, scratch: Path, without_int8: str | None = None) -> Subject:
    described = manifest.read(folder)
    weights = scratch / f"{described.name}.safetensors"
    save_generator(weights, network)
    return Subject(
        described.name,
        described.network,
        folder.absolute(),
        weights,
        described.groups[0],
        described.size,
        described.alpha,
        without_int8,
    )
