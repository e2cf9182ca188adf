"""Samples → bytes of a file format, while they arrive. The formats are in `audio/formats/`.

What has been sent cannot be changed, so a streamed file carries no length in its header; `encode`, `save` and callers
that can seek (`Encoder.patches`) write it. Decoded lengths: exact for wav, flac, pcm and opus, and for a saved mp3. A
streamed mp3 has 1105 samples of codec delay in front and under two frames (2304) of padding behind; aac has 1024 in
front, under 1024 behind.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saywell.audio.formats import FORMATS
from saywell.audio.formats.base import Format
from saywell.audio.formats.base import to_int16 as to_int16
from saywell.audio.resample import Resampler
from saywell.errors import BadAudio, UnsupportedMedia
from saywell.files import replacing
from saywell.types import Samples

_BY_EXTENSION = {extension: format.name for format in FORMATS.values() for extension in format.extensions}


def format_of(path: str | Path) -> str:
    """The format of a file name. Raises UnsupportedMedia listing the known extensions."""
    extension = Path(path).suffix.lower()
    if extension not in _BY_EXTENSION:
        known = ", ".join(_BY_EXTENSION)
        raise UnsupportedMedia(f"no format for the extension {extension!r}; known: {known}", param="format")
    return _BY_EXTENSION[extension]


class Encoder:
    """One stream of mono audio in one format. Raises UnsupportedMedia for a format that is not available.

    The file is the bytes of every `feed` and of `finish`, in order. An encoder dropped halfway leaves nothing.
    """

    def __init__(self, format: str, sample_rate: int, *, patched: bool = False) -> None:
        """`patched`: the caller can seek and will write `patches` over earlier bytes."""
        self.format = _known(format)
        self.sample_rate = self.format.rate_for(sample_rate)
        """Hz of the file."""
        self._resampler = Resampler(sample_rate, self.sample_rate)
        self._coder = self.format.open(self.sample_rate, patched)

    def feed(self, samples: Samples) -> bytes:
        """Samples [n] within [-1, 1] (clamped) in, bytes out, perhaps none. Raises BadAudio on NaN or infinity."""
        _check_finite(samples)
        self._coder.write(self._resampler.feed(samples))
        return self._coder.take()

    def finish(self) -> bytes:
        """The rest of the file."""
        self._coder.write(self._resampler.feed(np.zeros(0, np.float32), last=True))
        self._coder.close()
        return self._coder.take()

    def patches(self) -> list[tuple[int, bytes]]:
        """After `finish`: (offset, bytes) that give the file its true length and seek tables."""
        return self._coder.patches()


def encode(samples: Samples, sample_rate: int, format: str) -> bytes:
    """A whole file, its length and seek tables in its header. Raises UnsupportedMedia and BadAudio."""
    known = _known(format)
    _check_finite(samples)
    rate = known.rate_for(sample_rate)
    coder = known.open(rate, True)
    coder.write(Resampler(sample_rate, rate).feed(samples, last=True))
    coder.close()
    return coder.whole()


def save(path: str | Path, samples: Samples, sample_rate: int, format: str | None = None) -> Path:
    """Write a file atomically. `format` None: by the extension.

    Raises UnsupportedMedia for an unavailable format, OSError if the file cannot be written.
    """
    path = Path(path)
    data = encode(samples, sample_rate, format or format_of(path))
    with replacing(path) as file:
        file.write(data)
    return path


def _known(format: str) -> Format:
    if format not in FORMATS:
        raise UnsupportedMedia(f"no output format {format!r}; known: {', '.join(FORMATS)}", param="format")
    return FORMATS[format]


def _check_finite(samples: Samples) -> None:
    if not np.isfinite(samples).all():
        raise BadAudio("the audio contains NaN or infinity")
