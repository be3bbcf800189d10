"""What lies in a model folder: `model.json`, a `<group>.onnx` per group, one `weights.bin` for all of them.

A model that was calibrated has a `<group>.int8.onnx` per group too.

`model.json` names every file with its sha256. A runner is opened from files that match it, or not at all.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from livetoon.errors import ModelError, UsageError
from livetoon.files import sha256, write_json

ZOO = Path(__file__).parent / "zoo"
NAME = "model.json"
WEIGHTS = "weights.bin"
CARD = "MODEL_CARD.md"  # beside them; a person writes it
VERSION = 1
RESTORE = "export the model again, or restore the file from the repository"


@dataclass(frozen=True)
class Manifest:
    """`model.json`.

    network, settings: what trainer.networks builds it from. groups: the first is the basic one.
    size: side S of a crop in px. batch: crops per call, None = any number.
    files: name -> sha256. nodes: graph -> operations in it. precisions: those that have graphs. alpha: whether the
    network draws its own; without, alpha is 255 everywhere. traced_nodes: graph -> operators of the network in torch.
    int8: group -> `share` of the convolutions' work that is int8, and `kept`, the convolutions that are not. own_lines:
    whether its drawings lie on the photo line on line, so that they can take a share of the person's own.
    """

    name: str
    network: str
    settings: Mapping[str, object]
    groups: tuple[str, ...]
    size: int
    batch: int | None
    licence: str
    files: Mapping[str, str]
    nodes: Mapping[str, int]
    precisions: tuple[str, ...] = ("fp32",)
    alpha: bool = True
    traced_nodes: Mapping[str, int] = field(default_factory=dict)
    int8: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    own_lines: bool = True

    def write(self, folder: Path) -> None:
        write_json(folder / NAME, {"version": VERSION, **asdict(self)})

    def batches(self, wanted: tuple[int, ...], said: str) -> tuple[int, ...]:
        """`wanted`, or the one size that the graphs take where that is all that is wanted.

        UsageError, which begins with `said`, for sizes that they do not take.
        """
        if self.batch is None:
            return wanted
        if wanted not in ((1,), (self.batch,)):
            raise UsageError(
                f"{said}: model {self.name} was exported for {self.batch} crops a call and takes no other number; "
                "export it without --batch"
            )
        return (self.batch,)


@dataclass(frozen=True)
class ModelFiles:
    """One group of one model, checked: what a backend opens."""

    folder: Path
    manifest: Manifest
    group: str

    def graph(self, precision: str) -> Path:
        """The graph to run in `precision`: "int8" has its own, every other comes from the float32 one."""
        return self.folder / graph_name(self.group, precision)

    def digest(self, precision: str) -> str:
        """sha256 over the sha256 of graph and weights: the same wherever the folder lies."""
        names = (graph_name(self.group, precision), WEIGHTS)
        return hashlib.sha256("".join(self.manifest.files[name] for name in names).encode()).hexdigest()

    @property
    def place(self) -> str:
        """Tells folders apart in the names of cache slots."""
        return place_of(self.folder)


def place_of(path: Path) -> str:
    """Eight hex digits that tell this path from every other."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]


def graph_name(group: str, precision: str = "fp32") -> str:
    """File name of a group's graph for `precision`."""
    return f"{group}.int8.onnx" if precision == "int8" else f"{group}.onnx"


def zoo_names() -> list[str]:
    """Models that came with livetoon, sorted."""
    return sorted(folder.parent.name for folder in ZOO.glob(f"*/{NAME}"))


def find(model: str | os.PathLike) -> Path:
    """The folder of `model`: a name in the zoo, or a folder that holds a `model.json`."""
    if isinstance(model, str) and model in zoo_names():
        return ZOO / model
    folder = Path(model)
    if (folder / NAME).is_file():
        return folder
    if folder.is_dir():
        raise ModelError(f"{folder}: no {NAME} in it; make one with python -m engine.export CHECKPOINT {folder}")
    raise ModelError(
        f"model {str(model)!r}: neither a folder nor one of the models that came with livetoon "
        f"({', '.join(zoo_names()) or 'none'})"
    )


def read_fields(path: Path, known_version: int) -> dict[str, object]:
    """What a description in JSON says but its version; ModelError for a newer one. What json.loads raises, and KeyError
    or AttributeError, for what is none."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    version = fields.pop("version")
    if version != known_version:
        raise ModelError(f"{path}: version {version}, this livetoon reads version {known_version}; update livetoon")
    return fields


def check_file(path: Path, known: str, listed_in: str, remedy: str) -> None:
    """ModelError when `path` is missing, or its sha256 is not the `known` one that the file `listed_in` lists."""
    if not path.is_file():
        raise ModelError(f"{path}: missing; {remedy}")
    if sha256(path) != known:
        raise ModelError(f"{path}: altered or cut short (its sha256 is not the one in {listed_in}); {remedy}")


def read(folder: Path) -> Manifest:
    """`model.json` of `folder`; ModelError when it is missing, broken or of a newer version."""
    path = folder / NAME
    try:
        manifest = Manifest(**read_fields(path, VERSION))
        manifest = replace(manifest, groups=tuple(manifest.groups), precisions=tuple(manifest.precisions))
        _check_types(manifest)
    except FileNotFoundError:
        raise ModelError(f"{path}: missing; {RESTORE}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a model description ({error}); {RESTORE}") from None
    for name in (WEIGHTS, *(graph_name(group, each) for group in manifest.groups for each in manifest.precisions)):
        if name not in manifest.files or Path(name).name != name:
            raise ModelError(f"{path}: lists no hash for {name}; {RESTORE}")
    if not manifest.groups:
        raise ModelError(f"{path}: names no group; {RESTORE}")
    return manifest


def _check_types(manifest: Manifest) -> None:
    kinds = {
        "name": str, "network": str, "settings": dict, "size": int, "licence": str, "files": dict, "nodes": dict,
        "alpha": bool, "traced_nodes": dict, "int8": dict, "own_lines": bool,
    }  # fmt: skip
    for name, kind in kinds.items():
        value = getattr(manifest, name)
        if type(value) is not kind:
            raise TypeError(f"{name} is {value!r}, expected {kind.__name__}")
    if manifest.size < 16:
        raise ValueError(f"size is {manifest.size}, expected at least 16")
    for group, told in manifest.int8.items():
        if type(told) is not dict or type(told.get("share", 1)) not in (int, float):
            raise TypeError(f"int8 of {group} is {told!r}, expected its share and what was kept")
    if manifest.batch is not None and (type(manifest.batch) is not int or manifest.batch < 1):
        raise ValueError(f"batch is {manifest.batch!r}, expected 1 or more, or null for any number")


def open_files(model: str | os.PathLike, group: str | None = None) -> ModelFiles:
    """Find `model`, choose `group` (None: the basic one) and check its files against their hashes.

    UsageError for a group the model does not have; ModelError for files that are missing or altered.
    """
    folder = find(model)
    manifest = read(folder)
    group = manifest.groups[0] if group is None else group
    if group not in manifest.groups:
        raise UsageError(f"model {manifest.name} has no group {group!r}: expected one of {', '.join(manifest.groups)}")
    for name in (*(graph_name(group, precision) for precision in manifest.precisions), WEIGHTS):
        check_file(folder / name, manifest.files[name], NAME, RESTORE)
    return ModelFiles(folder, manifest, group)
