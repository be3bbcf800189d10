"""aiortc with our encoders and our jitter buffer."""

import contextlib
from collections.abc import Iterator

import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender
from aiortc import RTCRtpCodecParameters
from aiortc.codecs import get_encoder as stock_encoder
from aiortc.codecs.base import Encoder

from streamer.encoders import CEILING_BPS, START_BPS, TunedH264Encoder, TunedVp8Encoder
from streamer.jitter import PromptJitterBuffer


@contextlib.contextmanager
def tuned(start: int = START_BPS, ceiling: int = CEILING_BPS) -> Iterator[None]:
    """While open, every connection that begins gets the encoders and the jitter buffer of this package.

    aiortc has no setting for either; it looks both up by name when a track begins, and these names are replaced here
    for the whole process. `start` and `ceiling` in bits per second.
    """

    def choose(codec: RTCRtpCodecParameters) -> Encoder:
        if codec.mimeType.lower() == "video/vp8":
            return TunedVp8Encoder(start, ceiling)
        if codec.mimeType.lower() == "video/h264":
            return TunedH264Encoder(start, ceiling)
        return stock_encoder(codec)

    before = aiortc.rtcrtpsender.get_encoder, aiortc.rtcrtpreceiver.JitterBuffer
    aiortc.rtcrtpsender.get_encoder, aiortc.rtcrtpreceiver.JitterBuffer = choose, PromptJitterBuffer
    try:
        yield
    finally:
        aiortc.rtcrtpsender.get_encoder, aiortc.rtcrtpreceiver.JitterBuffer = before
