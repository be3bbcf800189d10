"""Public checkpoint files, read into our networks and written from them; what a file holds is told by its keys.

    U-GAT-IT family   one .pt: genA2B, genB2A, disGA, disGB, disLA, disLB, each a state_dict (a released file may hold
                      genA2B alone); U-GAT-IT, photo2cartoon, few-shot, Face2Webtoon, keypoint project
    ECE285            one .pt: G_12_state_dict, G_21_..., D_1_..., D_2_... beside optimizers and losses
    one network       a bare state_dict: CycleGAN's <epoch>_net_G_A.pth and so on, MobileFaceNet, keypoint predictor

A is the photo's side (ECE285: 1), B the cartoon's (2). Networks are known here by the names of their files in our
checkpoints (`PLACES`). Public programs read pickled dicts of tensors and nothing else, so here, and nowhere else in
livetoon, torch.save writes such dicts; torch_files.py reads them and runs no code.
"""

import itertools
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from livetoon.errors import ModelError, UsageError
from livetoon.files import replacing
from trainer import checkpoint, torch_files
from trainer.group_names import check_names
from trainer.identity_files import network_of
from trainer.networks import build
from trainer.presets import FEW_SHOT_OWN
from trainer.public_keys import discriminator_settings, generator_settings, our_state, public_state

FAMILY = {
    "genA2B": "generator",
    "genB2A": "back",
    "disGA": "photo_global",
    "disGB": "cartoon_global",
    "disLA": "photo_local",
    "disLB": "cartoon_local",
}
ECE285 = {
    "G_12_state_dict": "generator",
    "G_21_state_dict": "back",
    "D_1_state_dict": "photo_patch",
    "D_2_state_dict": "cartoon_patch",
}
CYCLEGAN = {
    "G_A": "generator",
    "G_B": "back",
    "D_A": "cartoon_patch",
    "D_B": "photo_patch",
}  # D_A judges what G_A draws
PLACES = (*FAMILY.values(), "photo_patch", "cartoon_patch", "keypoints", "identity")
AVERAGED = {"generator": "ema", "back": "ema_back"}  # a run's weights to draw with
KEYPOINT_SIZE = 178  # the keypoint project's pictures, px

Networks = dict[str, nn.Module]  # place -> network


