"""For the tests of live video: a small process instead of the networks, a camera, and a visitor without a browser."""

import asyncio
import fractions
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from livetoon.errors import UsageError

CLOCK = fractions.Fraction(1, 90000)
TRACKS = [{"track": 3, "box": [0.25, 0.2, 0.5, 0.6], "group": "kids", "by_hand": False}]


@dataclass(frozen=True)
class Settings:
    """What `streamer.pipeline.Settings` has, without its networks."""

    group: str = "auto"
    strength: float = 1.0
    tone: float = 0.0
    faces: dict = field(default_factory=dict)
    style: str = ""

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise UsageError(f"strength must be a number from 0 to 1, got {self.strength}")


class Inverting:
    """A process that is as quick as it is told: every frame comes back as its negative."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.times: list[float] = []
        self.settings: list[Settings] = []
        self.fails = False
        self.notice = ""
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def __call__(self, frame: np.ndarray, t: float, settings: Settings) -> SimpleNamespace:
        time.sleep(self.seconds)
        if self.fails:
            raise ValueError("as the test wants it")
        self.times.append(t)
        self.settings.append(settings)
        told = {"stages_ms": {"generator": 1.0}, "notice": self.notice}
        return SimpleNamespace(frame=255 - frame, faces=(1,), tracks=TRACKS, **told)


class GreyCamera(MediaStreamTrack):
    """A camera of plain grey frames, each a little brighter, in real time; `size` may change on the way."""

    kind = "video"

    def __init__(self, size: tuple[int, int] = (64, 48), fps: float = 30, frames: int | None = None):
        super().__init__()
        self.size = size
        self._step, self._left = 1 / fps, frames
        self._began = time.monotonic()
        self.sent = 0

    async def recv(self) -> av.VideoFrame:
        if self._left is not None and self.sent >= self._left:
            self.stop()
            raise MediaStreamError
        await asyncio.sleep(max(0.0, self._began + self.sent * self._step - time.monotonic()))
        width, height = self.size
        grey = np.full((height, width, 3), 20 + self.sent % 200, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = round(self.sent * self._step * 90000), CLOCK
        self.sent += 1
        return frame


class Visitor:
    """A page without a browser: offers video and a data channel, keeps what comes back."""

    def __init__(self, camera: MediaStreamTrack | None = None, channel: bool = True):
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.camera = camera or GreyCamera()
        self.peer.addTransceiver(self.camera, direction="sendrecv")
        self.channel = self.peer.createDataChannel("livetoon") if channel else None
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.frames: asyncio.Queue[av.VideoFrame] = asyncio.Queue()
        self._reader: asyncio.Task | None = None
        self.peer.on("track", self._on_track)
        if self.channel:
            self.channel.on("message", self.messages.put_nowait)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._reader = asyncio.ensure_future(self._read(track))

    async def _read(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                self.frames.put_nowait(await track.recv())
        except MediaStreamError:
            pass

    async def offer(self) -> str:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def accept(self, answer: str) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

    async def close(self) -> None:
        if self._reader:
            self._reader.cancel()
        await self.peer.close()


async def until(happened: Callable[[], object], seconds: float = 10.0) -> object:
    """The first true value of `happened`, or an AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := happened()):
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        await asyncio.sleep(0.02)
    return value
