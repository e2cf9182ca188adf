"""AAC in ADTS through PyAV, an extra: its wheels include an FFmpeg with GPL parts."""

from __future__ import annotations

import numpy as np

from saywell.audio.formats.base import MPEG_RATES, ONE_SAMPLE, Format, Tape
from saywell.errors import UnsupportedMedia
from saywell.types import Samples


class Aac:
    BIT_RATE = 64_000

    def __init__(self, rate: int) -> None:
        try:
            import av
        except ImportError as error:
            raise UnsupportedMedia(
                "aac needs the optional package PyAV: pip install 'saywell[aac]'", param="format"
            ) from error
        self._frame = av.AudioFrame
        self._tape = Tape()
        self._file = av.open(self._tape, "w", format="adts", options={"flush_packets": "1"})
        self._stream = self._file.add_stream("aac", rate=rate, layout="mono")
        self._stream.bit_rate = self.BIT_RATE
        self._rate, self._at = rate, 0

    def write(self, samples: Samples) -> None:
        if not len(samples):
            return
        frame = self._frame.from_ndarray(np.clip(samples, -1, 1)[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._at
        self._at += len(samples)
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._at == 0:
            self.write(ONE_SAMPLE)
        self._file.mux(self._stream.encode(None))
        self._file.close()

    def take(self) -> bytes:
        return self._tape.take()

    def whole(self) -> bytes:
        return bytes(self._tape.data)

    def patches(self) -> list[tuple[int, bytes]]:
        return []  # ADTS has no header


FORMATS = (
    Format(
        name="aac", content_type="audio/aac", extensions=(".aac",), rates=(*MPEG_RATES, 64000, 88200, 96000), order=3,
        open=lambda rate, _: Aac(rate),
    ),
)  # fmt: skip
