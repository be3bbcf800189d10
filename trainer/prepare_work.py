"""The tasks of a preparation, on several threads: a picture becomes a crop in OUT, or a reason why not."""

import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import cv2
import numpy as np

from faces.groups import shares
from faces.landmarks import FaceMesh
from faces.looks import Looker
from faces.pictures import read
from faces.public_crop import PHOTO2CARTOON
from faces.still import FaceFinder, Found
from livetoon.errors import DataError
from livetoon.files import replacing, sha256
from trainer.data import segmenter
from trainer.prepare_face import aligned, head_corners, on_white, perceptual_hash, sharpness
from trainer.prepare_plan import TOLD_APART, Settings, Task, dropped, whole
from trainer.prepare_report import Journal

SHOWN_AFTER_S, SHOWN_EVERY_S, LINE_EVERY_S = 2.0, 0.5, 10.0  # progress: from when, how often, how often in a log


class Worker:
    """Does one picture after the other; each thread that calls has networks of its own."""

    def __init__(self, out: Path, settings: Settings, journal: Journal):
        self._out, self._settings, self._journal = out, settings, journal
        self._segment = segmenter(settings.masks) if settings.masks else None
        self._own = threading.local()

    def __call__(self, task: Task) -> bool:
        """Returns whether there was anything to do."""
        entry = {"domain": self._settings.domain, "source": str(task.path), "settings": task.key, "name": task.name}
        try:
            entry["sha256"] = sha256(task.path)
        except OSError:
            entry["sha256"] = ""  # `read` says what is wrong with it
        before = self._journal.entries.get((entry["domain"], entry["source"]))
        if before and _same(before, entry) and entry["sha256"] and whole(before, self._out):
            return False
        picture, facts = self._cut(task)
        if before and before.get("file"):
            (self._out / before["file"]).unlink(missing_ok=True)
        self._journal.add(entry | facts)
        if picture is not None:
            self._write(self._out / facts["file"], picture)
        return True

    def _cut(self, task: Task) -> tuple[np.ndarray | None, dict]:
        """The crop, (S, S, 3) uint8 RGB or None, and what its entry says."""
        settings = self._settings
        if task.refused:
            return None, dropped("no group", task.refused)
        try:
            picture = read(task.path)
        except DataError as error:
            return None, dropped("unreadable", str(error).removeprefix(f"{task.path}: "))
        width, height = picture.shape[1::-1]
        if task.size not in (None, (width, height)):
            photo = "{}x{}".format(*task.size)
            return None, dropped("no face", f"{width}x{height} px, but its photo has {photo}: not drawn over it")
        if task.points is not None:
            found = Found(np.array(task.points, np.float32), 1)
        else:
            if not hasattr(self._own, "find"):
                self._own.find = FaceFinder(settings.domain)
            found = self._own.find(picture)
        if found is None:
            hint = "; needs points" if settings.domain == "cartoon" else ""
            return None, dropped("no face", f"no face found{hint}")
        if not _inside(found.points, picture):
            return None, dropped("no face", f"its points lie beside the picture of {width}x{height} px")
        corners = task.corners
        if corners is None and settings.crop == PHOTO2CARTOON:
            corners = self._corners(picture, found.points)
            if corners is None:
                return None, dropped("no face", f"its 68 points were not found, which --crop {settings.crop} needs")
        face = aligned(picture, found.points, settings.size, corners)
        known = {
            "side_px": round(found.side, 1),
            "sharpness": round(sharpness(face), 3),
            "faces": found.faces,
            "picture": [width, height],
            "points": [[round(float(value), 1) for value in point] for point in found.points],
            "points_from": "table" if task.points is not None else "search",
        }
        if corners is not None:
            known["corners"] = [[round(float(value), 2) for value in corner] for corner in corners]
        if found.side < settings.min_side:
            return None, known | dropped("tiny", f"face {found.side:.0f} px wide, under {settings.min_side:g}")
        if known["sharpness"] < settings.min_sharpness:
            return None, known | dropped(
                "blurred", f"sharpness {known['sharpness']:.2f}, under {settings.min_sharpness:g}"
            )
        group = task.group or self._look(face)
        if group not in (settings.groups or (group,)):
            return None, known | dropped("no group", f"looks like {group}, which is not wanted")
        code = perceptual_hash(face)
        if self._segment is not None:
            face = on_white(face, self._segment(face))
        file = f"{group}/{settings.domain}/{task.name}.{settings.format}"
        return face, known | {"status": "kept", "group": group, "file": file, "hash": code}

    def _corners(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        if not hasattr(self._own, "fit"):
            self._own.fit = FaceMesh()
        return head_corners(picture, points, self._own.fit)

    def _look(self, face: np.ndarray) -> str:
        """Whom the face looks like, of `TOLD_APART`."""
        if not hasattr(self._own, "look"):
            self._own.look = Looker()
        return TOLD_APART[int(shares(self._own.look(face), TOLD_APART).argmax())]

    def _write(self, path: Path, picture: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # 95 without thinned colours: lines of a drawing keep their edges.
        how = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(path.suffix, bgr, how if path.suffix == ".jpg" else [])
        with replacing(path) as temporary:
            temporary.write_bytes(encoded.tobytes())


def _inside(points: np.ndarray, picture: np.ndarray) -> bool:
    """Whether the middle of the points lies in the picture; some of them may lie outside of it."""
    return bool((points.mean(axis=0) >= 0).all() and (points.mean(axis=0) < picture.shape[1::-1]).all())


def _same(before: dict, now: dict) -> bool:
    return before.get("sha256") == now["sha256"] and before.get("settings") == now["settings"]


def in_parallel(tasks: list[Task], worker: Worker, jobs: int) -> int:
    """Returns how many tasks there was anything to do for. Threads, for the work is done outside of Python."""
    progress = _Progress(len(tasks))
    fresh = 0
    waiting = iter(tasks)
    pool = ThreadPoolExecutor(jobs)
    running = {pool.submit(worker, task) for _, task in zip(range(2 * jobs), waiting, strict=False)}
    try:
        while running:
            # Not longer, so that Ctrl-C is heard on every system.
            finished, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            fresh += sum(future.result() for future in finished)
            running |= {pool.submit(worker, task) for _, task in zip(finished, waiting, strict=False)}
            progress.show(len(finished))
    except KeyboardInterrupt:
        print(f"\n{progress.done} of {len(tasks)} done and kept; the same command goes on from there", file=sys.stderr)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        progress.end()
    return fresh


class _Progress:
    """A line on standard error, once there is something to wait for."""

    def __init__(self, count: int):
        self.done, self._count = 0, count
        self._next = time.monotonic() + SHOWN_AFTER_S
        self._began: float | None = None  # with the first pictures done: before them the networks are opened
        self._before = 0
        self._shown = False

    def show(self, more: int) -> None:
        self.done += more
        now = time.monotonic()
        if self._began is None and self.done:
            self._began, self._before = now, self.done
        if now < self._next or self.done == self._before:
            return
        left = (now - self._began) / (self.done - self._before) * (self._count - self.done)
        line = f"{self.done} of {self._count} pictures, {left:.0f} s left"
        on_screen = sys.stderr.isatty()
        print(f"\r{line} " if on_screen else line, end="" if on_screen else "\n", file=sys.stderr, flush=True)
        self._shown = on_screen
        self._next = now + (SHOWN_EVERY_S if on_screen else LINE_EVERY_S)

    def end(self) -> None:
        if self._shown:
            print(file=sys.stderr)
