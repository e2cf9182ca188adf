"""Samples → bytes of a file format, while they arrive.

What has been sent cannot be changed, so a streamed file carries no length in its header; `encode`, `save` and who can
go back (`Encoder.patches`) write it. Decoded lengths: exact for wav, flac, pcm and opus, and for a saved mp3. A
streamed mp3 has 1105 samples of codec delay in front and under two frames (2304) of padding behind; aac has 1024 in
front, under 1024 behind.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile as sf

from saywell.audio.resample import Resampler
from saywell.errors import BadAudio, UnsupportedMedia
from saywell.files import replacing
from saywell.types import Samples


@dataclass(frozen=True, slots=True)
class Format:
    """An output format."""

    name: str
    content_type: str
    extension: str
    sample_rate: int | None = None
    """Hz fixed by the format; None: the model's own."""
    rates: tuple[int, ...] = ()
    """The only rates the codec knows, rising; empty: any."""

    def rate_for(self, sample_rate: int) -> int:
        """Hz the file will have: the fixed rate, or the nearest one the codec knows that loses nothing."""
        if self.sample_rate is not None:
            return self.sample_rate
        if not self.rates:
            return sample_rate
        return next((rate for rate in self.rates if rate >= sample_rate), self.rates[-1])


_MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("mp3", "audio/mpeg", ".mp3", rates=_MPEG_RATES),
        Format("opus", "audio/ogg", ".opus", sample_rate=48000),
        Format("aac", "audio/aac", ".aac", rates=(*_MPEG_RATES, 64000, 88200, 96000)),
        Format("flac", "audio/flac", ".flac"),
        Format("wav", "audio/wav", ".wav"),
        Format("pcm", "audio/pcm", ".pcm", sample_rate=24000),
    )
}
"""By name, in the order clients know them. `pcm` is signed 16-bit little-endian mono without a header."""

_BY_EXTENSION = {format.extension: format.name for format in FORMATS.values()} | {".ogg": "opus"}


def format_of(path: str | Path) -> str:
    """The format a file name asks for. Raises UnsupportedMedia listing what there is."""
    extension = Path(path).suffix.lower()
    if extension not in _BY_EXTENSION:
        known = ", ".join(_BY_EXTENSION)
        raise UnsupportedMedia(f"no format for the extension {extension!r}; there is {known}", param="format")
    return _BY_EXTENSION[extension]


def to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    """16-bit PCM, shape [n]: rounded, clamped at full scale, the exact inverse of reading 16-bit audio as float."""
    scaled: Samples = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767)
    return scaled.astype("<i2")


class Encoder:
    """One stream of mono audio in one format. Raises UnsupportedMedia for a format that is not there.

    The file is the bytes of every `feed` and of `finish`, in order. An encoder that is dropped halfway leaves nothing.
    """

    def __init__(self, format: str, sample_rate: int, *, patched: bool = False) -> None:
        """`patched`: the bytes go where they can be changed, and `patches` will be written over them."""
        self.format = _known(format)
        self.sample_rate = self.format.rate_for(sample_rate)
        """Hz of the file."""
        self._resampler = Resampler(sample_rate, self.sample_rate)
        self._coder = _coder(format, self.sample_rate, patched)

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
    coder = _coder(format, rate, True)
    coder.write(Resampler(sample_rate, rate).feed(samples, last=True))
    coder.close()
    return coder.whole()


def save(path: str | Path, samples: Samples, sample_rate: int, format: str | None = None) -> Path:
    """Write a file, whole or not at all. `format` None: by the extension.

    Raises UnsupportedMedia for a format that is not there and OSError where the place cannot be written.
    """
    path = Path(path)
    data = encode(samples, sample_rate, format or format_of(path))
    with replacing(path) as file:
        file.write(data)
    return path


def _known(format: str) -> Format:
    if format not in FORMATS:
        raise UnsupportedMedia(f"no output format {format!r}; there is {', '.join(FORMATS)}", param="format")
    return FORMATS[format]


def _check_finite(samples: Samples) -> None:
    if not np.isfinite(samples).all():
        raise BadAudio("the audio contains values that are not numbers")


class _Coder(Protocol):
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


