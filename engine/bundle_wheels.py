"""The wheels of a bundle: livetoon's own, and one for every package that it needs on the target.

    build_own    livetoon's wheel, from the checkout that runs
    Index        wheels from the package index, through pip; where there is none for this machine, pip builds one
    Folder       wheels that were downloaded before
    collect      from one requirement to all: what a wheel's metadata asks for on the target, until nothing is missing

pip itself is asked for single packages only: it answers markers as `platform_machine` for the machine that it runs on.
"""

import email.message
import email.parser
import errno
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from engine.bundle_target import Target, glibc_of
from livetoon.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
OWN = "livetoon"
SETUPTOOLS = "setuptools>=77"
# Not needed to run: the page's figures, and weights to train on from.
LEFT_OUT = ("__pycache__", "*.safetensors", "preview.jpg")
ROOMS = ("livetoon", "faces", "trainer", "calib", "engine", "streamer")
UNREACHABLE = re.compile(
    r"Retrying \(Retry|NewConnectionError|Max retries exceeded|Could not fetch URL|Temporary failure in name resolution"
    r"|ProxyError|ReadTimeout|ConnectTimeout|Connection (refused|reset)"
)
FETCHING = re.compile(r"\s*(?:Downloading|Using cached) (\S.*)")
FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")


@dataclass(frozen=True)
class Wheel:
    """A wheel on disk; what it says of itself is read when asked for."""

    path: Path

    @property
    def name(self) -> str:
        return parse_wheel_filename(self.path.name)[0]

    @property
    def version(self) -> Version:
        return parse_wheel_filename(self.path.name)[1]

    @cached_property
    def metadata(self) -> email.message.Message:
        """DataError for a file that is no wheel."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
                return email.parser.Parser().parsestr(archive.read(name).decode("utf-8", "replace"))
        except (zipfile.BadZipFile, StopIteration) as error:
            raise DataError(f"{self.path.name}: not a wheel that can be read; download it again") from error

    @cached_property
    def libraries(self) -> list[str]:
        """Names of the shared libraries of others that it carries, as "x264"."""
        with zipfile.ZipFile(self.path) as archive:
            files = [Path(name).name for name in archive.namelist() if re.search(r"\.libs/|/libs/", name)]
        found = {re.sub(r"^lib|[-.].*$", "", name) for name in files if ".so" in name}
        return sorted(found, key=str.lower)

    def requires(self, target: Target, extras: Iterable[str]) -> list[Requirement]:
        """What it asks for on `target` with `extras`."""
        wanted = []
        for line in self.metadata.get_all("Requires-Dist", []):
            requirement = Requirement(line)
            environments = [{**target.environment(), "extra": extra} for extra in ("", *extras)]
            marker = requirement.marker
            if marker is None or any(marker.evaluate(environment) for environment in environments):
                wanted.append(requirement)
        return wanted


class Source(Protocol):
    """Where wheels come from."""

    built: list[str]
    """Packages that had no wheel and were built here."""

    def fetch(self, requirements: Sequence[Requirement], folder: Path) -> None:
        """Put one wheel for each requirement into `folder`. DataError names what cannot be had, and why."""


def collect(wanted: Sequence[str], folder: Path, target: Target, source: Source) -> list[Wheel]:
    """Every wheel that `wanted` needs on `target`, by name; those in `folder` are taken as they are.

    DataError for a package without a wheel and for requirements that contradict each other.
    """
    waiting = [(Requirement(each), "") for each in wanted]
    expanded: set[tuple[str, str]] = set()
    while waiting:
        have = _by_name(folder)
        missing: dict[str, Requirement] = {}
        for requirement, _ in waiting:
            name = canonicalize_name(requirement.name)
            if name not in have:
                specifier = requirement.specifier
                if name in missing:
                    specifier &= missing[name].specifier
                missing[name] = Requirement(f"{requirement.name}{specifier}")
        if missing:
            source.fetch(list(missing.values()), folder)
            have = _by_name(folder)
        further = []
        for requirement, asker in waiting:
            name = canonicalize_name(requirement.name)
            wheel = have[name]
            if not requirement.specifier.contains(wheel.version, prereleases=True):
                raise DataError(
                    f"{asker or 'the bundle'} needs {requirement}, but {wheel.path.name} is what was found: change "
                    "constraints.txt, or the wheels that are given"
                )
            fresh = [extra for extra in ("", *requirement.extras) if (name, extra) not in expanded]
            expanded.update((name, extra) for extra in fresh)
            if fresh:
                further += [(each, wheel.name) for each in wheel.requires(target, fresh)]
        waiting = further
    return [wheel for _, wheel in sorted(_by_name(folder).items())]


def oldest_glibc(wheels: Sequence[Wheel], built: Sequence[str]) -> str | None:
    """The oldest glibc that all of them run on, as "2.28"; what was built here needs this machine's."""
    here = platform.libc_ver()
    found = [minor for wheel in wheels if (minor := glibc_of(wheel.path.name)) is not None]
    if any(wheel.path.name.endswith(f"-linux_{platform.machine()}.whl") for wheel in wheels if wheel.name in built):
        found += [int(here[1].split(".")[1])] if here[0] == "glibc" else []
    return f"2.{max(found)}" if found else None


