"""The tuned encoders: what they write can be read, sizes and bitrates may change on the way."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
from aiortc import RTCRtpCodecParameters
from aiortc.codecs import depayload, get_decoder
from aiortc.jitterbuffer import JitterFrame

from streamer import encoders
from tests.streamer.visiting import CLOCK

BOTH = pytest.mark.parametrize(
    ("mime", "kind"),
    [("video/VP8", encoders.TunedVp8Encoder), ("video/H264", encoders.TunedH264Encoder)],
)


def picture(number: int, width: int = 160, height: int = 120, noise: int = 0) -> av.VideoFrame:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    grey = 110 + 60 * np.sin((x + 3 * number) / 9) + 30 * np.cos(y / 7)
    grey = grey + np.random.default_rng(number).integers(-noise, noise + 1, grey.shape)
    frame = av.VideoFrame.from_ndarray(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2), "rgb24")
    frame = frame.reformat(format="yuv420p")
    frame.pts, frame.time_base = number * 3000, CLOCK
    return frame


def codec_of(mime: str) -> RTCRtpCodecParameters:
    return RTCRtpCodecParameters(mimeType=mime, clockRate=90000, payloadType=97)


class Receiver:
    """Takes an encoder's payloads apart as a browser would."""

    def __init__(self, mime: str):
        self._codec = codec_of(mime)
        self._decoder = get_decoder(self._codec)

    def __call__(self, payloads: list[bytes], timestamp: int) -> av.VideoFrame:
        data = b"".join(depayload(self._codec, payload) for payload in payloads)
        return self._decoder.decode(JitterFrame(data=data, timestamp=timestamp))[-1]


def is_key_frame(mime: str, payloads: list[bytes]) -> bool:
    data = b"".join(depayload(codec_of(mime), payload) for payload in payloads)
    if mime == "video/VP8":
        return data[0] & 1 == 0
    return any(data[at + 4] & 31 == 5 for at in range(len(data) - 4) if data[at : at + 4] == b"\0\0\0\1")


@BOTH
def test_what_is_sent_can_be_read_and_keeps_its_time(mime, kind):
    encoder, receive = kind(), Receiver(mime)
    for number in range(12):
        sent = picture(number)
        payloads, timestamp = encoder.encode(sent)
        assert timestamp == number * 3000
        assert all(len(payload) <= 1300 for payload in payloads)
        got = receive(payloads, timestamp)
        error = got.to_ndarray(format="gray").astype(int) - sent.to_ndarray(format="gray")
        assert np.abs(error).mean() < 4


@BOTH
def test_a_camera_that_changes_size_is_followed(mime, kind):
    encoder, receive = kind(), Receiver(mime)
    for number, size in enumerate([(160, 120), (160, 120), (320, 240), (160, 120)]):
        payloads, timestamp = encoder.encode(picture(number, *size))
        got = receive(payloads, timestamp)
        assert (got.width, got.height) == size


@BOTH
def test_a_key_frame_comes_when_it_is_asked_for_and_only_then(mime, kind):
    encoder = kind()
    kinds = [is_key_frame(mime, encoder.encode(picture(number), number == 5)[0]) for number in range(9)]
    assert kinds == [number in (0, 5) for number in range(9)]


@BOTH
def test_the_bitrate_starts_as_set_and_stays_within_its_bounds(mime, kind):
    encoder = kind(start=2_000_000, ceiling=3_000_000)
    assert encoder.target_bitrate == 2_000_000
    encoder.target_bitrate = 90_000_000
    assert encoder.target_bitrate == 3_000_000
    encoder.target_bitrate = 1
    assert encoder.target_bitrate == encoders.FLOOR_BPS


@BOTH
def test_fewer_bits_are_sent_when_the_viewer_asks_for_fewer(mime, kind):
    encoder = kind(start=2_000_000)
    sizes = []
    for number in range(90):
        if number == 45:
            encoder.target_bitrate = 300_000
        payloads, _ = encoder.encode(picture(number, 320, 240, noise=40))
        sizes.append(sum(map(len, payloads)))
    assert sum(sizes[60:]) < 0.5 * sum(sizes[15:45])


def test_h264_changes_its_bitrate_without_a_key_frame():
    encoder = encoders.TunedH264Encoder(start=2_000_000)
    keys = []
    for number in range(20):
        encoder.target_bitrate = 2_000_000 if number < 10 else 900_000
        keys.append(is_key_frame("video/H264", encoder.encode(picture(number))[0]))
    assert keys.index(True) == 0 and not any(keys[1:])


def test_vp8_does_not_begin_anew_for_a_small_change_or_soon_again(monkeypatch):
    now = 100.0
    monkeypatch.setattr(encoders, "time", SimpleNamespace(monotonic=lambda: now))
    encoder = encoders.TunedVp8Encoder(start=1_000_000)
    encoder.encode(picture(0))
    built = encoder.codec
    for number, bitrate in enumerate((1_100_000, 950_000, 2_000_000), 1):
        encoder.target_bitrate = bitrate
        encoder.encode(picture(number))
    assert encoder.codec is built
    now += encoders.REBUILD_AFTER_S + 0.1
    encoder.encode(picture(4))
    assert encoder.codec is not built  # the rise to 2 Mb/s has waited long enough
    built = encoder.codec
    encoder.target_bitrate = 500_000
    encoder.encode(picture(5))
    assert encoder.codec is not built  # a fall does not wait
