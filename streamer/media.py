"""The video track: the newest camera frame in, the newest cartoon out, one worker between them.

    camera track --_drain--> [newest in] --worker thread--> [newest out] --recv()--> encoder

Nothing queues, so nothing can fall behind: a frame that comes while the worker is busy replaces the one that waits.
Only the worker puts into the out box, and only what the pipeline returned, so a raw frame cannot be sent.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import av
import cv2
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.video.reformatter import VideoReformatter

from livetoon.errors import LivetoonError

LOGGER = logging.getLogger("livetoon.media")

LONGEST_SIDE = 1920  # px; a larger camera picture is made smaller before anything looks at it
TROUBLE = "A frame could not be drawn, so the last good one stays. Should this go on, stop and start again."


class Process(Protocol):
    """What turns a frame into a cartoon: `streamer.styles.Styles`, or one `streamer.pipeline.Pipeline`."""

    def __call__(self, frame: np.ndarray, t: float, settings: Any) -> Any:
        """`frame` (H, W, 3) uint8 RGB at `t` seconds -> a result with `frame`, `faces`, `tracks`, `stages_ms`
        and `notice`, as `streamer.pipeline.Result` has them."""

    def reset(self) -> None:
        """Forget every face, as before a new visitor."""


@dataclass
class Window:
    """What happened since the last report; all times in milliseconds."""

    received: int = 0
    dropped: int = 0
    sent_pts: list[int] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    lead: float | None = None
    faces: int | None = None
    tracks: list[dict[str, Any]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    trouble: str | None = None
    notice: str = ""

    def add(self, stage: str, milliseconds: float) -> None:
        self.stages.setdefault(stage, []).append(milliseconds)


class Newest:
    """A box for one item: a new one replaces the one that was not fetched."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Any = None
        self._closed = False

    def put(self, item: Any) -> bool:
        """Put `item` in; True when it replaced one that nobody fetched."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
            return replaced

    def take(self) -> Any:
        """Wait for an item and take it out; None once the box is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            if self._closed:
                return None
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()


class CartoonTrack(MediaStreamTrack):
    """The track that a visitor gets back: every frame of it was drawn anew, none is sent twice.

    `process` is called in the worker thread only, with settings as `set` last gave them.
    """

    kind = "video"

    def __init__(self, process: Process, settings: Any, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._process = process
        self._settings = settings
        self._clock = clock
        self._in = Newest()
        self._out: tuple[av.VideoFrame, float] | None = None
        self._out_changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._drain_task: asyncio.Task | None = None
        self._window, self._lock = Window(), threading.Lock()
        self._handed_out_at: float | None = None
        self.sent = 0
        self._worker = threading.Thread(target=self._work, name="cartoon", daemon=True)
        self._worker.start()

    def follow(self, camera: MediaStreamTrack) -> None:
        """Read every frame of `camera` from now on, and of no other track."""
        if self._drain_task:
            self._drain_task.cancel()
        self._drain_task = asyncio.ensure_future(self._drain(camera))

    def set(self, settings: Any) -> None:
        """Settings from the next frame on."""
        self._settings = settings

    def milliseconds(self) -> float:
        """The clock that all times of this track are given in."""
        return self._clock() * 1000

    def report(self) -> Window:
        """What happened since the last call."""
        with self._lock:
            window, self._window = self._window, Window()
        return window

    async def recv(self) -> av.VideoFrame:
        """The next new cartoon frame, in yuv420p; waits until there is one."""
        if self._handed_out_at is not None:
            # The sender asks again when it has encoded and sent the frame that it got before.
            with self._lock:
                self._window.add("encode", self.milliseconds() - self._handed_out_at)
            self._handed_out_at = None
        while self._out is None:
            if self.readyState != "live":
                raise MediaStreamError
            self._out_changed.clear()
            await self._out_changed.wait()
        (frame, ready_at), self._out = self._out, None
        self.sent += 1
        self._handed_out_at = self.milliseconds()
        with self._lock:
            self._window.sent_pts.append(frame.pts)
            self._window.add("wait for encoder", self._handed_out_at - ready_at)
        return frame

    def stop(self) -> None:
        """End the track and its worker; a frame in work is finished and thrown away."""
        super().stop()
        if self._drain_task:
            self._drain_task.cancel()
        self._in.close()
        self._out = None
        self._out_changed.set()

    def ended(self) -> None:
        """Wait, after `stop`, until the worker is done."""
        self._worker.join()

    async def _drain(self, camera: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await camera.recv()
                arrived = self.milliseconds()
                replaced = self._in.put((frame, arrived))
                lead = arrived - float(frame.pts * frame.time_base) * 1000
                with self._lock:
                    self._window.received += 1
                    self._window.dropped += replaced
                    self._window.lead = lead if self._window.lead is None else min(lead, self._window.lead)

    def _work(self) -> None:
        to_rgb = VideoReformatter()
        said = ""
        while (item := self._in.take()) is not None:
            camera_frame, arrived = item
            try:
                cartoon = self._draw(camera_frame, arrived, to_rgb)
            except Exception as error:  # the outermost edge of the worker: a frame is lost, never shown raw
                # Once, not thirty times a second while it lasts.
                level = logging.DEBUG if str(error) == said else logging.ERROR
                LOGGER.log(
                    level, "frame not drawn: %s: %s", type(error).__name__, error, exc_info=LOGGER.isEnabledFor(10)
                )
                said = str(error)
                sentence = str(error) if isinstance(error, LivetoonError) else TROUBLE
                with self._lock:
                    self._window.trouble = sentence
                continue
            # The loop may be gone already when the server stops.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._offer, cartoon, self.milliseconds())

    def _draw(self, camera_frame: av.VideoFrame, arrived: float, to_rgb: VideoReformatter) -> av.VideoFrame:
        taken = self.milliseconds()
        rgb = rgb_of(camera_frame, to_rgb)
        converted = self.milliseconds()
        result = self._process(rgb, float(camera_frame.pts * camera_frame.time_base), self._settings)
        drawn = self.milliseconds()
        cartoon = yuv_of(result.frame)
        cartoon.pts, cartoon.time_base = camera_frame.pts, camera_frame.time_base
        done = self.milliseconds()
        with self._lock:
            window = self._window
            window.faces, window.size = len(result.faces), (cartoon.width, cartoon.height)
            window.tracks = result.tracks
            window.notice = result.notice
            window.add("wait for worker", taken - arrived)
            window.add("colour in", converted - taken)
            for stage, milliseconds in result.stages_ms.items():
                window.add(stage, milliseconds)
            window.add("colour out", done - drawn)
        return cartoon

    def _offer(self, cartoon: av.VideoFrame, ready_at: float) -> None:
        if self.readyState == "live":
            self._out = (cartoon, ready_at)
            self._out_changed.set()


def rgb_of(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded frame; sides even and at most `LONGEST_SIDE`. 0.2 ms at 640x480."""
    scale = min(1.0, LONGEST_SIDE / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale) & ~1) for side in (frame.width, frame.height))
    # One thread: handing 640x480 to a second one costs more than it saves, and p95 falls from 1.8 to 0.2 ms.
    return reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1).to_ndarray()


def yuv_of(rgb: np.ndarray) -> av.VideoFrame:
    """A yuv420p frame of (H, W, 3) uint8 RGB with even sides: 0.3 ms at 640x480, where the reformatter takes 1.4."""
    return av.VideoFrame.from_numpy_buffer(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), "yuv420p")
