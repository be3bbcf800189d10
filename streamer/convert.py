"""`python -m streamer.convert IN OUT`: a picture, a video or a folder of them as a cartoon.

OUT appears only when it is whole. A folder run that was stopped goes on where it was: what stands in OUT is done.
"""

import argparse
import errno
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from livetoon import cli
from livetoon.errors import DataError, LivetoonError, UsageError
from livetoon.files import replacing

# Here and not with their readers: help and wrong options are answered without the heavy libraries.
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
LOOKS = 3  # a still picture is fitted so often: each fit starts from the one before
LOOK_EVERY_S = 0.04

DESCRIPTION = """Draw a picture, a video or a folder of them as a cartoon.

Sound, subtitles, times and metadata are kept; a turned picture comes out upright. OUT appears only when it is
whole, and a folder run that was stopped goes on where it was."""


def arguments() -> argparse.ArgumentParser:
    """The options of convert."""
    made = cli.parser("python -m streamer.convert", DESCRIPTION, "python -m streamer.convert holiday.mp4 cartoon.mp4")
    made.add_argument("source", metavar="IN", type=Path, help="a picture, a video or a folder")
    made.add_argument("target", metavar="OUT", type=Path, help="of the same kind; a file's ending says the format")
    made.add_argument("--model", default="live", help="a shipped model, a model folder or a training run (live)")
    made.add_argument("--backend", default="auto", help="auto, openvino, onnxruntime, torch, tensorrt (auto)")
    made.add_argument("--precision", default="auto", help="numbers in use: auto, fp32, fp16, bf16, int8 (auto)")
    made.add_argument("--group", default="auto", help="auto, or the group every face is drawn as (auto)")
    made.add_argument("--strength", type=float, default=1.0, help="share of the cartoon, 0 to 1 (1)")
    made.add_argument("--tone", type=float, help="share of the person's own skin and hair colour, 0 to 1 (1)")
    made.add_argument(
        "--detail", type=float, help="share of the person's own lines, 0 to 1, if the style can take them (0.8)"
    )
    made.add_argument("--background", default="camera", help="behind people: camera, plain or blur (camera)")
    made.add_argument("--background-colour", metavar="#RRGGBB", help="of a plain background (a pale grey blue)")
    made.add_argument("--max-faces", type=int, default=8, metavar="N", help="further faces are covered (8)")
    made.add_argument("--detector", default="shipped", help="shipped, yunet:FILE.onnx or insightface:PACK (shipped)")
    made.add_argument(
        "--crop",
        choices=("livetoon", "photo2cartoon"),
        default="livetoon",
        help="how faces are framed: photo2cartoon as its public checkpoints learned it (livetoon)",
    )
    made.add_argument("--group-rules", type=Path, metavar="JSON", help="who belongs to which group, as for livetoon")
    made.add_argument("--again", action="store_true", help="draw what stands in OUT already once more")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; the exit code."""
    return cli.run(_command, arguments(), argv)


def _command(options: argparse.Namespace) -> int:
    jobs = list(plan(options.source, options.target, options.again))
    if not jobs:
        print("nothing to do: OUT holds everything already (--again draws it once more)", file=sys.stderr)
        return 0
    draw = _opened(options)
    failures = 0
    for number, (source, target) in enumerate(jobs, 1):
        label = f"{number}/{len(jobs)} {source.name}" if len(jobs) > 1 else source.name
        try:
            convert(source, target, draw, Progress(label, sys.stderr))
        except Exception as error:  # one bad file does not stop a folder, whatever it is
            explained = _explained(error, source, target)
            if len(jobs) == 1 or options.debug or _is_full(error):
                raise explained from error
            print(explained, file=sys.stderr)
            failures += 1
    if failures == len(jobs) > 0:
        raise DataError(f"none of {failures} files could be drawn; what to do stands above.")
    if failures:
        raise DataError(f"{failures} of {len(jobs)} files could not be drawn; the others are in {options.target}.")
    return 0


def plan(source: Path, target: Path, again: bool = False) -> Iterator[tuple[Path, Path]]:
    """(IN, OUT) of every file to draw, checked before anything slow. A folder's files that are done are left out."""
    if not source.exists():
        raise DataError(f"{source} does not exist: give a picture, a video or a folder.")
    if target.exists() and target.samefile(source):
        raise UsageError(f"IN and OUT are the same ({source}): give OUT another name.")
    if not source.is_dir():
        _check_file(source, target)
        yield source, target
        return
    if target.exists() and not target.is_dir():
        raise UsageError(f"IN is a folder and OUT is the file {target}: give OUT the name of a folder.")
    if source.resolve() in target.resolve().parents:
        raise UsageError(f"OUT lies inside IN ({source}): the next run would draw its own cartoons; choose another.")
    found = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix.lower() in PICTURES + VIDEOS)
    if not found:
        raise DataError(f"{source} holds no picture or video ({', '.join(PICTURES + VIDEOS)}).")
    for path in found:
        drawn = target / path.relative_to(source)
        if again or not drawn.exists() or drawn.stat().st_mtime < path.stat().st_mtime:
            yield path, drawn


def convert(source: Path, target: Path, draw: "Draw", progress: "Progress") -> None:
    """Draw one file; `target` is whole or was not touched."""
    from streamer import pictures, videos

    target.parent.mkdir(parents=True, exist_ok=True)
    draw.reset()
    with progress, replacing(target) as temporary:
        if source.suffix.lower() in PICTURES:
            picture = pictures.read(source)
            pictures.write(temporary, pictures.Picture(draw.still(picture.rgb), picture.alpha, picture.blocks))
        else:
            videos.convert(source, temporary, draw.frame, progress.at)
        progress.note = draw.told()


