"""One visitor: a peer connection, the cartoon track, and a data channel for settings, statistics and a heartbeat.

Messages on the data channel are JSON objects with a `type`:

    page -> server   settings  the fields of `streamer.pipeline.Settings` that change; `faces` says all there is to say
                               of single faces, tracks that are not in the picture are ignored
                     ping      `page`: the page's clock in ms; every message is also a sign of life
    server -> page   stats     twice a second, see `Session._statistics`
                     pong      `page` as it came, `server`: the server's clock in ms
                     refused   `sentence`: why a message was not understood; the settings stay as they were
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from aiortc import (
    InvalidStateError,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcicetransport import parse_stun_turn_uri

from livetoon.errors import CameraError, LivetoonError, UsageError
from streamer.encoders import CODECS, START_BPS
from streamer.media import CartoonTrack, Process

LOGGER = logging.getLogger("livetoon.session")

REPORT_EVERY_S = 0.5
SILENCE_S = 3.0  # the page speaks twice a second: after this it was killed or lost, 28 s before the transport notices
CONNECT_WITHIN_S = 10.0  # an offer that never connects gives its place back after this
LAST_STAGES = ("colour out", "wait for encoder", "encode")
LONGEST_MESSAGE = 4096  # characters; the longest message of the page has about 200


@dataclasses.dataclass(frozen=True)
class Transport:
    """How video travels: the codec that is tried first, its start bitrate, and ICE servers (none: same network)."""

    codec: str = "h264"
    start_bps: int = START_BPS
    ice: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise UsageError(f"--codec {self.codec}: choose one of {', '.join(CODECS)}")


class Session:
    """One visitor from the offer to the end; `on_closed` is called exactly once, whatever ended it."""

    def __init__(
        self,
        process: Process,
        settings: Any,
        styles: Mapping[str, Sequence[str]],
        transport: Transport,
        on_closed: Callable[["Session"], None],
    ) -> None:
        self._settings = settings
        self._styles = styles
        self._transport = transport
        self._on_closed = on_closed
        self.process = process
        self._track = CartoonTrack(process, settings)
        servers = [ice_server(url) for url in transport.ice]
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._channel: RTCDataChannel | None = None
        self._heard_at = time.monotonic() + CONNECT_WITHIN_S - SILENCE_S
        self._watch_task: asyncio.Task | None = None
        self._closing: asyncio.Task | None = None
        self._connection.on("track", self._on_track)
        self._connection.on("datachannel", self._on_channel)
        self._connection.on("connectionstatechange", self._on_state)

    async def answer(self, offer: str) -> str:
        """The SDP answer to the page's SDP offer. CameraError when the offer cannot be answered."""
        check_offer(offer)
        transceiver = self._connection.addTransceiver(self._track, direction="sendrecv")
        wanted = CODECS[self._transport.codec]
        # aiortc reads preferences while it applies the offer: set later, they are ignored.
        capabilities = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences(sorted(capabilities, key=lambda codec: codec.mimeType != wanted))
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except Exception as error:  # aiortc raises whatever its parser stumbles on
            LOGGER.debug("offer refused", exc_info=True)
            raise CameraError("The offer could not be read: reload the page and start again.") from error
        self._watch_task = asyncio.ensure_future(self._watch())
        return with_start_bitrate(self._connection.localDescription.sdp, self._transport.start_bps)

    def close(self) -> asyncio.Task:
        """Begin to close, once: the place is free at once, the task ends when everything is let go."""
        if self._closing is None:
            self._track.stop()
            self._on_closed(self)
            self._closing = asyncio.ensure_future(self._close())
        return self._closing

    async def ended(self) -> None:
        """Wait until nothing is drawn for this visitor any more."""
        await asyncio.to_thread(self._track.ended)

    async def _close(self) -> None:
        if self._watch_task:
            self._watch_task.cancel()
        await self._connection.close()

    def _on_track(self, camera: MediaStreamTrack) -> None:
        self._track.follow(camera)

    def _on_channel(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        self._heard_at = time.monotonic()
        channel.on("message", self._on_message)
        channel.on("close", self.close)

    def _on_state(self) -> None:
        if self._connection.connectionState in ("failed", "closed"):
            self.close()

    def _on_message(self, text: str | bytes) -> None:
        self._heard_at = time.monotonic()
        try:
            self._obey(text)
        except LivetoonError as error:
            self._send({"type": "refused", "sentence": str(error)})

    def _obey(self, text: str | bytes) -> None:
        if not isinstance(text, str) or len(text) > LONGEST_MESSAGE:
            raise UsageError("A message must be a short text of JSON: reload the page.")
        try:
            message = json.loads(text)
            kind = message.pop("type")
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
            raise UsageError("A message must be a JSON object with a type: reload the page.") from error
        if kind == "ping":
            self._send({"type": "pong", "page": message.get("page"), "server": self._track.milliseconds()})
        elif kind == "settings":
            if message.get("style", self._settings.style) != self._settings.style:
                message.setdefault("faces", {})  # a style follows faces anew: their numbers are other people's
            settings = changed(self._settings, message)
            check_choice(settings, self._styles)
            self._settings = settings
            self._track.set(settings)
        else:
            raise UsageError(f"A message of the type {str(kind)[:40]!r} is not known: reload the page.")

    async def _watch(self) -> None:
        while time.monotonic() - self._heard_at < SILENCE_S:
            await asyncio.sleep(REPORT_EVERY_S)
            if self._channel:
                self._send(self._statistics())
        LOGGER.info("a visitor fell silent for %.0f s and is let go", SILENCE_S)
        # close() cancels this task, so it must not wait for it.
        self.close()

    def _statistics(self) -> dict[str, Any]:
        """`lead`: the least (arrival - timestamp) of the frames that came, from which the page learns when a frame
        was taken; `timestamps`: of the frames sent, 90 kHz; `stages`: mean milliseconds; counts since the last;
        `tracks`: the faces of the last frame, see `Result.tracks`, for this visitor's own page alone."""
        window = self._track.report()
        return {
            "type": "stats",
            "server": round(self._track.milliseconds(), 1),
            "sent": self._track.sent,
            "received": window.received,
            "dropped": window.dropped,
            "faces": window.faces,  # null while no frame was drawn
            "tracks": window.tracks,
            "size": window.size,
            "lead": window.lead,
            "timestamps": window.sent_pts,
            "stages": {stage: round(fmean(window.stages[stage]), 2) for stage in in_order(window.stages)},
            "trouble": window.trouble,
            "notice": window.notice,  # shown for a while when it is another one
        }

    def _send(self, message: dict[str, Any]) -> None:
        # The channel closes before this hears of it; a message to a visitor who left is not missed.
        with contextlib.suppress(InvalidStateError, ConnectionError):
            if self._channel and self._channel.readyState == "open":
                self._channel.send(json.dumps(message))


def ice_server(url: str) -> RTCIceServer:
    """A STUN or TURN server from `stun:host[:port]` or `turn[s]:[user:password@]host[:port][?transport=tcp]`.

    >>> ice_server("turn:ann:secret@turn.example.org").username
    'ann'
    """
    kind, _, rest = url.partition(":")
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    plain = f"{kind}:{place}"
    try:
        parse_stun_turn_uri(plain)
    except ValueError as error:
        raise UsageError(f"--ice {kind}: not like stun:stun.example.org:3478 or turn:user:password@host.") from error
    return RTCIceServer(urls=plain, username=user or None, credential=password or None)


def in_order(stages: Iterable[str]) -> list[str]:
    """`stages` as a frame goes through them: the worker notes the middle ones, the sender notes the last two."""
    return sorted(stages, key=lambda stage: LAST_STAGES.index(stage) if stage in LAST_STAGES else -1)


def check_offer(sdp: str) -> None:
    """CameraError unless `sdp` offers one video that is sent and received, a data channel, and nothing else."""
    if not sdp.startswith("v=0"):
        raise CameraError("The offer is not a session description: reload the page and start again.")
    sections = [section.splitlines() for section in ("\n" + sdp).split("\nm=")[1:]]
    kinds = sorted(section[0].split(" ")[0] for section in sections)
    if kinds != ["application", "video"]:
        raise CameraError("The offer must hold one video and one data channel: reload the page and start again.")
    video = next(section for section in sections if section[0].startswith("video"))
    if {"a=recvonly", "a=sendonly", "a=inactive"} & {line.strip() for line in video}:
        raise CameraError("The offer's video must be sent and received: choose a camera and start again.")


def check_choice(settings: Any, styles: Mapping[str, Sequence[str]]) -> None:
    """UsageError for a style that is not open, or a group that it lacks."""
    style = settings.style or next(iter(styles))
    if style not in styles:
        raise UsageError(f"There is no style {style[:40]!r}; there are {', '.join(styles)}.")
    groups = ("auto", *styles[style])
    for group in (settings.group, *settings.faces.values()):
        if group not in groups:
            raise UsageError(f"There is no group {group[:40]!r}; there are {', '.join(groups)}.")


def changed(settings: Any, fields: dict[str, Any]) -> Any:
    """`settings` (a frozen dataclass) with `fields` changed; UsageError names a field that it does not have."""
    known = {field.name for field in dataclasses.fields(settings)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise UsageError(f"There is no setting {unknown[0][:40]!r}; there are {', '.join(sorted(known))}.")
    try:
        return dataclasses.replace(settings, **fields)
    except (TypeError, ValueError) as error:
        raise UsageError(f"A setting has a value of the wrong kind: {error}") from error


def with_start_bitrate(answer: str, bps: int) -> str:
    """`answer` with the browser's start bitrate: without it Chromium begins at 300 kb/s with smaller pictures."""
    lines, hint = [], f"x-google-start-bitrate={bps // 1000}"
    described = {line.split(" ")[0] for line in answer.splitlines() if line.startswith("a=fmtp:")}
    for line in answer.splitlines():
        payload = line.split(" ")[0].removeprefix("a=rtpmap:").removeprefix("a=fmtp:")
        if line.startswith("a=fmtp:") and "apt=" not in line:
            line += f";{hint}"
        lines.append(line)
        is_video = line.startswith("a=rtpmap:") and line.split(" ")[1].split("/")[0] in ("VP8", "H264")
        if is_video and f"a=fmtp:{payload}" not in described:
            lines.append(f"a=fmtp:{payload} {hint}")
    return "\r\n".join(lines) + "\r\n"
