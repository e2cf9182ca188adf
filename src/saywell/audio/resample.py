"""Sample-rate conversion, streaming and whole, by the SoX resampler."""

from __future__ import annotations

import numpy as np
import soxr

from saywell.types import Samples

QUALITY = "HQ"
"""20-bit precision. Delays audio by at most 45 ms to 16 kHz and above (160 ms to 8 kHz), and is thousands of times
faster than real time."""


class Resampler:
    """Converts one stream of mono audio, independently of how it is split over `feed`.

    Equal rates pass through unchanged. `last=True` ends the stream; the object cannot be reused.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise ValueError(f"sample rates must be positive, not {from_hz} and {to_hz}")
        self.from_hz, self.to_hz = from_hz, to_hz
        same = from_hz == to_hz
        self._stream = None if same else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality=QUALITY)

    def feed(self, samples: Samples, last: bool = False) -> Samples:
        """Samples [n] at `from_hz` in, the samples that are ready at `to_hz` out; with `last`, all that remain."""
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """A whole recording, shape [n], at another rate: shape [n * to_hz / from_hz], rounded."""
    return Resampler(from_hz, to_hz).feed(samples, last=True)
