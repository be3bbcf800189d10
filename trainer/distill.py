"""`python -m trainer.distill TEACHER PHOTOS... --out DATA`: a large generator draws photos, a small one learns from it.

    python -m trainer.distill runs/mine photos --out distilled --masks selfie.onnx
    python -m trainer.run --preset live --data distilled --groups young-women,young-men --out runs/live

These two commands are the whole way from any generator to one that is quick enough for live video. The pairs are
DATA/GROUP/photo/NAME.png beside DATA/GROUP/cartoon/NAME.png. Photos stand on white there, as the live network learns
its alpha from them: whitened by `--masks`, by the teacher where it has an alpha of its own, or white before.

Each drawing carries a note of the photo and the teacher that it was made from (a PNG text), so a second call skips
what is done and draws anew what another teacher, or other options, would draw otherwise.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from livetoon import cli
from livetoon.errors import DataError, UsageError
from trainer import layout
from trainer.exaggerate import AS_THEY_ARE, Proportions

EXAMPLE = (
    "python -m trainer.distill runs/mine photos --out distilled --masks selfie.onnx\n"
    "  python -m trainer.run --preset live --data distilled --groups young-women,young-men --out runs/live"
)


@dataclass(frozen=True)
class Settings:
    """What decides how a pair looks. size: side of both pictures, px; proportions: of the face that is drawn;
    own_colours: share of the person's skin and hair colour that the drawing takes; animated: drawn anew as animated
    films draw people (cel.py); batch: photos drawn at once."""

    groups: tuple[str, ...] | None = None
    group: str | None = None
    size: int = 256
    masks: Path | None = None
    mirror_average: bool = False
    proportions: Proportions = AS_THEY_ARE
    own_colours: float = 0.0
    animated: bool = False
    batch: int = 4


def distill(teacher: Path, photos: list[Path], out: Path, settings: Settings = Settings()) -> dict:
    """Draw every photo of `photos` (data folders, or plain ones) that is not drawn yet; returns counts by what became
    of them: `made`, `already_done`, `left_out`, `not_on_white` and `groups`, pairs that a group now has.

    DataError where there is no photo that can be used. On KeyboardInterrupt what is done stays.
    """
    from trainer.data import segmenter
    from trainer.distill_looks import Looks
    from trainer.distill_pairs import Pairs
    from trainer.distill_teacher import open_teacher
    from trainer.lock import alone

    _check(photos, out, settings)
    network = open_teacher(teacher, settings.mirror_average)
    found = photos_by_group(photos, settings, settings.groups or network.groups)
    segment = segmenter(settings.masks) if settings.masks else None
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        looks = Looks(settings.proportions, settings.own_colours, settings.animated)
        pairs = Pairs(out, network, segment, settings.size, _made_by(network, settings), looks)
        for group, paths in found.items():
            branch = network.branch(group)
            if branch != group:
                print(f"{group}: the teacher has no such group and draws it as {branch}", file=sys.stderr)
            try:
                pairs.draw(group, branch, paths, settings.batch)
            except KeyboardInterrupt:
                print("\nwhat is drawn is kept; the same command goes on from there", file=sys.stderr)
                raise
    return pairs.counts()


def photos_by_group(photos: list[Path], settings: Settings, groups: Sequence[str]) -> dict[str, list[Path]]:
    """Group -> its photos, in the order of `groups`, others behind them. Photos that lie in no group's folder belong
    to the first of `groups`; with `settings.group` all do to that one. DataError where there are none."""
    from faces.pictures import pictures

    found: dict[str, list[Path]] = {group: [] for group in groups}
    for folder in photos:
        if not settings.group:
            layout.check_numbers(folder, groups)
        for name, place in _places(folder, groups):
            found.setdefault(settings.group or name, []).extend(pictures(place))
    found = {group: paths for group, paths in found.items() if paths}
    wanted = {group: paths for group, paths in found.items() if group in (settings.groups or found)}
    if not wanted:
        raise DataError(
            f"{', '.join(map(str, photos))}: no photos"
            f"{' of ' + ', '.join(settings.groups) if settings.groups else ''}; found groups: "
            f"{', '.join(sorted(found)) or 'none'}; expected folders with crops (python -m trainer.prepare makes them)"
        )
    return wanted


def _places(folder: Path, groups: Sequence[str]) -> list[tuple[str, Path]]:
    """(group, folder of photos) of a data folder; else itself."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with photos, or a data folder")
    found = [(place.group, place.folder) for place in layout.places(folder, groups) if place.domain == "photo"]
    return found or [(groups[0], layout.root_of(folder))]


def _made_by(network, settings: Settings) -> dict:
    """What a drawing depends on beside its photo, as its note holds it."""
    from livetoon.files import sha256
    from trainer.cel import rules

    made_by = {
        "teacher": network.fingerprint,
        "size": settings.size,
        "masks": sha256(settings.masks) if settings.masks else None,
        "mirror_average": settings.mirror_average,
    }
    if settings.proportions:
        made_by["proportions"] = asdict(settings.proportions)
    if settings.own_colours:
        made_by["own_colours"] = settings.own_colours
    if settings.animated:
        made_by["animated"] = rules()
    return made_by


