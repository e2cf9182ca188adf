"""What an output format declares, and what coders share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from saywell.types import Samples

MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
ONE_SAMPLE = np.zeros(1, np.float32)
"""Written instead of nothing: a compressed file without a single sample cannot be opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """An output format. A module in this directory declares its own in `FORMATS`."""

    name: str
    content_type: str
    extensions: tuple[str, ...]
    """File name extensions, the usual one first."""
    open: Callable[[int, bool], Coder]
    """Start a stream: (sample rate, whether bytes can be patched later) → coder. Raises UnsupportedMedia."""
    sample_rate: int | None = None
    """Hz fixed by the format; None: the model's own."""
    rates: tuple[int, ...] = ()
    """The only rates the codec supports, ascending; empty: any."""
    inline_s: float = 0.0
    """Seconds of audio encoded in under about 1.5 ms (measured); longer audio is encoded in a thread."""
    order: int = 100
    """Position in lists; then by name."""

    @property
    def extension(self) -> str:
        return self.extensions[0]

    def rate_for(self, sample_rate: int) -> int:
        """Sample rate of the file: the fixed one, or the nearest supported one without loss."""
        if self.sample_rate is not None:
            return self.sample_rate
        if not self.rates:
            return sample_rate
        return next((rate for rate in self.rates if rate >= sample_rate), self.rates[-1])


class Coder(Protocol):
    """Turns samples at its own rate into bytes."""

    def write(self, samples: Samples) -> None: ...

    def close(self) -> None:
        """No more samples."""
        ...

    def take(self) -> bytes:
        """The bytes of a stream that are new since the last call."""
        ...

    def whole(self) -> bytes:
        """After `close`, if nothing was taken: the file with its true sizes."""
        ...

    def patches(self) -> list[tuple[int, bytes]]:
        """After `close`: what belongs over bytes that were taken."""
        ...


def to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    """16-bit PCM, shape [n]: rounded, clamped at full scale, the exact inverse of reading 16-bit audio as float."""
    scaled: Samples = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767)
    return scaled.astype("<i2")


class Tape:
    """The virtual file libsndfile writes to. It may seek back and patch what has not been taken."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.head = 0
        """Bytes of the first write: a whole header."""
        self.patches: list[tuple[int, bytes]] = []
        """What was written over bytes already taken."""
        self._gone = 0
        """Bytes already taken, no longer in `data`."""
        self._at = 0

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.head = self.head or len(piece)
        start = self._at - self._gone
        if start < 0:
            self.patches.append((self._at, piece[:-start]))
        fresh = piece[max(-start, 0) :]
        start = max(start, 0)
        self.data[start : start + len(fresh)] = fresh
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._gone + len(self.data))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        start = max(self._at - self._gone, 0)
        piece = bytes(self.data[start : start + size])
        self._at += len(piece)
        return piece

    def take(self) -> bytes:
        piece = bytes(self.data)
        self._gone += len(piece)
        self.data.clear()
        return piece
