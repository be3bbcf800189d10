"""`python -m engine.bundle`: everything that a box without internet and without torch needs, in one folder.

    model      graphs and weights, checked against their hashes
    faces      the face models
    wheels     livetoon's own and those of all it needs, for the platform and Python that are asked for
    engines    compiled and kept beside the graphs, where the bundle is for a machine like this one
    notes      licences, README.txt, install.sh, manifest.json with the sha256 of every file

It is put together in a temporary folder beside DIR, which takes the name DIR when all of it is there. What lies in a
bundle and how it is opened: bundle_manifest.py.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine import backends, bundle_manifest, bundle_notes, bundle_wheels, manifest
from engine.backends.openvino import X86
from engine.bundle_manifest import ENGINES, FACES, MODEL, WHEELS, BundleManifest
from engine.bundle_target import MACHINES, PYTHONS, RUN_ON, Target, this_platform, this_python
from engine.bundle_wheels import Wheel
from engine.from_run import playable
from faces import weights
from livetoon import __version__, cli
from livetoon.errors import UsageError
from livetoon.files import naming, sha256, write_json
from livetoon.progress import Progress

BACKENDS = ("openvino", "onnxruntime")  # those whose libraries the [stream] extra brings
PRECISIONS = ("auto", *backends.PRECISIONS)


@dataclass(frozen=True)
class Wanted:
    """What is asked for. wheels: a folder of downloaded ones, None for the package index; with_wheels: whether any."""

    out: Path
    target: Target
    model: str = "live"
    backend: str = "auto"
    precision: str = "auto"
    wheels: Path | None = None
    with_wheels: bool = True


@dataclass
class Made:
    """What was made. sizes: bytes by part; seconds: by stage."""

    folder: Path
    manifest: BundleManifest
    wheels: list[Wheel]
    sizes: dict[str, int]
    seconds: dict[str, float] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """For `--json`."""
        rows = [
            {
                "name": wheel.name,
                "version": str(wheel.version),
                "file": wheel.path.name,
                "bytes": wheel.path.stat().st_size,
                "licence": bundle_notes.licence_of(wheel),
            }
            for wheel in self.wheels
        ]
        return {
            "out": str(self.folder),
            **{name: getattr(self.manifest, name) for name in ("livetoon", "platform", "python", "glibc", "model")},
            "run_by_us": self.manifest.platform in RUN_ON,
            "engines": self.manifest.engines,
            "built": list(self.manifest.built),
            "bytes": {**self.sizes, "total": sum(self.sizes.values())},
            "seconds": self.seconds,
            "wheels": rows,
        }


def bundle(wanted: Wanted, progress: Progress) -> Made:
    """Make the bundle. `wanted.out` appears whole, or is not touched.

    UsageError for an option that cannot be, ModelError for a model that is not whole, DataError for wheels that cannot
    be had, EngineError where the model does not compile.
    """
    _check(wanted)
    model = manifest.find(playable(wanted.model))
    described = manifest.read(model)
    _check_precision(wanted, described)
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        naming(wanted.out, wanted.out.parent / f".{wanted.out.name}."),
        tempfile.TemporaryDirectory(prefix=f".{wanted.out.name}.", dir=wanted.out.parent) as temporary,
    ):
        made = _filled(wanted, model, described, Path(temporary), progress)
        os.chmod(made.folder, 0o755)
        if wanted.out.exists():
            wanted.out.rmdir()  # an empty one
        made.folder.rename(wanted.out)
    wheels = [Wheel(wanted.out / WHEELS / wheel.path.name) for wheel in made.wheels]
    return replace(made, folder=wanted.out, wheels=wheels)


def _filled(wanted: Wanted, model: Path, described: manifest.Manifest, temporary: Path, progress: Progress) -> Made:
    """Everything of a bundle, in a folder inside `temporary`."""
    folder = temporary / "bundle"
    folder.mkdir()
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - began, 2)
        progress.line(f"{name}: {_megabytes(_bytes(folder))} in all, {seconds[name]:.1f} s")

    with stage("model"):
        _copy_model(model, described, folder / MODEL)
    with stage("faces"):
        _copy_faces(folder / FACES)
    wheels, built = [], []
    if wanted.with_wheels:
        with stage("wheels"):
            wheels, built = _wheels(wanted, folder / WHEELS, temporary, progress)
    engines = None
    if wanted.target.is_this_machine:
        with stage("engines"):
            engines = _compile(wanted, described, folder / MODEL, progress)
            _compare_versions(engines, wheels, progress)
    with stage("notes"):
        glibc = bundle_wheels.oldest_glibc(wheels, built)
        made = BundleManifest(
            livetoon=__version__,
            platform=wanted.target.platform,
            python=wanted.target.python,
            glibc=glibc,
            model=described.name,
            groups=described.groups,
            backend=wanted.backend,
            precision=wanted.precision,
            engines=engines,
            versions={wheel.name: str(wheel.version) for wheel in wheels},
            built=tuple(built),
            files={},
        )
        bundle_notes.write(made, model, wheels, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        made = replace(made, files={path.relative_to(folder).as_posix(): sha256(path) for path in files})
        made.write(folder)
    return Made(folder, made, wheels, _sizes(folder), seconds)


def _check(wanted: Wanted) -> None:
    out = wanted.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: is there and not empty; choose another name or remove it")
    if wanted.wheels is not None and not wanted.with_wheels:
        raise UsageError("--wheels and --no-wheels: choose one of them")
    if wanted.wheels is not None and not wanted.wheels.is_dir():
        raise UsageError(f"--wheels {wanted.wheels}: not a folder")
    if wanted.backend not in ("auto", *BACKENDS):
        raise UsageError(f"--backend {wanted.backend}: a bundle brings {' and '.join(BACKENDS)}; choose one or auto")
    if wanted.precision not in PRECISIONS:
        raise UsageError(f"--precision {wanted.precision}: choose one of {', '.join(PRECISIONS)}")


def _check_precision(wanted: Wanted, described: manifest.Manifest) -> None:
    """INT8 needs graphs of its own, and a processor that OpenVINO runs them on. Here the compiler has the last word."""
    if wanted.precision != "int8":
        return
    if "int8" not in described.precisions:
        raise UsageError(
            f"--precision int8: model {described.name} has no INT8 graphs; give as --model the folder that python -m "
            "engine.build --precision int8 --calibration DIR --out FOLDER makes, or choose another precision"
        )
    if not wanted.target.platform.endswith(X86):
        raise UsageError(f"--precision int8: is not run on {wanted.target.platform}; choose auto, fp16 or fp32")


def _copy_model(model: Path, described: manifest.Manifest, folder: Path) -> None:
    """What model.json lists, after it was checked, with the card."""
    for group in described.groups:
        manifest.open_files(model, group)
    folder.mkdir()
    for name in (*described.files, manifest.NAME, manifest.CARD):
        if (model / name).is_file():
            shutil.copyfile(model / name, folder / name)


def _copy_faces(folder: Path) -> None:
    folder.mkdir()
    for name in weights.SHA256:
        shutil.copyfile(weights.path(name), folder / name)
    shutil.copyfile(weights.FOLDER / "README.md", folder / "README.md")


def _wheels(wanted: Wanted, folder: Path, temporary: Path, progress: Progress) -> tuple[list[Wheel], list[str]]:
    """(all wheels, names of those that were built here); in `folder`."""
    folder.mkdir()
    work = temporary / "work"
    if wanted.wheels is None:
        source: bundle_wheels.Source = bundle_wheels.Index(
            wanted.target, bundle_wheels.pins(), work, progress.line, progress.tick
        )
        given = None
    else:
        source = bundle_wheels.Folder(wanted.target, wanted.wheels)
        given = source.best(bundle_wheels.Requirement(bundle_wheels.OWN))
    if given is None:
        bundle_wheels.build_own(folder, work)
    wheels = bundle_wheels.collect([f"{bundle_wheels.OWN}[stream]", "pip"], folder, wanted.target, source)
    shutil.rmtree(work, ignore_errors=True)
    return wheels, source.built


def _compile(
    wanted: Wanted, described: manifest.Manifest, folder: Path, progress: Progress
) -> dict[str, object] | None:
    """Compile every group into `folder`/engines; the machine that they are for."""
    from engine.runner import open_runner

    backend = wanted.backend
    if backend == "auto":
        backend = next((name for name in BACKENDS if name in backends.installed()), "auto")
    (folder / ENGINES).mkdir()
    for group in described.groups:
        spec = open_runner(folder, group, backend, wanted.precision).spec
        progress.line(f"engines: {group} in {spec.precision} by {spec.backend}, {spec.threads} thread(s)")
    for path in (folder / ENGINES).iterdir():
        if path.suffix != ".cache":
            path.unlink()  # a lock
    if not any((folder / ENGINES).iterdir()):
        (folder / ENGINES).rmdir()
        return None
    return {**bundle_manifest.this_machine(spec.backend), "precision": spec.precision}


def _compare_versions(engines: dict[str, object] | None, wheels: Sequence[Wheel], progress: Progress) -> None:
    brought = next((str(wheel.version) for wheel in wheels if engines and wheel.name == engines["backend"]), None)
    if brought and brought != engines["version"]:
        progress.line(
            f"engines: compiled by {engines['backend']} {engines['version']}, the bundle brings {brought}: the box "
            "compiles anew at its first start"
        )


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes by part; the rest is notes and licences."""
    engines = _bytes(folder / MODEL / ENGINES)
    parts = {
        "model": _bytes(folder / MODEL) - engines,
        "engines": engines,
        "face models": _bytes(folder / FACES),
        "wheels": _bytes(folder / WHEELS),
    }
    return {**parts, "rest": _bytes(folder) - sum(parts.values())}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def summary(made: Made) -> str:
    """The table at the end, and what must be said of this bundle."""
    rows = [(name, _megabytes(count)) for name, count in made.sizes.items() if count]
    rows.append(("total", _megabytes(sum(made.sizes.values()))))
    if made.wheels:
        rows = [(f"{len(made.wheels)} wheels" if name == "wheels" else name, size) for name, size in rows]
    lines = [f"{name:12} {size:>10}" for name, size in rows]
    described = made.manifest
    lines.append(f"{made.folder}: livetoon {described.livetoon} for {described.platform}, Python {described.python}")
    if described.built:
        lines.append(f"no wheel of {', '.join(described.built)} on the index: built here, for systems like this one")
    if not described.engines:
        lines.append("no engines: the box compiles at its first start")
    if described.platform not in RUN_ON:
        lines.append(f"resolved, not run: nobody has started a bundle for {described.platform} yet")
    start = "sh install.sh there" if made.wheels else "livetoon --bundle DIR, with a livetoon that is installed there"
    return "\n".join([*lines, f"start it with: {start}"])