def _check(photos: list[Path], out: Path, settings: Settings) -> None:
    """At the door, before anything slow."""
    from trainer.group_names import check_names

    if settings.size < 32 or settings.size % 16:
        raise UsageError(f"--size {settings.size}: expected a multiple of 16, at least 32, as the live network takes")
    if settings.batch < 1:
        raise UsageError(f"--batch {settings.batch}: expected at least 1")
    if settings.masks and not settings.masks.is_file():
        raise UsageError(f"--masks {settings.masks}: no such file")
    for name in ("eyes", "nose", "mouth"):
        if not 0.5 <= getattr(settings.proportions, name) <= 2:
            raise UsageError(f"--{name} {getattr(settings.proportions, name):g}: expected 0.5 to 2; 1 leaves it")
    if not 0 <= settings.own_colours <= 1:
        raise UsageError(f"--own-colours {settings.own_colours:g}: expected 0 to 1")
    if settings.animated and (settings.proportions or settings.own_colours):
        raise UsageError(
            "--animated has proportions and colours of its own; leave --eyes, --nose, --mouth and --own-colours out"
        )
    if settings.group and settings.groups:
        raise UsageError("--group puts all photos in one group; leave --groups out")
    check_names([] if settings.group is None else [settings.group], "--group")
    check_names(settings.groups or [])
    for folder in photos:
        if os.path.realpath(folder) == os.path.realpath(out):
            raise UsageError(f"--out {out}: is one of PHOTOS; name another folder for the pairs")


def arguments():
    """The command's options."""
    usual = Settings()
    parser = cli.parser(
        "python -m trainer.distill",
        "Let a generator draw photos, so that the live network can learn its style from the pairs: the first command\n"
        "draws, the second learns. What is drawn already is skipped.",
        EXAMPLE,
    )
    parser.add_argument(
        "teacher",
        type=Path,
        metavar="TEACHER",
        help="run, checkpoint folder or .safetensors of ours, or a public .pt or .pth",
    )
    parser.add_argument(
        "photos",
        type=Path,
        nargs="+",
        metavar="PHOTOS",
        help="data folders, or plain folders of crops (python -m trainer.prepare makes them)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DATA", help="data folder for the pairs")
    parser.add_argument(
        "--groups", metavar="A,B", help="only these groups; photos in no group's folder belong to the first"
    )
    parser.add_argument("--group", metavar="NAME", help="one group for all photos")
    parser.add_argument(
        "--size", type=int, default=usual.size, help=f"px, side of the pairs' pictures (default: {usual.size})"
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="ONNX",
        help="network that marks the person, (1, S, S, 3) RGB in [0, 1] -> S x S: photos are put on white by it",
    )
    parser.add_argument(
        "--mirror-average",
        action="store_true",
        help="draw the mirrored photo too and take the mean: a steadier teacher in twice the time",
    )
    for name in ("eyes", "nose", "mouth"):
        parser.add_argument(
            f"--{name}",
            type=float,
            default=1.0,
            metavar="TIMES",
            help="so many times as large in the drawing as in the photo (default: 1)",
        )
    parser.add_argument(
        "--own-colours",
        type=float,
        default=usual.own_colours,
        metavar="SHARE",
        help="share of the person's own skin and hair colour in the drawing (default: 0)",
    )
    parser.add_argument(
        "--animated",
        action="store_true",
        help="drawn anew as animated films draw people: large eyes with lights, skin in two tones, flat colours",
    )
    parser.add_argument(
        "--batch", type=int, default=usual.batch, metavar="N", help=f"photos at once (default: {usual.batch})"
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    settings = Settings(
        groups=tuple(name.strip() for name in options.groups.split(",")) if options.groups is not None else None,
        group=options.group,
        size=options.size,
        masks=options.masks,
        mirror_average=options.mirror_average,
        proportions=Proportions(options.eyes, options.nose, options.mouth),
        own_colours=options.own_colours,
        animated=options.animated,
        batch=options.batch,
    )
    counts = distill(options.teacher, options.photos, options.out, settings)
    if options.json:
        return print(json.dumps(counts, indent=2))
    for group, count in counts["groups"].items():
        print(f"{group}: {count} pairs in {options.out / group}")
    print(f"{counts['made']} drawn, {counts['already_done']} were done before, {counts['left_out']} left out")
    size = f" --set size={options.size}" if options.size != Settings().size else ""
    groups = ",".join(counts["groups"])
    print(f"next: python -m trainer.run --preset live --data {options.out} --groups {groups}{size} --out RUN")
    return None


if __name__ == "__main__":
    sys.exit(main())
