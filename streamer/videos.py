"""Video files: every frame drawn, sound and subtitles copied as they are, times kept frame by frame."""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from livetoon.errors import DataError

COPIED = ("audio", "subtitle")
HD_LINES = 720  # from here on video is in the colours of BT.709, below in those of BT.601
LOST_END_S = 1.0  # a video that ends so much earlier than its file says was cut off
LONGEST_NOTE = 1000  # characters of a tag that is kept: room for a description, not for a cover picture in base64
AVI_PLACES = 120  # a second, at most, for frames at uneven times; a frame between two places moves by 4 ms

Draw = Callable[[np.ndarray, float], np.ndarray]


def convert(source: Path, target: Path, draw: Draw, progress: Callable[[float], None]) -> int:
    """Draw every frame of `source` into `target`, whose ending says the format; the number of frames.

    `draw` gets (H, W, 3) uint8 RGB, upright, and its time in seconds; `progress` hears the share that is done.
    DataError when `source` cannot be read to its end or `target` cannot hold what is in it. Cover pictures are not
    copied: they would show what was drawn over.
    """
    if source.stat().st_size == 0:
        raise DataError(f"{source} is empty (0 bytes): copy it again.")
    try:
        incoming = av.open(f"file:{source}", metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        _raise_of_system(error)
        raise DataError(f"{source} is not a video that can be read, or it is damaged: copy it again.") from error
    with incoming:
        video = next((stream for stream in incoming.streams.video if not _is_cover(stream)), None)
        if video is None:
            raise DataError(f"{source} holds no moving picture: give a file with video.")
        try:
            with av.open(f"file:{target}", "w", options=_options(target)) as outgoing:
                outgoing.metadata.update(_notes(incoming))
                frames = _Conversion(source, incoming, video, outgoing, target, draw, progress).run()
        except av.error.FFmpegError as error:
            _raise_of_system(error)
            held = " and ".join(_codec(stream) for stream in incoming.streams if stream.type in COPIED)
            another = "OUT that ends in .mkv" if target.suffix.lower() != ".mkv" else "IN with other sound"
            raise DataError(
                f"{target.suffix} cannot hold what {source} holds ({held or 'no sound'}; {error.strerror}): "
                f"choose an {another}."
            ) from error
    _check_whole(target, frames)
    return frames


class _Conversion:
    """One video on its way; `run` reads packets in the order of the file and hands them on."""

    def __init__(
        self,
        source: Path,
        incoming: av.container.InputContainer,
        video: av.VideoStream,
        outgoing: av.container.OutputContainer,
        target: Path,
        draw: Draw,
        progress: Callable[[float], None],
    ) -> None:
        self._source, self._incoming, self._outgoing = source, incoming, outgoing
        self._video, self._target, self._draw, self._progress = video, target, draw, progress
        self._video.thread_type = "AUTO"
        self._to_rgb, self._to_yuv = VideoReformatter(), VideoReformatter()
        self._encoder: av.VideoStream | None = None
        self._copies: dict[int, av.stream.Stream] = {}
        self._last_pts: int | None = None
        # An AVI stores when a packet is decoded, not when its frame is shown: the frames, which come in the order of
        # showing, take the packets' times in turn.
        self._times: deque[int] | None = deque() if incoming.format.name == "avi" else None
        self._avi_rate = max(self._rate(), min(video.guessed_rate or 0, AVI_PLACES)) if _is_avi(target) else None
        self._last_place = -1
        self._seconds = 0.0
        self._starts = (incoming.start_time or 0) / av.time_base
        self._length = (incoming.duration or 0) / av.time_base  # seconds; 0 when the file does not say
        self._reached = 0.0

    def run(self) -> int:
        """Convert all of it; the number of frames."""
        waiting: list[av.Packet] = []  # sound before the first frame, which says how large the video is
        count = 0
        for packet in self._packets():
            if packet.pts is not None:
                ends = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._reached = max(self._reached, ends - self._starts)
            if packet.stream.type in COPIED:
                waiting.append(packet)
            else:
                for frame in self._decode(packet):
                    self._encode(frame)
                    count += 1
            if self._encoder is not None:
                self._copy(waiting)
        if self._encoder is None:
            raise DataError(f"{self._source} holds no frame that can be read: it is damaged, copy it again.")
        self._mux(self._encoder.encode(None))
        self._check_end()
        return count

    def _packets(self) -> Iterator[av.Packet]:
        copied = [stream for stream in self._incoming.streams if stream.type in COPIED]
        try:
            yield from self._incoming.demux([self._video, *copied])
        except av.error.FFmpegError as error:
            _raise_of_system(error)
            raise self._damaged() from error

    def _copy(self, waiting: list[av.Packet]) -> None:
        for packet in waiting:
            if packet.dts is not None:  # the empty packet at the end of a stream has none
                packet.stream = self._copies[packet.stream.index]
                self._outgoing.mux(packet)
        waiting.clear()

    def _decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        if self._times is not None and packet.dts is not None:
            self._times.append(packet.dts)
        try:
            return packet.decode()
        except av.error.DecoderNotFoundError as error:
            raise DataError(
                f"{self._source} is coded in a way that cannot be read here ({_codec(self._video)}): "
                "convert it to H.264 first."
            ) from error
        except av.error.FFmpegError as error:
            raise self._damaged() from error

    def _damaged(self) -> DataError:
        return DataError(f"{self._source} is damaged after {self._seconds:.1f} s: copy it again.")

    def _encode(self, frame: av.VideoFrame) -> None:
        pts = self._time(frame)
        rgb = _upright(self._to_rgb.reformat(frame, format="rgb24").to_ndarray(), frame.rotation)
        drawn = _even(self._draw(np.ascontiguousarray(rgb), self._seconds))
        if self._encoder is None:
            self._encoder = self._open_encoder(drawn.shape[1], drawn.shape[0])
            self._open_copies()
        hd = drawn.shape[0] >= HD_LINES
        cartoon = self._to_yuv.reformat(
            av.VideoFrame.from_ndarray(drawn, "rgb24"),
            width=self._encoder.width,  # a video whose size changes on the way keeps its first one
            height=self._encoder.height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709 if hd else Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
        )
        cartoon.pts, cartoon.time_base = self._place(pts), self._encoder.codec_context.time_base
        self._mux(self._encoder.encode(cartoon))
        if self._length:
            self._progress(min(1.0, self._reached / self._length))

    def _time(self, frame: av.VideoFrame) -> int:
        """The frame's time in steps of the stream, later than the one before even where the file does not say so."""
        step = max(1, round(1 / (self._rate() * self._video.time_base)))
        pts = frame.pts
        if self._times is not None:
            pts = self._times.popleft() if self._times else None
        if pts is None:
            pts = 0 if self._last_pts is None else self._last_pts + step
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1
        self._last_pts = pts
        self._seconds = float(pts * self._video.time_base)
        return pts

    def _place(self, pts: int) -> int:
        """The frame's time in steps of the file that is written: an AVI has places at a constant rate."""
        if self._avi_rate is None:
            return pts
        self._last_place = max(round(pts * self._video.time_base * self._avi_rate), self._last_place + 1)
        return self._last_place

    def _rate(self) -> Fraction:
        return self._video.average_rate or self._video.guessed_rate or Fraction(25)

    def _open_encoder(self, width: int, height: int) -> av.VideoStream:
        webm = self._target.suffix.lower() == ".webm"
        made = self._outgoing.add_stream("libvpx-vp9" if webm else "libx264", rate=self._avi_rate or self._rate())
        made.width, made.height, made.pix_fmt = width, height, "yuv420p"
        made.codec_context.time_base = 1 / self._avi_rate if self._avi_rate else self._video.time_base
        made.codec_context.color_range = ColorRange.MPEG
        made.codec_context.colorspace = 1 if height >= HD_LINES else 6  # BT.709, or SMPTE 170M as BT.601 is called
        # Nearly no loss is seen, and encoding takes less time than drawing.
        quality = {"crf": "28", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"}
        made.codec_context.options = quality if webm else {"crf": "18", "preset": "veryfast"}
        if self._avi_rate:  # without the times of showing, frames must be written in that order
            made.codec_context.options |= {"bf": "0"}
        made.metadata.update(_notes(self._video))
        return made

    def _open_copies(self) -> None:
        for stream in self._incoming.streams:
            if stream.type in COPIED:
                if stream.codec_context is None:
                    raise DataError(
                        f"{self._source} has {stream.type} of an unknown kind, which cannot be copied: "
                        "write the video without it first (ffmpeg -i IN -map 0:v -c copy OUT)."
                    )
                try:
                    self._copies[stream.index] = self._outgoing.add_stream_from_template(stream, opaque=True)
                except ValueError as error:
                    raise DataError(
                        f"{self._target.suffix} cannot hold the {stream.type} of {self._source} "
                        f"({_codec(stream)}): choose an OUT that ends in .mkv."
                    ) from error

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._outgoing.mux(packet)

    def _check_end(self) -> None:
        if self._reached < self._length - LOST_END_S:
            raise DataError(f"{self._source} is cut off at {self._reached:.1f} of {self._length:.1f} s: copy it again.")


def _check_whole(target: Path, frames: int) -> None:
    """A muxer may say nothing about a write that failed: what was written is counted."""
    try:
        with av.open(f"file:{target}") as written:
            found = sum(packet.size > 0 for packet in written.demux(video=0))
    except av.error.FFmpegError:
        found = 0
    if found != frames:
        raise OSError(None, f"only {found} of {frames} frames were written: is there room on the disk?")


def _raise_of_system(error: Exception) -> None:
    """Errors of the system, as no room or no right to read, keep their own words."""
    if isinstance(error, OSError):
        raise error


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_avi(target: Path) -> bool:
    return target.suffix.lower() == ".avi"


def _codec(stream: av.stream.Stream) -> str:
    return stream.codec_context.name if stream.codec_context else "unknown"


def _notes(described: av.container.InputContainer | av.VideoStream) -> dict[str, str]:
    return {key: text for key, text in described.metadata.items() if len(text) <= LONGEST_NOTE}


def _options(target: Path) -> dict[str, str]:
    return {"movflags": "faststart"} if target.suffix.lower() in (".mp4", ".m4v", ".mov") else {}


def _upright(rgb: np.ndarray, rotation: int) -> np.ndarray:
    """Turn pixels as the file says that players should; `rotation` in degrees, counted as PyAV does."""
    return np.rot90(rgb, round(rotation / 90) % 4)


def _even(rgb: np.ndarray) -> np.ndarray:
    """Odd sides get their last row or column twice: yuv420p has one colour for two pixels."""
    bottom, right = rgb.shape[0] % 2, rgb.shape[1] % 2
    return cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else rgb