class Draw:
    """A pipeline with settings: a still picture, or one frame of a video after another. groups: of the model."""

    def __init__(self, pipeline: Any, settings: Any, groups: int) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._to_choose = groups > 1
        self._seen = False
        self._groups: Counter[str] = Counter()  # frames by the group that a face was drawn as

    def reset(self) -> None:
        """Before another file: forget the faces of the last."""
        self._pipeline.reset()
        self._seen = False
        self._groups.clear()

    def frame(self, rgb, t: float):
        """(H, W, 3) uint8 RGB at `t` seconds -> the same as a cartoon. DataError when it is too small or too large."""
        from streamer.pipeline import LARGEST, SMALLEST

        size = f"{rgb.shape[1]}x{rgb.shape[0]} px"
        if max(rgb.shape[:2]) > LARGEST:
            raise DataError(f"{size} is too large, a side may have {LARGEST}: make it smaller first.")
        if min(rgb.shape[:2]) < SMALLEST:
            raise DataError(f"{size} is too small, a side must have {SMALLEST}: make it larger first.")
        result = self._pipeline.process(rgb, t, self._settings)
        self._seen |= bool(result.faces)
        self._groups.update(result.groups.values())
        return result.frame

    def still(self, rgb):
        """(H, W, 3) uint8 RGB -> the same as a cartoon."""
        for look in range(LOOKS):
            self._groups.clear()
            drawn = self.frame(rgb, look * LOOK_EVERY_S)
        return drawn

    def told(self) -> str:
        """What is to be said of the file beside that it is done: whom its faces were taken for, most of them first; a
        group of a twentieth of them is a slip."""
        if not self._seen:
            return ", but no face was found in it"
        all_drawn = self._groups.total()
        groups = [group for group, count in self._groups.most_common() if count > all_drawn / 20]
        return f", drawn as {', '.join(groups)}" if groups and self._to_choose else ""


class Progress:
    """A bar on a terminal, a line for every tenth elsewhere; gone when the file is done."""

    def __init__(self, label: str, stream: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._label, self._stream, self._clock = label, stream, clock
        self._began = self._shown_at = clock()
        self._tenth = 0
        self.note = ""  # what is to be said beside that it is done

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            seconds = self._clock() - self._began
            self._stream.write(f"{self._start()}{self._label}: done in {seconds:.1f} s{self.note}\n")
        elif self._stream.isatty():
            self._stream.write("\n")

    def at(self, share: float) -> None:
        """`share` of the file, 0 to 1, is done."""
        now = self._clock()
        if self._stream.isatty():
            if now - self._shown_at < 0.2:
                return
            self._shown_at = now
            left = (now - self._began) * (1 - share) / max(share, 1e-3)
            bar = "█" * round(share * 24) + "░" * (24 - round(share * 24))
            self._stream.write(f"{self._start()}{self._label} {bar} {share:4.0%}, {left:.0f} s left")
            self._stream.flush()
        elif int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            self._stream.write(f"{self._label}: {self._tenth * 10} %\n")

    def _start(self) -> str:
        return "\r\x1b[2K" if self._stream.isatty() else ""


def _check_file(source: Path, target: Path) -> None:
    kinds = {"picture": PICTURES, "video": VIDEOS}
    kind = next((kind for kind, endings in kinds.items() if source.suffix.lower() in endings), None)
    if kind is None:
        raise UsageError(
            f"{source}: the ending {source.suffix or '(none)'} is not known; known are {', '.join(PICTURES + VIDEOS)}."
        )
    if target.is_dir():
        raise UsageError(f"OUT is the folder {target}: give the file a name, as {target / source.name}.")
    if target.suffix.lower() not in kinds[kind]:
        raise UsageError(f"{target}: a {kind} is written as {', '.join(kinds[kind])}; give OUT one of these endings.")


def _opened(options: argparse.Namespace) -> Draw:
    import cv2

    from faces import detectors
    from faces.groups import RULES, check_rules, read_rules
    from streamer.opening import open_runners, pipeline_of
    from streamer.pipeline import Settings

    detectors.check(options.detector)
    if options.max_faces < 1:
        raise UsageError(f"--max-faces {options.max_faces}: at least 1.")
    rules = read_rules(options.group_rules) if options.group_rules else RULES
    cv2.setNumThreads(1)
    names = ("group", "strength", "tone", "detail", "background", "background_colour")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    settings = Settings(**given)
    runners = open_runners(options.model, options.backend, options.precision)
    if options.group not in ("auto", *runners):
        raise UsageError(f"--group {options.group}: choose auto or one of {', '.join(runners)}.")
    if options.detail and not next(iter(runners.values())).spec.own_lines:
        raise UsageError(f"--detail: the style {options.model} has lines of its own and takes no others; leave it out.")
    check_rules(rules, runners)
    how = {"detector": options.detector, "crop": options.crop, "rules": rules}
    return Draw(pipeline_of(runners, options.max_faces, **how), settings, len(runners))


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _explained(error: Exception, source: Path, target: Path) -> LivetoonError:
    """`error` as one sentence that names the file."""
    if isinstance(error, LivetoonError):
        return error if str(source) in str(error) else type(error)(f"{source}: {error}")
    if _is_full(error):
        return DataError(f"There is no room for {target}: free some of the disk and run it again.")
    if isinstance(error, OSError):
        return DataError(f"{error.filename or target}: {error.strerror or os.strerror(error.errno or errno.EIO)}")
    said = next(iter(str(error).strip().splitlines()), "no more is known")
    return DataError(f"{source} could not be drawn ({type(error).__name__}: {said}): --debug shows where.")


if __name__ == "__main__":
    # A polite end removes the temporary file as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    raise SystemExit(main())
