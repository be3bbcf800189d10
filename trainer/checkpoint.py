"""Checkpoints: tensors as safetensors, the rest as JSON, whole or not there; and generators read from them.

    RUN/checkpoints/last/  generator.safetensors  ema.safetensors  ...  one file for each network and each optimizer
                           extra.safetensors      state.json

A folder is written beside its place and renamed, so that a run that is killed while it saves loses nothing.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from livetoon.errors import ModelError, TrainingError
from trainer.networks import build

GO_ON = "what was saved before is kept; go on from it in another --out with --init RUN and a lower --set learning_rate"
VERSION = 2  # 1 knew one optimizer and no extra tensors


@dataclass
class Parts:
    """What changes while a model learns, each under the name of its file."""

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    extra: dict[str, Tensor] = field(default_factory=dict)


def save(folder: Path, parts: Parts, state: dict) -> None:
    """Write a whole checkpoint folder; the one before it stays until this one is complete.

    state: what JSON can hold, `stage` and `step` among it. ModelError when it cannot be written, TrainingError when a
    weight is no number any more: a finite loss may have had a gradient that was not.
    """
    for name, network in parts.networks.items():
        if not all(value.isfinite().all() for value in network.state_dict().values()):
            raise TrainingError(f"weights of `{name}` are no numbers: {GO_ON}")
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # a kill came between the two renames below
        old.rename(folder)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    rest = {}
    try:
        new.mkdir(parents=True)
        for name, network in parts.networks.items():
            save_generator(new / f"{name}.safetensors", network)
        for name, optimizer in parts.optimizers.items():
            tensors, rest[name] = _flatten(optimizer.state_dict())
            save_file(tensors, new / f"{name}.safetensors")
        if parts.extra:
            save_file({name: value.contiguous() for name, value in parts.extra.items()}, new / "extra.safetensors")
        text = json.dumps({"version": VERSION, "optimizers": rest, "extra": sorted(parts.extra), **state}, indent=2)
        (new / "state.json").write_text(text, encoding="utf-8")
        for path in new.iterdir():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
    except (SafetensorError, OSError) as error:
        shutil.rmtree(new, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelError(
            f"{folder}: cannot be saved ({reason}); what was saved before is kept: make room and add --resume"
        ) from None
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore(folder: Path, parts: Parts) -> dict:
    """Load a checkpoint into `parts` and return its state; ModelError names the file that is broken."""
    state = read_state(folder)
    for name, network in parts.networks.items():
        path = folder / f"{name}.safetensors"
        _fill(network, _tensors(path), path)
    for name, optimizer in parts.optimizers.items():
        path = folder / f"{name}.safetensors"
        tensors = _tensors(path)
        try:
            optimizer.load_state_dict(_unflatten(tensors, state["optimizers"][name]))
            _follow_layout(optimizer)
        except (KeyError, TypeError, ValueError):
            raise ModelError(f"{path}: not the optimizer's state of this checkpoint") from None
    path = folder / "extra.safetensors"
    parts.extra = _tensors(path) if state.get("extra") else {}
    if sorted(parts.extra) != state.get("extra", []):
        raise ModelError(f"{path}: not the tensors of this checkpoint")
    return state


def read_state(folder: Path) -> dict:
    """The JSON part of a checkpoint folder."""
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        version = state["version"]
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; not a whole checkpoint") from None
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{path}: not the state of a checkpoint") from None
    if version == 1 and "optimizer" in state:
        state["optimizers"] = {"optimizer": state.pop("optimizer")}
    elif version not in (1, VERSION):
        raise ModelError(f"{path}: checkpoint version {version}, expected {VERSION}")
    if version and not all(type(state.get(name)) is int and state[name] >= 0 for name in ("stage", "step")):
        raise ModelError(f"{path}: stage and step are no numbers; not the state of a checkpoint")
    if missing := {"stage", "step", "optimizers"} - state.keys():
        raise ModelError(f"{path}: not a whole checkpoint, {', '.join(sorted(missing))} is missing")
    return state


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, None before the first; after a kill between two renames it is the one
    set aside."""
    for name in ("last", ".last.old"):
        if (run / "checkpoints" / name / "state.json").exists():
            return run / "checkpoints" / name
    return None


def save_generator(path: Path, generator: nn.Module) -> None:
    """Weights of a network, with what is needed to build it again in the file's metadata."""
    metadata = {"network": generator.network_name, "settings": json.dumps(generator.settings)}
    save_file({key: value.contiguous() for key, value in generator.state_dict().items()}, path, metadata)


def load_generator(path: str | os.PathLike) -> nn.Module:
    """A generator in eval mode, from a run folder, a checkpoint folder (averaged weights) or a .safetensors file."""
    path = Path(path)
    if path.is_dir():
        folder = path if (path / "ema.safetensors").exists() else latest(path)
        if folder is None:
            raise ModelError(
                f"{path}: no checkpoint in it; expected a run folder of trainer.run or a .safetensors file"
            )
        path = folder / "ema.safetensors"
    return load_network(path)


def load_network(path: Path) -> nn.Module:
    """Any network of ours in eval mode, from the .safetensors file that describes it."""
    tensors = _tensors(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "settings" in metadata:
        network = build(metadata["network"], **json.loads(metadata["settings"]))
    elif "mid.0.b.0.0.weight" in tensors:
        network = build("live-dense", groups=["young-women"])  # the published baseline file names no settings
    else:
        raise ModelError(f"{path}: its metadata names no network; it was not written by livetoon")
    _fill(network, tensors, path)
    return network.float().eval()


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a safetensors file that can be read ({error})") from None


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:  # its many lines name every tensor: --debug shows them
        raise ModelError(f"{path}: does not fit network {network.network_name} {network.settings}") from error


def _flatten(state: dict) -> tuple[dict[str, Tensor], dict]:
    slots = state["state"].items()
    tensors = {f"{index}.{name}": value.contiguous() for index, slot in slots for name, value in slot.items()}
    return tensors, state["param_groups"]


def _follow_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay each moment out in memory as its parameter is (files hold them contiguous): fused optimizers walk both side
    by side and would mix them up. ValueError where one is of another shape."""
    for parameter, slot in optimizer.state.items():
        for name, value in slot.items():
            if name != "step":
                if value.shape != parameter.shape:
                    raise ValueError(f"{name} is {tuple(value.shape)}, expected {tuple(parameter.shape)}")
                slot[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _unflatten(tensors: dict[str, Tensor], groups: list[dict]) -> dict:
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        slots.setdefault(int(index), {})[name] = value
    return {"state": slots, "param_groups": groups}