def read(path: Path, groups: Sequence[str] | None = None, size: int | None = None) -> Networks:
    """The networks of a public file, or of a run, checkpoint folder or .safetensors file of ours.

    groups: names for the groups of a public file, in its order. size: side of its pictures in px where the weights do
    not tell it (default 256, the keypoint project's 178). ModelError, one sentence, for a file that is broken, holds
    code, or whose networks are unknown or do not belong together.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        if groups or size:
            raise UsageError(f"--groups, --size: {path} tells its own; they are for public files")
        return _ours(path)
    check_names(groups or ())
    content = torch_files.read(path)
    networks = {}
    for name, (place, tensors) in _state_dicts(content, path).items():
        network = _network(tensors, f"{path}: {name}" if name else str(path), groups, size)
        networks[place or _place_of(network, str(path))] = network
    if (groups or size) and not {"generator", "back"} & networks.keys():
        option = "--groups" if groups else "--size"
        raise UsageError(f"{option}: has no effect, {path} holds no generator; leave it out")
    _check_together(networks, path)
    return networks


def write_folder(networks: Networks, folder: Path) -> None:
    """One .safetensors file for each network, and `ema` beside the generator, so that the folder opens as a model.

    What else lies in `folder` stays. ModelError when a run writes there or the disk refuses; nothing is half written.
    """
    if any((folder / name).exists() for name in ("state.json", "config.json", "checkpoints")):
        raise ModelError(f"{folder}: a run saves there; name another folder")
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        for place, network in networks.items():
            checkpoint.save_generator(new / f"{place}.safetensors", network)
        if "generator" in networks:
            _link(new / "generator.safetensors", new / "ema.safetensors")
        for file in new.iterdir():
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())
        if not folder.exists():
            new.rename(folder)
            return
        for file in new.iterdir():
            file.replace(folder / file.name)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder}: cannot be written ({_reason(error)})") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_public(networks: Networks, path: Path) -> list[Path]:
    """The same networks in their public format at `path` (.pt or .pth); the files written.

    CycleGAN keeps one file for each network: several become PATH_net_G_A.pth and so on. So does a keypoint predictor
    or MobileFaceNet that stands beside others. ModelError where the format has no place for a network.
    """
    files: dict[Path, dict] = {}
    together: dict[str, dict[str, Tensor]] = {}
    for place, network in networks.items():
        state = _public(place, network)
        family, name = _public_place(place, network)
        if family:
            together[name] = state
        else:
            files[path if len(networks) == 1 else path.with_name(f"{path.stem}_{name}{path.suffix}")] = state
    if together:
        files[path] = together
    for file, content in files.items():
        try:
            with replacing(file) as temporary:
                torch.save(content, temporary)
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{file}: cannot be written ({_reason(error)})") from None
    return list(files)


# Reading.


def _ours(path: Path) -> Networks:
    if path.is_file():
        network = checkpoint.load_network(path)
        place = path.stem if path.stem in PLACES else _place_of(network, str(path))
        return {place: network}
    if not path.is_dir():
        raise ModelError(f"{path}: no such file or folder")
    folder = checkpoint.latest(path) or path
    networks = {}
    for place in PLACES:
        files = [folder / f"{name}.safetensors" for name in (AVERAGED.get(place), place) if name]
        if file := next((file for file in files if file.exists()), None):
            networks[place] = checkpoint.load_network(file)
    if not networks:
        raise ModelError(f"{path}: no checkpoint in it; expected a run or a folder with generator.safetensors")
    _check_together(networks, path)
    return networks


def _state_dicts(content: object, path: Path) -> dict[str, tuple[str | None, dict[str, Tensor]]]:
    """Name in the file (none of a bare state_dict) -> where the network belongs, if that is told, and its tensors."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ModelError(f"{path}: holds no dictionary of weights by name")
    if FAMILY.keys() & content.keys():
        places, besides = FAMILY, r"(?!)"
    elif ECE285.keys() & content.keys():
        places, besides = ECE285, r"epoch|.*_opt_state_dict|loss.*"
    else:
        _check_tensors(content, path, "it")
        found = re.search(r"_net_([GD]_[AB])$", path.stem)
        return {"": (CYCLEGAN[found[1]] if found else None, dict(content))}
    if unknown := sorted(key for key in content.keys() - places.keys() if not re.fullmatch(besides, key)):
        raise ModelError(f"{path}: {unknown[0]} is unknown; expected {', '.join(places)}")
    for name in places.keys() & content.keys():
        _check_tensors(content[name], path, name)
    return {name: (place, content[name]) for name, place in places.items() if name in content}


def _check_tensors(tensors: object, path: Path, name: str) -> None:
    if not isinstance(tensors, Mapping) or not tensors:
        raise ModelError(f"{path}: {name} holds no weights")
    for key, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise ModelError(f"{path}: {key} of {name} is no tensor")


def _network(tensors: dict[str, Tensor], source: str, groups: Sequence[str] | None, size: int | None) -> nn.Module:
    """A network in eval mode that holds `tensors` themselves; only its plan is built."""
    if "conv1.conv.weight" in tensors or "gdconv.depthwise.weight" in tensors:
        return network_of(tensors, source).eval()
    try:
        name, settings = describe({key: value.shape for key, value in tensors.items()}, groups, size)
        with torch.device("meta"):
            network = build(name, **settings)
        network.load_state_dict(our_state(network, tensors, source), assign=True)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ModelError(f"{source}: a network's keys, but not whole ({error})") from None
    except ModelError as error:
        raise ModelError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None
    return network.eval()


def describe(
    shapes: Mapping[str, Sequence[int]], groups: Sequence[str] | None = None, size: int | None = None
) -> tuple[str, dict]:
    """Name and settings of the network with these published keys; ModelError when there is none, KeyError when one
    that tells a setting is missing, UsageError for a `size` that the network cannot draw."""
    if "fc3.weight" in shapes and "conv1.weight" in shapes:
        maps = shapes["fc1.weight"][1] // shapes["conv2.weight"][0]
        return "keypoints", {"size": (round(maps**0.5) * 2 + 4) * 2 + 4}
    if any(key in shapes for key in ("model.1.weight_orig", "model.0.weight")) or any(
        key.startswith("discriminator_block.") for key in shapes
    ):
        return discriminator_settings(shapes)
    usual = KEYPOINT_SIZE if "UpBlock2.1.weight" in shapes else 256
    name, settings = generator_settings(shapes, size or usual, groups)
    settings.setdefault("size", size or usual)
    if size and settings["size"] != size:
        raise ModelError(f"a full network for {settings['size']} px; leave --size {size} out")
    if size:
        _check_size(size, name, settings)
    if groups and len(groups) != len(settings["groups"]):
        raise ModelError(f"{len(settings['groups'])} groups, but {len(groups)} names in --groups")
    return name, settings


