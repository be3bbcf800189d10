"""Puts arriving packets together to frames: a frame is handed on with its last packet, not with the next one's first.

The stock buffer of aiortc cannot tell the end of a frame before another begins, which holds every frame back for one
frame's time, 33 ms at 30 frames a second. The marker bit says it at once.
"""

from aiortc.jitterbuffer import JitterBuffer, JitterFrame


class PromptJitterBuffer(JitterBuffer):
    """A jitter buffer that goes by the marker bit for video; audio stays as it was."""

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        if not self._is_video:
            return super()._remove_frame(sequence_number)
        data: list[bytes] = []
        timestamp = None
        for count in range(self.capacity):
            packet = self._packets[(self._origin + count) % self.capacity]
            if packet is None:
                return None
            if timestamp is None:
                timestamp = packet.timestamp
            elif packet.timestamp != timestamp:  # a sender that sets no marker
                self.remove(count)
                return JitterFrame(b"".join(data), timestamp)
            data.append(packet._data)
            if packet.marker:
                self.remove(count + 1)
                return JitterFrame(b"".join(data), timestamp)
        return None