def _coder(format: str, rate: int, patched: bool) -> _Coder:
    if format == "aac":
        return _Aac(rate)
    if format in ("wav", "pcm"):
        return _Pcm(rate, header=format == "wav")
    return _Sndfile(format, rate, patched)


class _Pcm:
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


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How libsndfile writes a format."""

    container: str
    subtype: str
    integers: bool = False
    options: tuple[tuple[str, Any], ...] = ()


def _recipe(format: str, rate: int) -> _Recipe:
    if format == "flac":
        # Level 2 has blocks of 1152 samples: the first sound leaves after 48 ms and not 170, for 1.4 % more bytes.
        return _Recipe("FLAC", "PCM_16", True, (("compression_level", 0.25),))
    if format == "opus":
        return _Recipe("OGG", "OPUS")
    # Constant bitrate, because a player works out the length of a streamed file from its first frame: with a variable
    # one libsndfile's own reader stops seconds early. 96 kbit/s from 32 kHz up; 80 below; 32 below 16 kHz.
    level = 0.8 if rate >= 32000 else 0.5
    return _Recipe("MP3", "MPEG_LAYER_III", False, (("bitrate_mode", "CONSTANT"), ("compression_level", level)))


_ONE_SAMPLE = np.zeros(1, np.float32)
"""What stands for no sound at all: a compressed file without a single sample opens nowhere."""

_SET_OGG_PAGE_LATENCY_MS = 0x1302
"""libsndfile's SFC_SET_OGG_PAGE_LATENCY_MS, which the soundfile package does not name."""


class _Sndfile:
    """FLAC, MP3 and Opus through libsndfile, which writes to a tape in memory."""

    def __init__(self, format: str, rate: int, patched: bool) -> None:
        recipe = _recipe(format, rate)
        if not sf.check_format(recipe.container, recipe.subtype):
            raise UnsupportedMedia(
                f"the installed libsndfile {sf.__libsndfile_version__} cannot write {format}; 1.1 and later can",
                param="format",
            )
        self._integers = recipe.integers
        self._empty = True
        self._placeholder = format == "mp3" and not patched
        self._tape = _Tape()
        options: dict[str, Any] = dict(recipe.options)
        self._file = sf.SoundFile(self._tape, "w", rate, 1, recipe.subtype, format=recipe.container, **options)
        if format == "opus":
            _shorten_ogg_pages(self._file)

    def write(self, samples: Samples) -> None:
        if len(samples):
            self._empty = False
            self._file.write(to_int16(samples) if self._integers else np.clip(samples, -1, 1))

    def close(self) -> None:
        if self._empty:
            self.write(_ONE_SAMPLE)
        self._file.close()

    def take(self) -> bytes:
        new = self._tape.take()
        if self._placeholder and new:
            self._placeholder = False
            # LAME leaves room for a frame of sizes, filled in at the end: too late here, so it is not sent.
            return new if any(new[4 : self._tape.head]) else new[self._tape.head :]
        return new

    def whole(self) -> bytes:
        return bytes(self._tape.data)

    def patches(self) -> list[tuple[int, bytes]]:
        return self._tape.patches


def _shorten_ogg_pages(file: Any) -> None:
    """Let pages go every 60 ms and not every second: 5 % more bytes, first sound a second earlier.

    By soundfile's own handles: it offers this command of libsndfile nowhere, and `flush` sends no page.
    """
    milliseconds = sf._ffi.new("double *", 20.0)
    sf._snd.sf_command(file._file, _SET_OGG_PAGE_LATENCY_MS, milliseconds, 8)


class _Tape:
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


class _Aac:
    """AAC in ADTS through PyAV, which is an extra: its wheels carry an FFmpeg with GPL parts."""

    BIT_RATE = 64_000

    def __init__(self, rate: int) -> None:
        try:
            import av
        except ImportError as error:
            raise UnsupportedMedia(
                "aac needs the optional package PyAV: pip install 'saywell[aac]'", param="format"
            ) from error
        self._frame = av.AudioFrame
        self._tape = _Tape()
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
            self.write(_ONE_SAMPLE)
        self._file.mux(self._stream.encode(None))
        self._file.close()

    def take(self) -> bytes:
        return self._tape.take()

    def whole(self) -> bytes:
        return bytes(self._tape.data)

    def patches(self) -> list[tuple[int, bytes]]:
        return []  # ADTS has no header
