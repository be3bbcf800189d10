"""How well and how fast faces are found, followed and sorted: `python -m benchmarks.faces --data DIR`.

    search     share of held-out photos in which a face is found, false faces on face-free crops, a picture of several
    groups     balanced accuracy on held-out photos beside public age and sex networks at their best thresholds
    stability  eyes in the crop of each clip, and a scene whose motion is known
    speed      search to crop and paste, one face and three at 640x480, one thread

DIR holds tables (NAME/table.csv) and clips (video/*.mp4); what is missing is left out, and said.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks import faces_groups, faces_search, faces_stability, timing
from faces import judge
from faces.align import align_matrix, crop
from faces.detect import BlazeFace, RetinaFace
from faces.looks import Looker
from faces.paste import outline, paste
from faces.still import FaceFinder
from faces.tables import Person, people_held_out, read_people
from faces.track import Tracker
from livetoon import cli
from livetoon.errors import UsageError
from livetoon.files import write_json
from livetoon.progress import Progress

TABLES = ("all_age_faces", "utkface")
EFFORT = timing.Effort(rounds=8, per_round=40)
PACKAGES = ("openvino", "numpy")
PARTS = ("search", "groups", "stability", "speed")


def searched(data: Path, several: Path | None, progress: Progress) -> dict[str, object]:
    """Found faces and false ones; the six of a picture."""
    finder = FaceFinder("photo")
    said: dict[str, object] = {}
    for table, people in _tables(data, progress):
        progress.passing(f"searching {len(people)} pictures of {table}")
        said[table] = faces_search.found_share(people, finder)
    progress.passing(f"searching {faces_search.FACE_FREE} face-free crops")
    said["face-free"] = faces_search.false_faces(finder)
    if several:
        tracker = Tracker(max_faces=8)
        said["several"] = faces_search.seen_at_once(several, lambda picture: tracker.update(picture, 0.0).faces)
    return said


def sorted_into_groups(data: Path, models: Path | None, progress: Progress) -> dict[str, object]:
    """Our figures for each table, and the opponents' at their best thresholds."""
    looker, finder = Looker(), FaceFinder("photo")
    looks = faces_groups.opponents(models) if models else {}
    said: dict[str, object] = {}
    for table, people in _tables(data, progress):
        progress.passing(f"sorting {len(people)} pictures of {table}")
        figures = judge.figures(judge.look_at(people, looker))
        figures["opponents"] = {name: faces_groups.best_accuracy(people, look, finder) for name, look in looks.items()}
        said[table] = figures
    return said


def steadied(data: Path, models: Path | None, progress: Progress) -> dict[str, object]:
    """The scene, and every clip where the 68-point network that judges them is there."""
    progress.passing("following a scene whose motion is known")
    said: dict[str, object] = {"scene": faces_stability.scene_figures(), "clips": []}
    network = models / "landmark68_112.onnx" if models else None
    if network is None or not network.is_file():
        progress.line(f"left out: the clips, which {network or '--opponents DIR/landmark68_112.onnx'} judges")
        return said
    eyes_in = faces_stability.EyesIn(network)
    clips = sorted((data / "video").glob("*.mp4"))
    if not clips:
        progress.line(f"left out: {data / 'video'} holds no .mp4")
    for clip in clips:
        progress.passing(f"following {clip.name}")
        said["clips"].append(faces_stability.clip_figures(clip, eyes_in))
    return said


def timed() -> list[dict[str, object]]:
    """Rows of milliseconds: a frame from search to crop amortised over a video, a look, a paste; one face and three."""
    cv2.setNumThreads(1)
    scenes = {faces: _people(faces) for faces in (1, 3)}
    looker = Looker()
    contenders = {}
    for faces, frames in scenes.items():
        contenders[f"search to crop, {faces}"] = _following(frames)
        contenders[f"paste, {faces}"] = _pasting(frames)
    face = crop(scenes[1][0], np.array([[1.0, 0, -192], [0, 1, -112]]))
    contenders["look"] = lambda: looker(face)
    contenders["near search alone"] = _call(BlazeFace(), scenes[1])
    contenders["wide search alone"] = _call(RetinaFace(), scenes[1])
    took = timing.interleaved(
        {
            name: lambda most, seconds, warm, call=call: timing.timed(call, most, seconds, warm)
            for name, call in contenders.items()
        },
        EFFORT,
    )
    return [
        {
            "what": name,
            "p50_ms": round(each.p50_ms, 2),
            "p95_ms": round(each.p95_ms, 2),
            "cpu_ms": round(each.cpu_ms, 2),
        }
        for name, each in took.items()
    ]


def _people(number: int) -> list[np.ndarray]:
    """Frames (480, 640, 3) uint8 RGB of one second in which as many faces sway a little."""
    from skimage import data

    portrait = data.astronaut()[0:260, 90:360]
    width = 640 // number
    scale = min(1.4, width / portrait.shape[1])
    frames = []
    for step in range(faces_stability.FPS):
        frame = np.full((480, 640, 3), (96, 104, 112), np.uint8)
        for place in range(number):
            x = place * width + (width - portrait.shape[1] * scale) / 2 + 3 * np.sin(step / 3 + place)
            matrix = np.array([[scale, 0, x], [0, scale, 60 + 2 * np.cos(step / 4)]])
            cv2.warpAffine(portrait, matrix, (640, 480), dst=frame, borderMode=cv2.BORDER_TRANSPARENT)
        frames.append(frame)
    return frames


