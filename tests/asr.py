"""A small speech recogniser for tests: does the audio say the words? English only, pocketsphinx with its own model."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from pocketsphinx import Decoder

from saywell.audio.resample import resample
from saywell.types import Samples

RATE = 16000


def transcribe(samples: Samples, rate: int) -> str:
    """The words heard in mono float samples, in lower case."""
    if rate != RATE:
        samples = resample(samples, rate, RATE)
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else re.sub(r"\(\d+\)", "", hypothesis.hypstr)


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Edits (substituted, missing and added words) for each word of the reference; 0 is perfect, above 1 possible."""
    expected, heard = _words(reference), _words(hypothesis)
    row = list(range(len(heard) + 1))
    for i, word in enumerate(expected, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    return row[-1] / max(1, len(expected))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


@lru_cache(maxsize=1)
def _decoder() -> Decoder:
    # Batch normalisation: what was heard before must not colour what is heard now.
    return Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")
