"""Detectors that the user brings, for the wide search: `--detector yunet:FILE.onnx` or `insightface:PACK`.

Each is checked before anything slow is opened, and then works as the shipped ones do.
"""

import contextlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from faces.detect import Detection, Detector, fit_into, to_frame
from livetoon.errors import EngineError, ModelError, UsageError

log = logging.getLogger("livetoon.faces")

SHIPPED = "shipped"
LONG, SHORT = 320, 256  # px, sides of what they search, as the shipped wide search has them


class Brought(Detector):
    """What they share: the library works in a thread of its own, so that a frame can be drawn meanwhile."""

    def __init__(self):
        super().__init__()
        self._worker = ThreadPoolExecutor(1, "detector")

    @staticmethod
    def check(what: str) -> None:
        """Whether `what`, which stands behind the colon, can be had; UsageError or EngineError when not."""
        raise NotImplementedError

    def _begin(self, frame: np.ndarray) -> Callable[[], list[Detection]]:
        upright = frame.shape[0] > frame.shape[1]
        small, scale = fit_into(frame, *((LONG, SHORT) if upright else (SHORT, LONG)))
        return self._worker.submit(self._search, cv2.cvtColor(small, cv2.COLOR_RGB2BGR), scale).result

    def _search(self, small: np.ndarray, scale: float) -> list[Detection]:
        """small: (h, w, 3) uint8 BGR, `scale` of its px are one px of the frame -> faces in the frame, best first."""
        raise NotImplementedError


class YuNet(Brought):
    """A YuNet file, as the OpenCV Zoo has it, run by OpenCV. ModelError when it is none."""

    def __init__(self, file: str | Path, threshold: float = 0.6):
        super().__init__()
        try:
            self._net = cv2.FaceDetectorYN.create(str(file), "", (LONG, SHORT), threshold)
            self._net.detect(np.zeros((SHORT, LONG, 3), np.uint8))
        except cv2.error as error:
            raise ModelError(
                f"{file} is no YuNet that OpenCV {cv2.__version__} can run; take one from the OpenCV Zoo, as "
                "face_detection_yunet_2023mar.onnx"
            ) from error

    @staticmethod
    def check(what: str) -> None:
        if not Path(what).is_file():
            raise UsageError(f"--detector yunet:{what}: there is no such file; name a YuNet file of the OpenCV Zoo.")

    def _search(self, small: np.ndarray, scale: float) -> list[Detection]:
        self._net.setInputSize(small.shape[1::-1])
        _, rows = self._net.detect(small)
        found = []
        for row in [] if rows is None else rows:
            box = np.concatenate([row[:2], row[:2] + row[2:4]])
            found.append(Detection(to_frame(box, scale), to_frame(row[4:14].reshape(5, 2), scale), float(row[14])))
        return sorted(found, key=lambda detection: -detection.score)


class InsightFace(Brought):
    """The detector of an InsightFace pack, which InsightFace itself keeps in the user's folder, or downloads."""

    def __init__(self, pack: str):
        super().__init__()
        log.info("InsightFace: the models of its packs are for non-commercial research only")
        try:
            # It tells its story on standard output, where commands print results.
            with contextlib.redirect_stdout(sys.stderr):
                from insightface.app import FaceAnalysis

                self._app = FaceAnalysis(name=pack, allowed_modules=["detection"])
                self._app.prepare(ctx_id=-1, det_size=(LONG, LONG))
        except Exception as error:  # its download, its assertions and ONNX Runtime share no base class
            said = next(iter(str(error).strip().splitlines()), "it does not say why")
            raise ModelError(
                f"InsightFace cannot open pack {pack} ({type(error).__name__}: {said}); name one that it has or can "
                "download, as buffalo_l"
            ) from error

    @staticmethod
    def check(what: str) -> None:
        if importlib.util.find_spec("insightface") is None:
            raise EngineError(
                f"--detector insightface:{what}: InsightFace is not installed; pip install insightface onnxruntime "
                "(it downloads the pack itself, and its models are for non-commercial research only)"
            )

    def _search(self, small: np.ndarray, scale: float) -> list[Detection]:
        found = [
            Detection(
                to_frame(np.asarray(face.bbox, np.float32), scale),
                to_frame(np.asarray(face.kps, np.float32), scale),
                float(face.det_score),
            )
            for face in self._app.get(small)
        ]
        return sorted(found, key=lambda detection: -detection.score)


BROUGHT: dict[str, type[Brought]] = {"yunet": YuNet, "insightface": InsightFace}


def check(name: str) -> None:
    """Whether the detector `name` can be had, before anything slow is opened.

    >>> check("shipped")

    UsageError for a name that is none and for a file that is missing, EngineError when InsightFace is not installed.
    """
    kind, _, what = name.partition(":")
    if name == SHIPPED:
        return
    if kind not in BROUGHT or not what:
        raise UsageError(f"--detector {name}: choose {SHIPPED}, yunet:FILE.onnx or insightface:PACK, as buffalo_l.")
    BROUGHT[kind].check(what)


def wide_search(name: str) -> Detector | None:
    """The detector `name`, opened; None for the shipped one. Raises what `check` raises, and ModelError."""
    check(name)
    kind, _, what = name.partition(":")
    return None if name == SHIPPED else BROUGHT[kind](what)
