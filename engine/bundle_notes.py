"""What a bundle says of itself: README.txt, install.sh, and under which terms everything in it stands."""

import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from engine.bundle_manifest import LICENCES, BundleManifest, described
from engine.bundle_target import RUN_ON
from engine.bundle_wheels import ROOT, Wheel
from engine.manifest import CARD
from livetoon.errors import DataError

EDGE = Path(__file__).parent / "edge"
LONGEST = 60  # characters; some packages have their licence's whole text where its name belongs
HEAD = """# Licences of the wheels

As each wheel's metadata states it; the full texts lie in the wheel (`NAME.dist-info`). Libraries are those of others
that a wheel carries in binary form, under terms of their own: of `av`'s, x264 and x265 are GPL-2.0-or-later, which
whoever passes this bundle on has to keep to as well.

| package | version | licence | libraries |
|---|---|---|---|
"""


def write(made: BundleManifest, model: Path, wheels: Sequence[Wheel], folder: Path) -> None:
    licences = folder / LICENCES
    licences.mkdir()
    for name, source in {"LICENSE": _own_file("LICENSE"), "NOTICE": _own_file("NOTICE"), CARD: model / CARD}.items():
        if source.is_file():
            shutil.copyfile(source, licences / name)
    if wheels:
        (licences / "wheels.md").write_text(table(wheels), encoding="utf-8")
        for name in ("install.sh", "check.py"):
            text = (EDGE / name).read_text(encoding="utf-8").replace("@PYTHON@", made.python)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "install.sh").chmod(0o755)
    (folder / "README.txt").write_text(_readme(made), encoding="utf-8")


def _own_file(name: str) -> Path:
    """LICENSE and NOTICE: in the checkout, or where the installed package keeps them."""
    if (ROOT / name).is_file():
        return ROOT / name
    try:
        kept = [path for path in metadata.files("livetoon") or [] if path.name == name]
    except metadata.PackageNotFoundError:
        kept = []
    if not kept:
        raise DataError(f"{ROOT / name}: missing, and a bundle needs it; install livetoon again")
    return Path(str(kept[0].locate()))


def _readme(made: BundleManifest) -> str:
    engines = "none: compiled at the first start, which takes some seconds longer"
    if made.engines:
        engines = f"{made.engines['precision']} for {described(made.engines)}; another machine compiles its own once"
    not_run = f"not run    bundles for {made.platform} are put together and checked; nobody has started one yet\n"
    text = (EDGE / ("README.txt" if made.versions else "README-no-wheels.txt")).read_text(encoding="utf-8")
    for name, value in {
        "LIVETOON": made.livetoon,
        "PLATFORM": made.platform,
        "PYTHON": made.python,
        "GLIBC": f", glibc {made.glibc} or newer" if made.glibc else "",
        "MODEL": made.model,
        "GROUPS": ", ".join(made.groups),
        "ENGINES": engines,
        "RUN": "" if made.platform in RUN_ON else not_run,
    }.items():
        text = text.replace(f"@{name}@", value)
    return text


def table(wheels: Sequence[Wheel]) -> str:
    """A page in Markdown with a row for each wheel."""
    rows = [
        f"| {wheel.name} | {wheel.version} | {licence_of(wheel)} | {', '.join(wheel.libraries) or '-'} |\n"
        for wheel in wheels
    ]
    return HEAD + "".join(rows)


def licence_of(wheel: Wheel) -> str:
    """The licence's expression or name; "not stated" where the metadata has neither."""
    fields = wheel.metadata
    if stated := fields.get("License-Expression"):
        return stated
    short = (fields.get("License") or "").strip()
    if short and "\n" not in short and len(short) <= LONGEST and short.lower() != "unknown":
        return short
    begin = "License :: "
    classified = [each for each in fields.get_all("Classifier", []) if each.startswith(begin)]
    return ", ".join(each.rpartition(" :: ")[2] for each in classified) or "not stated, see the wheel"