@dataclass
class Index:
    """The package index as this machine's pip is set up for it; versions as in `pins`, by name.

    temporary: where pip unpacks. report: told what is done; passing: told of each file, for a line that is overwritten.
    """

    target: Target
    pins: Mapping[str, SpecifierSet]
    temporary: Path
    report: Callable[[str], None]
    passing: Callable[[str], None]
    built: list[str] = field(default_factory=list)

    def fetch(self, requirements: Sequence[Requirement], folder: Path) -> None:
        left = [self._pinned(each) for each in requirements]
        without: list[Requirement] = []
        while left:
            self.report(f"wheels: {', '.join(each.name for each in left)}")
            done = self._pip("download", *self._options(), "--dest", str(folder), *map(str, left))
            if done.returncode == 0:
                break
            missed = _not_found(done.stderr)
            refused = [each for each in left if canonicalize_name(each.name) == missed]
            if not refused:
                raise DataError(f"pip could not get {', '.join(map(str, left))}: {_last_error(done.stderr)}")
            without += refused
            left = [each for each in left if each not in refused]
        if without and not self.target.is_this_python:
            names = ", ".join(map(str, without))
            raise DataError(
                f"no wheel of {names} for {self.target.platform} with Python {self.target.python}, and what must be "
                "built is built on such a machine only: choose another --python, or give all wheels with --wheels DIR"
            )
        for each in without:
            self._build(each, folder)

    def _pinned(self, requirement: Requirement) -> Requirement:
        """As pip then names it when there is none; of a constraints file it would only say that it contradicts."""
        pin = self.pins.get(canonicalize_name(requirement.name), SpecifierSet())
        return Requirement(f"{requirement.name}{requirement.specifier & pin}")

    def _options(self) -> list[str]:
        options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", self.target.python]
        return options + [word for tag in self.target.platform_tags for word in ("--platform", tag)]

    def _build(self, requirement: Requirement, folder: Path) -> None:
        self.report(f"wheels: no wheel of {requirement}, building it from source")
        done = self._pip("wheel", "--wheel-dir", str(folder), str(requirement))
        if done.returncode:
            raise DataError(f"{requirement} has no wheel and could not be built: {_last_error(done.stderr)}")
        self.built.append(canonicalize_name(requirement.name))

    def _pip(self, command: str, *words: str) -> subprocess.CompletedProcess:
        done = run_pip([command, "--no-deps", *words], self.temporary, self.passing)
        if done.returncode and UNREACHABLE.search(done.stderr):
            missed = _not_found(done.stderr) or "the wheels"
            raise DataError(
                f"the package index cannot be reached, {missed} is missing: connect this machine, or give wheels that "
                "were downloaded before with --wheels DIR"
            )
        return done


