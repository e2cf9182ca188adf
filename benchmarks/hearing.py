"""Speech recognition by Whisper base (faster-whisper, int8, by default one thread)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import weights
from benchmarks.held_out import words
from saywell.audio.resample import resample
from saywell.types import Samples

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.transcribe import Segment

RATE = 16000
"""Hz."""
Clip = tuple[Samples, int]
"""Mono samples and their rate in Hz."""
_BEAM = 5
_SHORTEST_S, _SEARCH_S = 20.0, 8.0
"""Long recordings are cut at the quietest moment of the `_SEARCH_S` seconds after `_SHORTEST_S`: Whisper reads 30 s at
a time, and its own segmentation of longer recordings can lose sentences."""
_QUIET = RATE // 20
_PADDING = np.zeros(RATE * 2 // 5, np.float32)
"""Silence around each piece: Whisper can stop early if speech begins immediately."""


def hear(samples: Samples, rate: int, threads: int = 1, language: str = "en") -> str:
    """The transcript of mono samples of any length, in a language of Whisper."""
    return " ".join(_transcribe(piece, threads, language) for _, piece in _pieces(samples, rate))


def hear_all(clips: Sequence[Clip], threads: int = 1) -> list[str]:
    """The transcript of each clip."""
    return [hear(*clip, threads) for clip in clips]


def hear_words(samples: Samples, rate: int) -> list[tuple[str, float, float]]:
    """Each word in lower case with its start and end in seconds; all words of a number share its times."""
    timed = []
    for begins, piece in _pieces(samples, rate):
        recognised = [word for segment in _segments(piece, 1, word_timestamps=True) for word in segment.words or ()]
        ends, offset = begins + len(piece) / RATE, begins - len(_PADDING) / RATE
        for word in recognised:
            span = max(begins, offset + word.start), min(ends, offset + word.end)
            timed += [(spoken, *span) for spoken in words(word.word)]
    return timed


def _transcribe(piece: Samples, threads: int, language: str) -> str:
    found = _segments(piece, threads, language, without_timestamps=True)
    return " ".join(segment.text.strip() for segment in found)


def _segments(piece: Samples, threads: int, language: str = "en", **times: bool) -> Iterable[Segment]:
    padded = np.concatenate((_PADDING, piece, _PADDING))
    segments: Iterable[Segment] = _whisper(threads).transcribe(
        padded, language=language, beam_size=_BEAM, temperature=0.0, condition_on_previous_text=False, **times
    )[0]
    return segments


def _pieces(samples: Samples, rate: int) -> Iterator[tuple[float, Samples]]:
    """The recording in pieces: start in seconds, and samples at RATE."""
    samples, begins = resample(samples, rate, RATE), 0
    shortest, search = round(_SHORTEST_S * RATE), round(_SEARCH_S * RATE)
    while len(samples) > shortest + search:
        peaks = np.abs(samples[shortest : shortest + search]).reshape(-1, _QUIET).max(axis=1)
        end = shortest + int(peaks.argmin()) * _QUIET + _QUIET // 2
        yield begins / RATE, samples[:end]
        samples, begins = samples[end:], begins + end
    if len(samples):
        yield begins / RATE, samples


@cache
def _whisper(threads: int) -> WhisperModel:
    from faster_whisper import WhisperModel

    return WhisperModel(
        str(weights.whisper()), device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True
    )
