"""What tests hear beside words (`saywell.bench.hearing`): when each word begins, and pitch."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from pocketsphinx import Decoder

from saywell.audio.resample import resample
from saywell.types import Samples

RATE = 16000
FRAMES = 100
"""Frames a second of the recogniser."""


def spoken_words(samples: Samples, rate: int) -> list[tuple[str, float]]:
    """Each word heard, and the second it begins at."""
    found = [(re.sub(r"\(\d+\)", "", part.word), part.start_frame / FRAMES) for part in _heard(samples, rate).seg()]
    return [(word, at) for word, at in found if word[0] not in "<["]


def _heard(samples: Samples, rate: int) -> Decoder:
    if rate != RATE:
        samples = resample(samples, rate, RATE)
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    return decoder


def pitch(samples: Samples, rate: int) -> float:
    """Median Hz of the voiced 40 ms windows, by autocorrelation."""
    size, low, high = rate // 25, rate // 400, rate // 60
    found = []
    for start in range(0, len(samples) - size, size // 2):
        window = samples[start : start + size] - samples[start : start + size].mean()
        if np.sqrt(np.mean(window**2)) < 0.02:
            continue
        curve = np.correlate(window, window, "full")[size - 1 :]
        lag = low + int(np.argmax(curve[low:high]))
        if curve[lag] > 0.5 * curve[0]:
            found.append(rate / lag)
    return float(np.median(found))


@lru_cache(maxsize=1)
def _decoder() -> Decoder:
    # Batch normalisation: what was heard before must not colour what is heard now.
    return Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")
