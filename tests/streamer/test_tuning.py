"""aiortc with our parts: frames are whole as soon as their last packet is there, and the stock parts come back."""

import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender
import pytest
from aiortc import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from streamer.encoders import TunedH264Encoder, TunedVp8Encoder
from streamer.jitter import PromptJitterBuffer
from streamer.tuning import tuned


def codec_of(mime: str) -> RTCRtpCodecParameters:
    return RTCRtpCodecParameters(mimeType=mime, clockRate=90000, payloadType=97)


def packet(sequence: int, timestamp: int, marker: bool = False) -> RtpPacket:
    made = RtpPacket(sequence_number=sequence % 65536, timestamp=timestamp, marker=int(marker))
    made._data = bytes([sequence % 256])
    return made


def frames(buffer: PromptJitterBuffer, packets: list[RtpPacket]) -> list[tuple[int, bytes] | None]:
    """What each packet completes: (timestamp, data), or None."""
    got = [buffer.add(one)[1] for one in packets]
    return [frame and (frame.timestamp, frame.data) for frame in got]


@pytest.fixture
def buffer() -> PromptJitterBuffer:
    return PromptJitterBuffer(capacity=16, is_video=True)


def test_a_frame_is_whole_with_its_last_packet(buffer):
    packets = [packet(1, 100), packet(2, 100, marker=True), packet(3, 200, marker=True)]
    assert frames(buffer, packets) == [None, (100, b"\1\2"), (200, b"\3")]


def test_packets_in_another_order_make_the_same_frame(buffer):
    packets = [packet(1, 100), packet(3, 100, marker=True), packet(2, 100), packet(4, 200, marker=True)]
    assert frames(buffer, packets) == [None, None, (100, b"\1\2\3"), (200, b"\4")]


def test_a_frame_waits_for_a_packet_that_was_lost(buffer):
    packets = [packet(1, 100, marker=True), packet(3, 200, marker=True), packet(4, 300, marker=True), packet(2, 200)]
    assert frames(buffer, packets) == [(100, b"\1"), None, None, (200, b"\2\3")]
    assert frames(buffer, [packet(5, 400, marker=True)]) == [(300, b"\4")]


def test_a_sender_without_markers_is_understood_too(buffer):
    packets = [packet(1, 100), packet(2, 100), packet(3, 200), packet(4, 300)]
    assert frames(buffer, packets) == [None, None, (100, b"\1\2"), (200, b"\3")]


def test_sequence_numbers_may_begin_again(buffer):
    packets = [packet(65535, 100), packet(65536, 100, marker=True), packet(65537, 200, marker=True)]
    assert frames(buffer, packets) == [None, (100, b"\xff\0"), (200, b"\1")]


def test_sound_is_left_as_it_was():
    stock, ours = (kind(capacity=16, prefetch=2) for kind in (aiortc.rtcrtpreceiver.JitterBuffer, PromptJitterBuffer))
    packets = [packet(number, 100 * number, marker=True) for number in range(6)]
    assert frames(ours, packets) == frames(stock, packets)


def test_connections_get_our_parts_only_while_asked_to():
    before = aiortc.rtcrtpsender.get_encoder, aiortc.rtcrtpreceiver.JitterBuffer
    with tuned(start=1_500_000, ceiling=2_500_000):
        made = aiortc.rtcrtpsender.get_encoder(codec_of("video/VP8"))
        assert isinstance(made, TunedVp8Encoder)
        assert made.target_bitrate == 1_500_000
        assert isinstance(aiortc.rtcrtpsender.get_encoder(codec_of("video/H264")), TunedH264Encoder)
        assert aiortc.rtcrtpreceiver.JitterBuffer is PromptJitterBuffer
    assert (aiortc.rtcrtpsender.get_encoder, aiortc.rtcrtpreceiver.JitterBuffer) == before