def _check_size(size: int, name: str, settings: dict) -> None:
    step = 16 if name == "photo2cartoon" else 4
    pads = settings.get("keypoint_pads", False)
    least = 32 if name == "photo2cartoon" else 10 if pads else 8
    if size < least or size % step != (2 if pads else 0):
        expected = "4k + 2" if pads else f"a multiple of {step}"
        raise UsageError(f"--size {size}: network {name} draws no such side; expected {expected}, at least {least}")


def _place_of(network: nn.Module, source: str) -> str:
    """Where a network belongs whose file does not say so."""
    kind = _kind(network)
    if kind == "judge":
        raise ModelError(f"{source}: a discriminator; its file's name must say of what (latest_net_D_A.pth)")
    return kind


def _kind(network: nn.Module) -> str:
    kinds = {"discriminator": "judge", "patchgan": "judge", "keypoints": "keypoints"}
    return "identity" if "mobilefacenet" in network.network_name else kinds.get(network.network_name, "generator")


def _check_together(networks: Networks, path: Path) -> None:
    """ModelError unless both generators are alike and the discriminators are of one width and, by pairs, one depth."""

    def alike(places: Sequence[str], settings: Sequence[str]) -> None:
        held = [place for place in places if place in networks]
        for first, second in itertools.pairwise(held):
            one, two = networks[first], networks[second]
            for name in ("network", *settings):
                values = [net.network_name if name == "network" else net.settings.get(name) for net in (one, two)]
                if values[0] != values[1]:
                    raise ModelError(f"{path}: {first} has {name} {values[0]}, {second} {values[1]}: not one model's")

    if generator := networks.get("generator"):
        alike(("generator", "back"), list(generator.settings))
    judges = [place for place in PLACES if place.startswith(("photo_", "cartoon_"))]
    alike(judges, ["width"])
    for depth in ("global", "local"):
        alike([f"photo_{depth}", f"cartoon_{depth}"], ["layers"])
    for place, network in networks.items():
        kinds = {"generator": "generator", "back": "generator", "keypoints": "keypoints", "identity": "identity"}
        if _kind(network) != kinds.get(place, "judge"):
            raise ModelError(f"{path}: {place} holds a {network.network_name} network")


# Writing.


def _public(place: str, network: nn.Module) -> dict[str, Tensor]:
    name, settings = network.network_name, network.settings
    if name.startswith("live"):
        raise ModelError(f"{place}: the {name} network is livetoon's own, no public format knows it")
    several, own = settings.get("heads", 1) > 1, set(settings.get("own", ()))
    branched = several or (own and len(settings["groups"]) > 1)
    few_shot = branched and name == "photo2cartoon" and own == set(FEW_SHOT_OWN)
    if branched and not few_shot:
        raise ModelError(
            f"{place}: no public format has branches of these parts ({', '.join(sorted(own)) or 'CAM heads alone'}); "
            f"the few-shot release has {', '.join(FEW_SHOT_OWN)} on photo2cartoon"
        )
    state = {key: value.detach().contiguous() for key, value in public_state(network).items()}
    return _with_rows(state, len(settings["groups"])) if few_shot and not several else state


def _with_rows(state: dict[str, Tensor], groups: int) -> dict[str, Tensor]:
    """The few-shot release's CAM heads have a row for each group: here all are the one that the groups share, so that
    every branch draws the same."""
    made = {}
    for key, value in state.items():
        head, _, kind = key.partition(".")
        if head in ("gap_fc", "gmp_fc"):
            key, value = f"{head}_new.{kind}", value.repeat_interleave(groups, dim=0)
        made[key] = value
    return made


def _public_place(place: str, network: nn.Module) -> tuple[bool, str]:
    """Whether it stands in one dictionary with others, and its name there or behind its file's name."""
    if place in ("keypoints", "identity"):
        return False, place
    if network.network_name in ("cyclegan", "patchgan"):
        together = network.settings["variant"] == "ece285"
        names = {ours: name for name, ours in (ECE285 if together else CYCLEGAN).items()}
        return together, names[place] if together else f"net_{names[place]}"
    return True, {ours: name for name, ours in FAMILY.items()}[place]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _reason(error: Exception) -> object:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]
