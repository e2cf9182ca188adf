"""A small speech recogniser for the meter: which words does the audio say? English, by pocketsphinx with its model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
from pocketsphinx import Decoder

from saywell.audio.resample import resample
from saywell.types import Samples

RATE = 16000
Clip = tuple[Samples, int]
"""Samples and their rate in Hz."""
_PIECE_S = 12.0
"""A long recording is cut at the quietest place after so many seconds: the search slows down as it grows."""
_LOOK_S = 6.0
_QUIET = RATE // 20


def hear(samples: Samples, rate: int) -> str:
    """The words heard in mono samples, in lower case; of a long recording too. What was heard before has no say."""
    if rate != RATE:
        samples = resample(samples, rate, RATE)
    return " ".join(filter(None, (_hear(piece) for piece in _pieces(samples))))


def hear_all(clips: Sequence[Clip], processes: int = 1) -> list[str]:
    """`hear` for each clip, side by side if so asked."""
    if processes == 1 or len(clips) < 2:
        return [hear(*clip) for clip in clips]
    with ProcessPoolExecutor(min(processes, len(clips)), mp_context=get_context("spawn")) as pool:
        return list(pool.map(hear, *zip(*clips, strict=True)))


def _hear(samples: Samples) -> str:
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return "" if found is None else re.sub(r"\(\d+\)", "", found.hypstr)


def _pieces(samples: Samples) -> Iterator[Samples]:
    """Cut where the loudest sample of 50 ms is smallest; nothing is lost."""
    shortest, look = round(_PIECE_S * RATE), round(_LOOK_S * RATE)
    while len(samples) > shortest + look:
        windows = np.abs(samples[shortest : shortest + look]).reshape(-1, _QUIET).max(axis=1)
        at = shortest + int(windows.argmin()) * _QUIET + _QUIET // 2
        yield samples[:at]
        samples = samples[at:]
    if len(samples):
        yield samples


@cache
def _decoder() -> Decoder:
    # Batch normalisation: what was heard before must not colour what is heard now.
    return Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")
