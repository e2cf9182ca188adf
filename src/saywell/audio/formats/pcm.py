"""WAV, and raw 16-bit PCM."""

from __future__ import annotations

import struct

from saywell.audio.formats.base import Format, to_int16
from saywell.types import Samples


class Pcm:
    """16-bit samples, behind a WAV header or bare."""

    def __init__(self, rate: int, header: bool) -> None:
        self._rate, self._header = rate, header
        self._data = bytearray()
        self._bytes = 0
        self._head = self._wav_header(None) if header else b""

    def write(self, samples: Samples) -> None:
        data = to_int16(samples).tobytes()
        self._data += data
        self._bytes += len(data)

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        new = self._head + bytes(self._data)
        self._head = b""
        self._data.clear()
        return new

    def whole(self) -> bytes:
        head = self._wav_header(self._bytes) if self._header else b""
        return head + bytes(self._data)

    def patches(self) -> list[tuple[int, bytes]]:
        return [(0, self._wav_header(self._bytes))] if self._header else []

    def _wav_header(self, data_bytes: int | None) -> bytes:
        """RIFF, `fmt ` and `data` chunk heads. A size that is unknown, or too large for 32 bits, is all ones."""
        riff = data = 0xFFFFFFFF
        if data_bytes is not None and data_bytes + 36 < 0xFFFFFFFF:
            riff, data = data_bytes + 36, data_bytes
        fmt = struct.pack("<HHIIHH", 1, 1, self._rate, self._rate * 2, 2, 16)
        head = struct.pack("<4sI4s4sI", b"RIFF", riff, b"WAVE", b"fmt ", len(fmt))
        return head + fmt + struct.pack("<4sI", b"data", data)


FORMATS = (
    Format(
        name="wav", content_type="audio/wav", extensions=(".wav",), inline_s=5.0, order=5,
        open=lambda rate, _: Pcm(rate, header=True),
    ),
    Format(
        name="pcm", content_type="audio/pcm", extensions=(".pcm",), sample_rate=24000, inline_s=5.0, order=6,
        open=lambda rate, _: Pcm(rate, header=False),
    ),
)  # fmt: skip
"""`pcm` is signed 16-bit little-endian mono without a header."""
