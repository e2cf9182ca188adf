"""FLAC, MP3 and Opus through libsndfile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import soundfile as sf

from saywell.audio.formats.base import MPEG_RATES, ONE_SAMPLE, Format, Tape, to_int16
from saywell.errors import UnsupportedMedia
from saywell.types import Samples


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


_SET_OGG_PAGE_LATENCY_MS = 0x1302
"""libsndfile's SFC_SET_OGG_PAGE_LATENCY_MS, which the soundfile package does not name."""


class Sndfile:
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
        self._tape = Tape()
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
            self.write(ONE_SAMPLE)
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


FORMATS = (
    Format(
        name="mp3", content_type="audio/mpeg", extensions=(".mp3",), rates=MPEG_RATES, inline_s=0.2, order=1,
        open=partial(Sndfile, "mp3"),
    ),
    Format(
        name="opus", content_type="audio/ogg", extensions=(".opus", ".ogg"), sample_rate=48000, inline_s=0.1, order=2,
        open=partial(Sndfile, "opus"),
    ),
    Format(
        name="flac", content_type="audio/flac", extensions=(".flac",), inline_s=2.0, order=4,
        open=partial(Sndfile, "flac"),
    ),
)  # fmt: skip