def _following(frames: Sequence[np.ndarray]):
    """A call that takes the next frame from search to the crops of its faces."""
    tracker, state = Tracker(), {"number": 0}

    def call() -> None:
        number = state["number"]
        state["number"] += 1
        frame = frames[number % len(frames)]
        for face in tracker.update(frame, number / faces_stability.FPS).faces:
            if face.fitted:
                crop(frame, align_matrix(face.points))

    for _ in range(2 * faces_stability.FPS):  # the first second is searched widely
        call()
    return call


def _pasting(frames: Sequence[np.ndarray]):
    """A call that pastes a whole drawing over each face."""
    tracker = Tracker()
    faces = [face for face in tracker.update(frames[0], 0.0).faces if face.fitted]
    matrices = [align_matrix(face.points) for face in faces]
    ovals = [outline(face.landmarks, matrix) for face, matrix in zip(faces, matrices, strict=True)]
    drawing = np.dstack([np.full((256, 256, 3), 200, np.uint8), np.zeros((256, 256), np.uint8)])
    cv2.ellipse(drawing, (128, 128), (80, 110), 0, 0, 360, (220, 190, 170, 255), -1)
    shown = frames[0].copy()

    def call() -> None:
        for matrix, oval in zip(matrices, ovals, strict=True):
            paste(shown, drawing, matrix, oval)

    return call


def _call(detector, frames: Sequence[np.ndarray]):
    return lambda: detector(frames[0])


def _tables(data: Path, progress: Progress) -> list[tuple[str, list[Person]]]:
    """Held-out rows of the tables that are there; says which are not."""
    tables = []
    for name in TABLES:
        file = data / name / "table.csv"
        if not file.is_file():
            progress.line(f"left out: {file} is not there")
            continue
        if unseen := people_held_out(read_people(file)):
            tables.append((name, unseen))
        else:
            progress.line(f"left out: {file} is too small to hold rows back")
    return tables


def report(result: dict) -> str:
    """The figures for people."""
    lines: list[str] = []
    for table, figures in result.get("search", {}).items():
        if isinstance(figures, dict) and "found" in figures:
            lines.append(f"{table}: a face found in {100 * figures['found']:.2f} % of {figures['pictures']} pictures")
        elif isinstance(figures, dict):
            lines.append(f"{table}: {figures['false']} false faces on {figures['crops']} crops")
        else:
            lines.append(f"{table}: {figures} faces")
    for table, figures in result.get("groups", {}).items():
        lines += ["", table, judge.report(figures)]
        for name, opponent in figures["opponents"].items():
            kids, old, women = opponent["thresholds"]
            lines.append(
                f"{name}: {100 * opponent['balanced_accuracy']:.1f} % at its best thresholds "
                f"(kids under {kids}, elderly from {old}, women over {women:g})"
            )
    if stability := result.get("stability"):
        lines += ["", *(f"{name}: {value}" for name, value in stability["scene"].items())]
        clips = [{**clip, "groups": "+".join(clip["groups"])} for clip in stability["clips"]]
        if clips:
            lines.append(timing.table(clips, {key: key.replace("_", " ") for key in clips[0]}))
    if speed := result.get("speed"):
        lines += ["", timing.table(speed, {"what": "what", "p50_ms": "p50 ms", "p95_ms": "p95 ms", "cpu_ms": "cpu ms"})]
    return "\n".join(lines)


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m benchmarks.faces",
        "Measure the search, the groups, the steadiness and the speed of the faces part.",
        "python -m benchmarks.faces --data data --opponents models/faces --json faces.json",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of all_age_faces, utkface, video"
    )
    parser.add_argument(
        "--opponents", type=Path, metavar="DIR", help="folder of public networks to measure beside ours"
    )
    parser.add_argument("--several", type=Path, metavar="FILE", help="a picture of several people, at its full size")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and figures there")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise UsageError(f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    if not options.data.is_dir():
        raise UsageError(f"--data: {options.data} is no folder")
    if options.opponents and not options.opponents.is_dir():
        raise UsageError(f"--opponents: {options.opponents} is no folder")
    if options.several and not options.several.is_file():
        raise UsageError(f"--several: {options.several} is no file")
    progress = Progress()
    result: dict[str, object] = {"machine": timing.described_machine(PACKAGES)}
    if "search" in parts:
        result["search"] = searched(options.data, options.several, progress)
    if "groups" in parts:
        result["groups"] = sorted_into_groups(options.data, options.opponents, progress)
    if "stability" in parts:
        result["stability"] = steadied(options.data, options.opponents, progress)
    if "speed" in parts:
        result["speed"] = timed()
    print(report(result))
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