@dataclass
class Folder:
    """Wheels that lie in `folder`: of each package the newest that runs on the target."""

    target: Target
    folder: Path
    built: list[str] = field(default_factory=list)

    def fetch(self, requirements: Sequence[Requirement], folder: Path) -> None:
        chosen = {str(each): self.best(each) for each in requirements}
        if missing := [name for name, wheel in chosen.items() if wheel is None]:
            raise DataError(
                f"{self.folder}: no wheel of {', '.join(missing)} for {self.target.platform} with Python "
                f"{self.target.python}; put it there, or leave --wheels out"
            )
        for wheel in chosen.values():
            shutil.copyfile(wheel.path, folder / wheel.path.name)

    def best(self, requirement: Requirement) -> Wheel | None:
        """The newest wheel that fits; None when there is none."""
        name = canonicalize_name(requirement.name)
        fitting = [
            wheel
            for wheel in _wheels(self.folder)
            if wheel.name == name
            and requirement.specifier.contains(wheel.version, prereleases=True)
            and self.target.supports(wheel.path.name)
        ]
        return max(fitting, key=lambda wheel: wheel.version, default=None)


def pins() -> dict[str, SpecifierSet]:
    """The versions that livetoon was tested with, by name: constraints.txt of the checkout, where there is one."""
    file = ROOT / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(each.name): each.specifier for each in found}


def build_own(folder: Path, temporary: Path) -> None:
    """Livetoon's own wheel into `folder`, from a copy of the checkout: what a build leaves behind stays out of it.

    DataError where livetoon was installed without its source, and where the build fails.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise DataError(
            f"livetoon is installed in {ROOT} without its source, of which its wheel is built: run python -m "
            "engine.bundle in a checkout, or put the wheel that it was installed from into --wheels DIR"
        )
    copy = temporary / "source"
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copyfile(ROOT / name, copy / name)
    # The setuptools that is here needs no index; pip gets one for the build where there is none, or an old one.
    isolation = ["--no-build-isolation"] if _has_setuptools() else []
    done = run_pip(["wheel", "--no-deps", *isolation, "--wheel-dir", str(folder), str(copy)], temporary)
    if done.returncode:
        unreachable = UNREACHABLE.search(done.stderr) or _not_found(done.stderr) == "setuptools"
        raise DataError(
            f"livetoon's own wheel needs {SETUPTOOLS} to be built, and the package index cannot be reached: "
            f'{sys.executable} -m pip install "{SETUPTOOLS}"'
            if isolation == [] and unreachable
            else f"livetoon's own wheel could not be built: {_last_error(done.stderr)}"
        )


def run_pip(
    words: Sequence[str], temporary: Path, passing: Callable[[str], None] = lambda line: None
) -> subprocess.CompletedProcess:
    """`python -m pip` with `words`, unpacking in `temporary`; `passing` is told of each file that it fetches.

    DataError without pip; OSError when the disk is full.
    """
    if importlib.util.find_spec("pip") is None:
        raise DataError(f"wheels are collected by pip, which {sys.executable} lacks: {sys.executable} -m ensurepip")
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    # Only when it tries again does pip say that the index was not reached.
    command = [sys.executable, "-m", "pip", *words, *quiet, "--retries=2"]
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", dir=temporary) as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as running,
    ):
        try:
            for line in running.stdout:
                if found := FETCHING.match(line):
                    passing(found.group(1))
            code = running.wait()
        except BaseException:
            running.kill()
            raise
        errors.seek(0)
        said = errors.read()
    if code and FULL.search(said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
    return subprocess.CompletedProcess(command, code, None, said)


def _has_setuptools() -> bool:
    from importlib import metadata

    try:
        found = Version(metadata.version("setuptools"))
    except metadata.PackageNotFoundError:
        return False
    return Requirement(SETUPTOOLS).specifier.contains(found, prereleases=True)


def _by_name(folder: Path) -> dict[str, Wheel]:
    return {wheel.name: wheel for wheel in _wheels(folder)}


def _wheels(folder: Path) -> list[Wheel]:
    """Those in `folder` whose names are wheels' names."""
    found = []
    for path in sorted(folder.glob("*.whl")):
        try:
            parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        found.append(Wheel(path))
    return found


def _not_found(said: str) -> str | None:
    """The package that pip named as not to be had."""
    found = re.search(r"No matching distribution found for (.+)", said)
    if not found:
        return None
    try:
        return canonicalize_name(Requirement(found.group(1).split(" (")[0].strip()).name)
    except InvalidRequirement:
        return None


def _last_error(said: str) -> str:
    """What pip said last, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return next(reversed(errors or lines), "it said nothing")
