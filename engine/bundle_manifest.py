"""An edge bundle as it lies on disk, and how it is opened: nothing is read whose sha256 its manifest does not give.

    manifest.json  platform, Python, versions, sha256 of every other file
    install.sh     makes an environment of the wheels alone and starts the server; check.py asks first whether the
                   bundle is whole and for this machine
    model/         a model folder; in its engines/ what was compiled on the machine that made the bundle
    faces/         the face models
    wheels/        livetoon, every package that it needs, and pip
    licences/      of all of it

A bundle is never written to: it may lie on a medium that cannot be.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path, PurePosixPath

from engine import machine
from engine import manifest as model_manifest
from engine.cache import ENGINES, Cache
from livetoon import __version__
from livetoon.errors import EngineError, ModelError
from livetoon.files import into_place, sha256, user_folder, write_json

log = logging.getLogger(__name__)

NAME = "manifest.json"
VERSION = 1
MODEL, FACES, WHEELS, LICENCES = "model", "faces", "wheels", "licences"
AGAIN = "copy the bundle again, or make it again with python -m engine.bundle"


@dataclass(frozen=True)
class BundleManifest:
    """`manifest.json`.

    platform: as "linux-x86_64". python: as "3.11". glibc: the oldest that the wheels run on, None without wheels.
    backend, precision: what a start takes that names none. engines: the machine that they are for (`this_machine`) with
    their precision, None where there are none. versions: of every package that has a wheel. built: those of them
    that were built from source. files: path in the bundle, with slashes -> sha256.
    """

    livetoon: str
    platform: str
    python: str
    glibc: str | None
    model: str
    groups: tuple[str, ...]
    backend: str
    precision: str
    engines: Mapping[str, object] | None
    versions: Mapping[str, str]
    built: tuple[str, ...]
    files: Mapping[str, str]

    def write(self, folder: Path) -> None:
        write_json(folder / NAME, {"version": VERSION, **asdict(self)})


@dataclass(frozen=True)
class Bundle:
    """A bundle whose model and face models are whole."""

    folder: Path
    manifest: BundleManifest

    @property
    def faces(self) -> Path:
        return self.folder / FACES

    def opening(self, backend: str, precision: str) -> tuple[Path, str, str]:
        """Model folder, backend and precision to open, for what was asked ("auto" leaves it to the bundle).

        The bundle's own folder with its engines, unless these are for something else, or not as they were: then a copy
        without them in the user's cache folder. Engines are compiled beside that and found there at the next start.
        """
        backend = self.manifest.backend if backend == "auto" else backend
        precision = self.manifest.precision if precision == "auto" else precision
        own, engines = self.folder / MODEL, self.manifest.engines
        if engines is None:
            return own, backend, precision
        if not (reason := self._unfit(backend, precision)):
            return own, str(engines["backend"]), str(engines["precision"])
        log.info("the bundle's engines are %s: those of this machine are taken, compiled at the first start", reason)
        try:
            return _copied(own, self._listed(f"{MODEL}/")), backend, precision
        except OSError as error:
            log.warning("cache %s cannot be written (%s): every start compiles", user_folder(), error.strerror)
            return own, backend, precision

    def _unfit(self, backend: str, precision: str) -> str | None:
        """What the engines are instead of right for this start; None when nothing has to be compiled or measured."""
        made_for = self.manifest.engines
        for name, asked in {"backend": backend, "precision": precision}.items():
            if asked not in ("auto", made_for[name]):
                return f"for {name} {made_for[name]}"
        begin, folder = f"{MODEL}/{ENGINES}/", self.folder / MODEL / ENGINES
        listed = self._listed(begin)
        if {f"{begin}{path.name}" for path in folder.glob("*.cache")} != set(listed):
            return "not those that were made"
        if any(sha256(self.folder / name) != known for name, known in listed.items()):
            return "altered"
        here = this_machine(str(made_for["backend"]))
        if any(made_for[name] != value for name, value in here.items()) or not self._are_known():
            return f"for {described(made_for)}"
        return None

    def _are_known(self) -> bool:
        """Whether the backend that compiled them would take all of them here."""
        from engine import backends

        engines, own = self.manifest.engines, self.folder / MODEL
        cache, precision = Cache(own / ENGINES), str(engines["precision"])
        try:
            (compiler,) = backends.candidates(str(engines["backend"]))
            if precision not in compiler.precisions(model_manifest.read(own).precisions):
                return False
            keys = [
                compiler.engine_keys(model_manifest.open_files(own, group), precision, backends.Options())
                for group in self.manifest.groups
            ]
        except (ImportError, OSError, EngineError):
            return False
        return all(cache.has(slot, fields) for each in keys for slot, fields in each.items())

    def _listed(self, begin: str) -> dict[str, str]:
        """path in the bundle -> sha256 of the files whose path begins so."""
        return {name: known for name, known in self.manifest.files.items() if name.startswith(begin)}


def this_machine(backend: str) -> dict[str, object]:
    """What an engine that `backend` compiles here is for, in words that a person knows; its cache has the details."""
    try:
        version = metadata.version(backend)
    except metadata.PackageNotFoundError:
        version = None
    return {
        "livetoon": __version__,
        "backend": backend,
        "version": version,
        "processor": machine.processor(),
        "cores": machine.cores(),
    }


def described(engines: Mapping[str, object]) -> str:
    """What engines are for, in a few words."""
    return "{processor} with {cores} core(s), by {backend} {version} of livetoon {livetoon}".format(**engines)


def open_bundle(folder: str | os.PathLike) -> Bundle:
    """Read the manifest in `folder` and check model and face models against it (10 MB, some hundredths of a second).

    ModelError for what is no bundle, and for files that are missing or altered.
    """
    folder = Path(folder)
    bundle = Bundle(folder, read(folder))
    engines = f"{MODEL}/{ENGINES}/"
    for name, known in bundle.manifest.files.items():
        if not name.startswith((f"{MODEL}/", f"{FACES}/")) or name.startswith(engines):
            continue
        model_manifest.check_file(folder / name, known, NAME, AGAIN)
    return bundle


def read(folder: Path) -> BundleManifest:
    """`manifest.json` of `folder`; ModelError when it is missing, broken or of a newer version."""
    path = folder / NAME
    try:
        found = BundleManifest(**model_manifest.read_fields(path, VERSION))
        found = replace(found, groups=tuple(found.groups), built=tuple(found.built))
        _check(found)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder}: no bundle, it has no {NAME}; make one with python -m engine.bundle --out DIR"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a bundle's manifest ({error}); {AGAIN}") from None
    return found


def _check(found: BundleManifest) -> None:
    for name in ("livetoon", "platform", "python", "model", "backend", "precision"):
        if not isinstance(getattr(found, name), str):
            raise TypeError(f"{name} is {getattr(found, name)!r}, expected a text")
    if found.engines is not None and not {"precision", *this_machine("livetoon")} <= set(found.engines):
        raise ValueError("engines that nobody knows what they are for")
    for name in found.files:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\\" in name:
            raise ValueError(f"{name!r} lies outside the bundle")
    if f"{MODEL}/model.json" not in found.files:
        raise ValueError("no model in it")


def _copied(model: Path, listed: Mapping[str, str]) -> Path:
    """A copy of the model folder without its engines, in the user's cache folder; made once."""
    names = {PurePosixPath(name).name: known for name, known in listed.items() if f"/{ENGINES}/" not in name}
    folder = user_folder() / "bundles" / names["model.json"][:16]
    if _is_whole(folder, names):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".copy-", dir=folder.parent) as made:
        copy = Path(made) / "model"
        copy.mkdir()
        for name in names:
            shutil.copyfile(model / name, copy / name)
        into_place(copy, folder, lambda: _is_whole(folder, names))
    return folder


def _is_whole(folder: Path, names: Mapping[str, str]) -> bool:
    try:
        return all(sha256(folder / name) == known for name, known in names.items())
    except OSError:
        return False
