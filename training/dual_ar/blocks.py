"""Utterances of the corpus as blocks of 50 ms: what a frame of codes has to say.

A block is ten of the teacher's frames of 5 ms. The pitch is locked to the blocks: in each a whole number of periods
begins, the first one at its start. So a block of sound follows from a block of frames alone, and a small decoder need
not learn to carry a phase on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saywell.models.wren.phones import IDS, PAUSES, SPEAKERS, START, WORD
from saywell.models.wren.source import (
    ANSWER,
    BANDS,
    FFT,
    HOP,
    ORDER,
    State,
    noise_spectra,
    pulse_spectra,
    responses,
    sharpened,
)
from training.wren.features import EMPHASIS, FLAT_VOICES

BLOCK = 10
"""Frames of 5 ms."""
RATE_HZ = 20
"""Blocks a second; the pitch is a multiple of it."""
SAMPLES = 800
LOWEST, HIGHEST = 3, 15
"""Periods of a block."""
LOOK = (2, 7)
"""The frames whose phones name a block: the middles of its halves."""
STRENGTHS = 5
MARKS = [IDS[each] for each in (START, WORD, *PAUSES)]
FULL_SCALE = np.log(32768.0)
"""The teacher's frames are of 16-bit samples, blocks of samples within 1."""
COLOUR = np.array([0.22, -0.21, 0.11, 0.25, 0.04, 0.03, 0.04, 0.09, -0.07, -0.08, -0.02, 0.07], np.float32)
"""Beside sharper formants, Flite's excitation has a colour of its own: the mean of what is left between its sound's
cepstrum and ours, nearly the same in three voices. FLAT_VOICES' frames have both, so they are taken out."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """One utterance.

    pairs: ids of the symbols in both halves [blocks, 2]. cepstrum [blocks, BLOCK, ORDER]. periods [blocks].
    strengths: of pulses over noise, 0…1, 0 where there is no voice [blocks, BLOCK, STRENGTHS]. letters: see there.
    """

    text: str
    speaker: int
    pairs: Ints
    cepstrum: Floats
    periods: Ints
    strengths: Floats
    letters: Ints

    def sound(self) -> Floats:
        """Samples [blocks · SAMPLES]."""
        return spoken(self.cepstrum, self.periods, self.strengths)


def spoken(cepstrum: Floats, periods: Ints, strengths: Floats) -> Floats:
    """Source and filter, a pulse at the start of every block and the same noise in each: [blocks · SAMPLES].

    5 ms late, so that no sample depends on a block after its own. cepstrum [blocks, BLOCK, ORDER]; periods [blocks];
    strengths [blocks, BLOCK, STRENGTHS].
    """
    f0 = np.repeat(periods * RATE_HZ, BLOCK).astype(np.float32)
    harmonic = strengths.reshape(-1, STRENGTHS) @ BANDS
    cepstrum = sharpened(cepstrum.reshape(-1, ORDER), EMPHASIS)
    cepstrum[:, : len(COLOUR)] += COLOUR
    noise = np.tile(noise_spectra(0, 0, BLOCK), (len(periods), 1))
    excitation = harmonic * pulse_spectra(f0, State(0)) + (1 - harmonic) * noise
    spectra = responses(cepstrum) * excitation
    answers = np.fft.irfft(spectra, FFT).astype(np.float32).reshape(len(f0), ANSWER, HOP)
    said = np.zeros((len(f0) + ANSWER, HOP), np.float32)
    for later in range(ANSWER):
        said[later : later + len(f0)] += answers[:, later]
    return said[: len(f0)].reshape(-1)


def read(path: Path) -> Iterator[Blocks]:
    """Utterances of a shard of `training.wren.synthesise`."""
    with np.load(path) as shard:
        symbols, ends, frames = shard["symbols"], shard["ends"], shard["frames"]
        at, begin, texts = shard["symbol_starts"], shard["frame_starts"], json.loads(bytes(shard["texts"]))
    speaker = SPEAKERS.index(path.parent.name)
    for one, text in enumerate(texts):
        here = slice(at[one], at[one + 1])
        yield blocks(text, speaker, symbols[here], ends[here], frames[begin[one] : begin[one + 1]])


def blocks(text: str, speaker: int, symbols: npt.NDArray[np.uint8], ends: Ints, frames: Floats) -> Blocks:
    """One utterance: its last block is filled up with its last frame."""
    count = -(-len(frames) // BLOCK)
    frames = np.concatenate([frames, np.repeat(frames[-1:], count * BLOCK - len(frames), 0)]).astype(np.float32)
    frames[:, 1] -= FULL_SCALE
    if SPEAKERS[speaker] in FLAT_VOICES:
        frames[:, 1 : 1 + len(COLOUR)] -= COLOUR
        frames[:, 1 : 1 + ORDER] = sharpened(frames[:, 1 : 1 + ORDER], 1 / EMPHASIS)
    voiced = frames[:, 0] > 30
    strengths = frames[:, 1 + ORDER :].clip(0, 1) * voiced[:, None]
    return Blocks(
        text,
        speaker,
        pairs(symbols, ends, count),
        frames[:, 1 : 1 + ORDER].reshape(count, BLOCK, ORDER),
        periods(frames[:, 0], voiced),
        strengths.reshape(count, BLOCK, STRENGTHS),
        letters(text, symbols, ends, count),
    )


def letters(text: str, symbols: npt.NDArray[np.uint8], ends: Ints, count: int) -> Ints:
    """About which letter of the text each block speaks of [blocks]; -1: in a pause, or words do not fit the text.

    A guess for the attention to begin with: a word's phones are spread evenly over its letters.
    """
    found = np.full(count, -1)
    names, at = list(re.finditer(r"[A-Za-z']+", text)), np.arange(count) * BLOCK + BLOCK // 2
    mark = np.isin(symbols, MARKS)
    begin = np.flatnonzero(~mark & np.concatenate([[True], mark[:-1]]))
    if len(names) != len(begin):
        return found
    spans = np.array([name.span() for name in names])
    stop = np.flatnonzero(~mark & np.concatenate([mark[1:], [True]]))
    first, last = (ends - np.diff(ends, prepend=0))[begin], ends[stop]
    word = np.searchsorted(last, at, side="right").clip(0, len(names) - 1)
    part = (at - first[word]) / np.maximum(last[word] - first[word], 1)
    inside = (part >= 0) & (part < 1)
    place = spans[word, 0] + part * (spans[word, 1] - spans[word, 0])
    return np.where(inside, place, -1).astype(np.int64)


def pairs(symbols: npt.NDArray[np.uint8], ends: Ints, count: int) -> Ints:
    """The symbols in the middles of both halves of each block [count, 2]. Whatever ends a sentence is one symbol."""
    at = np.minimum(np.arange(count)[:, None] * BLOCK + np.array(LOOK), ends[-1] - 1)
    found = symbols[np.searchsorted(ends, at, side="right")].astype(np.int64)
    return np.where(np.isin(found, (IDS["?"], IDS["!"])), IDS["."], found)


def periods(f0: Floats, voiced: npt.NDArray[np.bool_]) -> Ints:
    """Whole periods of each block; where there is no voice, those of the voice around it."""
    number = np.arange(len(f0))
    carried = np.interp(number, number[voiced], f0[voiced]) if voiced.any() else np.full(len(f0), 100.0)
    mean = carried.reshape(-1, BLOCK).mean(1) / RATE_HZ
    return np.round(mean).clip(LOWEST, HIGHEST).astype(np.int64)
