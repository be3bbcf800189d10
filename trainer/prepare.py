"""`python -m trainer.prepare IN OUT`: any pictures of people, or drawings, become a data folder to train on.

    IN/**/picture -> face found -> aligned and cropped as in live video -> OUT/GROUP/photo/NAME.png (or cartoon/)

Broken, faceless, tiny, blurred and double pictures are left out and reported with the reason. A second call skips
what is done, so a call that was stopped goes on; a crop that was deleted from OUT is made again. Several calls may
fill one OUT: photos and drawings (of the same NAME they are a pair), or a folder for each group.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from livetoon import cli
from livetoon.errors import DataError, UsageError
from trainer.prepare_plan import TOLD_APART, Settings, listing, plan, settle, sweep, whole


def prepare(
    source: Path,
    out: Path,
    settings: Settings = Settings(),  # noqa: B008 - it is frozen
    table: Path | None = None,
    points: Path | None = None,
    jobs: int | None = None,
) -> dict:
    """Do every picture in `source` and its folders; returns the counts of `prepare_report.summary` for them, with
    `already_done`, `needs_points` and `other_files`.

    DataError where folder or tables cannot be used, or no picture of them can. On KeyboardInterrupt what is done stays.
    """
    from trainer.lock import alone
    from trainer.prepare_report import Journal, summary, write_crop_points, write_needs_points, write_report
    from trainer.prepare_work import Worker, in_parallel

    source, out = (Path(os.path.abspath(path)) for path in (source, out))
    _check(source, out, settings, table, points)
    found, others = listing(source)
    out.mkdir(parents=True, exist_ok=True)
    jobs = jobs or _cores()
    with alone(out):
        journal = Journal(out)
        sweep(out, journal)
        tasks = plan(source, out, found, settings, table, points, journal)
        worker = Worker(out, settings, journal)
        done = in_parallel(tasks, worker, jobs)
        settle(tasks, out, settings, journal)
        # A copy whose better twin is gone or has changed is needed after all.
        if lost := [task for task in tasks if not whole(journal.entries[settings.domain, str(task.path)], out)]:
            in_parallel(lost, worker, jobs)
            settle(tasks, out, settings, journal)
        mine = [journal.entries[settings.domain, str(task.path)] for task in tasks]
        write_report(out, list(journal.entries.values()), asdict(settings) | {"masks": str(settings.masks or "")})
        write_crop_points(out, journal.entries.values())
        needs_points = write_needs_points(out, source, mine) if settings.domain == "cartoon" else 0
    counts = summary(mine) | {
        "already_done": len(tasks) - done,
        "needs_points": needs_points,
        "other_files": others,
    }
    if not counts["kept"]:
        raise DataError(
            f"none of the {len(tasks)} pictures in {source} can be used ({_reasons(counts['dropped'])}); "
            f"look at {out / 'contact-dropped.jpg'}{_fill_in(out, needs_points)}"
        )
    return counts


def _check(source: Path, out: Path, settings: Settings, table: Path | None, points: Path | None) -> None:
    """At the door, before anything slow."""
    from trainer.points import CROP_POINTS
    from trainer.prepare_table import check_group

    wanted = settings.groups or ()
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; expected one with pictures, which may lie in folders of it")
    _check_apart(source, out)
    if points is not None and os.path.realpath(points) == os.path.realpath(out / CROP_POINTS):
        raise UsageError(f"--points {points}: holds points of the crops in OUT; name a table of the pictures in IN")
    if settings.masks is not None and not settings.masks.is_file():
        raise UsageError(f"--masks {settings.masks}: no such file")
    if settings.group and settings.groups:
        raise UsageError("--group puts all pictures in one group; leave --groups out")
    for option, names in (("--group", [settings.group] if settings.group is not None else []), ("--groups", wanted)):
        for name in names:
            try:
                check_group(name)
            except DataError as error:
                raise UsageError(f"{option}: {error}") from None
    unknown = [name for name in wanted if name not in TOLD_APART]
    if unknown and table is None:
        raise UsageError(
            f"--groups: {', '.join(unknown)} cannot be told from a face (only {', '.join(TOLD_APART)} can); "
            "add --table with a column group, or use --group NAME"
        )


def _check_apart(source: Path, out: Path) -> None:
    """UsageError where the crops of OUT would be pictures of IN when the command is given again."""
    from trainer.layout import DOMAINS

    source, out = (Path(os.path.realpath(path)) for path in (source, out))
    if source == out:
        raise UsageError(f"OUT {out}: is IN itself; name another folder for the crops")
    if out.is_relative_to(source):
        raise UsageError(f"OUT {out}: lies in IN, whose pictures the crops would become; name a folder outside of it")
    for domain in DOMAINS:
        for crops in out.glob(f"*/{domain}"):
            if source.is_relative_to(crops) or crops.is_relative_to(source):
                raise UsageError(f"IN {source}: holds crops of OUT; name a folder of pictures outside of {out}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())


def _fill_in(out: Path, needs_points: int) -> str:
    if not needs_points:
        return ""
    file = out / "needs_points.csv"
    return f"; for {needs_points} drawings write five points each into {file} and add --points {file}"


def arguments():
    """The command's options."""
    usual = Settings()
    parser = cli.parser(
        "python -m trainer.prepare",
        "Make a data folder from any pictures of people, or drawings: faces are found, aligned as in live\n"
        "video, cropped and sorted by group; broken, faceless, tiny, blurred and double pictures are left\n"
        "out. OUT gets GROUP/photo or GROUP/cartoon, the crops' points, report.json and contact sheets.\n"
        "The same command again skips what is done.",
        "python -m trainer.prepare my-photos data --white --masks selfie.onnx\n"
        "  python -m trainer.prepare my-drawings data --domain cartoon --group kids",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="folder with pictures, also in folders of it")
    parser.add_argument("out", type=Path, metavar="OUT", help="data folder; several calls may fill the same")
    parser.add_argument(
        "--domain", choices=("photo", "cartoon"), default=usual.domain, help=f"what IN holds (default: {usual.domain})"
    )
    parser.add_argument(
        "--table", type=Path, metavar="CSV", help="file and group, or file, age and sex (F/M); may hold points, too"
    )
    parser.add_argument(
        "--points",
        type=Path,
        metavar="CSV",
        help="five points set by hand, which come before any search: file, left_eye_x, left_eye_y, right_eye_*, "
        "nose_*, mouth_left_*, mouth_right_* in px of the upright picture; left is left in the picture",
    )
    parser.add_argument("--group", metavar="NAME", help="one group for all pictures")
    parser.add_argument(
        "--groups",
        metavar="A,B",
        help="only these groups; of a table, or without one seen in the face (then the default is "
        f"{','.join(TOLD_APART)}). A drawing goes where the photo of its name in OUT is",
    )
    parser.add_argument(
        "--over-photos",
        action="store_true",
        help="drawings were made over the photos of their names in OUT, pixel on pixel: cut them at the same points "
        "(found by themselves they would be larger or smaller than these by some 4 %%)",
    )
    parser.add_argument("--white", action="store_true", help="white background; needs --masks")
    parser.add_argument(
        "--masks", type=Path, metavar="ONNX", help="network that marks the person, (1, S, S, 3) RGB in [0, 1] -> S x S"
    )
    parser.add_argument("--size", type=int, default=usual.size, help=f"px, side of a crop (default: {usual.size})")
    parser.add_argument(
        "--min-side",
        type=float,
        default=usual.min_side,
        metavar="PX",
        help=f"narrowest face that is kept (default: {usual.min_side:g})",
    )
    parser.add_argument(
        "--min-sharpness",
        type=float,
        default=usual.min_sharpness,
        metavar="X",
        help="least that is kept of Laplacian over grey, as standard deviations in a crop of 128 px: a sharp photo has "
        f"0.55, one blurred by 3 px of 256 0.21 (default: {usual.min_sharpness:g}; 0 keeps all)",
    )
    parser.add_argument(
        "--near",
        type=int,
        default=usual.near,
        metavar="BITS",
        help="crops whose perceptual hashes differ by at most so many of 256 bits show the same, and the sharper and "
        f"larger is kept (default: {usual.near})",
    )
    parser.add_argument("--format", choices=("png", "jpg"), default=usual.format, help=f"(default: {usual.format})")
    parser.add_argument(
        "--crop",
        choices=("livetoon", "photo2cartoon"),
        default=usual.crop,
        help="how faces are framed: photo2cartoon as the published networks of that family learned, to go on training "
        f"them (default: {usual.crop})",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="threads (default: one for each core)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    if options.white != (options.masks is not None):
        raise UsageError(
            "--white needs --masks ONNX, a network that marks the person, such as MediaPipe's selfie segmentation"
            if options.white
            else "--masks is for white backgrounds only; add --white"
        )
    for name, value, low, high in (
        ("--size", options.size, 32, 1024),
        ("--min-side", options.min_side, 0, 10_000),
        ("--min-sharpness", options.min_sharpness, 0, 10),
        ("--near", options.near, 0, 255),
        ("--jobs", 1 if options.jobs is None else options.jobs, 1, 256),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name}: expected {low} to {high}, got {value:g}")
    if options.over_photos and options.domain != "cartoon":
        raise UsageError("--over-photos is for drawings; add --domain cartoon")
    settings = Settings(
        domain=options.domain,
        size=options.size,
        group=options.group,
        over_photos=options.over_photos,
        groups=tuple(name.strip() for name in options.groups.split(",") if name.strip()) if options.groups else None,
        masks=options.masks,
        min_side=options.min_side,
        min_sharpness=options.min_sharpness,
        near=options.near,
        format=options.format,
        crop=options.crop,
    )
    counts = prepare(options.source, options.out, settings, options.table, options.points, options.jobs)
    if options.json:
        print(json.dumps(counts, indent=2))
        return
    for group, domains in counts["groups"].items():
        print(f"{group}: {domains[options.domain]} {options.domain}s, {options.out / f'contact-{group}.jpg'}")
    if counts["dropped"]:
        print(f"left out: {_reasons(counts['dropped'])}, {options.out / 'contact-dropped.jpg'}")
    if counts["already_done"]:
        print(f"{counts['already_done']} were done before")
    if hint := _fill_in(options.out, counts["needs_points"]):
        print(hint.removeprefix("; "))


if __name__ == "__main__":
    sys.exit(main())