def arguments() -> argparse.ArgumentParser:
    made = cli.parser(
        "python -m engine.bundle",
        "Put everything that a box without internet and without torch needs into one folder.",
        "python -m engine.bundle --out edge --platform linux-aarch64",
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make; empty or not there yet")
    made.add_argument(
        "--platform", default=this_platform(), help=f"{', '.join(MACHINES)} (this machine's: {this_platform()})"
    )
    made.add_argument(
        "--python", default=this_python(), metavar="VERSION", help=f"{', '.join(PYTHONS)} (this one: {this_python()})"
    )
    made.add_argument("--model", default="live", help="name, model folder, training run or checkpoint (live)")
    made.add_argument("--backend", default="auto", help=f"what runs it: auto, {', '.join(BACKENDS)} (auto)")
    made.add_argument("--precision", default="auto", help=f"numbers it computes with: {', '.join(PRECISIONS)} (auto)")
    made.add_argument("--wheels", type=Path, metavar="DIR", help="take wheels from here, and none from the index")
    made.add_argument("--no-wheels", action="store_true", help="for a box that has livetoon installed already")
    made.add_argument(
        "--check",
        action="store_true",
        help="install it into an empty environment, start it and measure the time",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write sizes, versions and times there too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(_command, arguments(), argv)


def _command(options: argparse.Namespace) -> None:
    from engine import bundle_check

    target = Target(options.platform, options.python)
    wanted = Wanted(
        options.out.absolute(),
        target,
        options.model,
        options.backend,
        options.precision,
        options.wheels,
        not options.no_wheels,
    )
    if options.check:
        bundle_check.can(target, wanted.with_wheels)
    made = bundle(wanted, Progress())
    print(summary(made))
    described = made.described()
    if options.check:
        described["check"] = bundle_check.check(made.folder, Progress().line)
        print(bundle_check.summary(described["check"]))
    if options.json:
        write_json(options.json, described)


if __name__ == "__main__":
    sys.exit(main())
