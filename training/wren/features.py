"""Frames of the diphone voice, which has none of its own: read from its sound, at the pitch periods it was made with.

Same layout as the CLUSTERGEN voices': F0, 25 of mel cepstrum, 5 strengths of voicing, every 5 ms.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pyworld

from saywell.models.wren.phones import PAUSES, START
from training.wren.teacher import HOP, RATE, Floats, Spoken

ALPHA = 0.42
"""Warping of the frequency axis of the CLUSTERGEN voices."""
ORDER = 25
BANDS = (0, 1000, 2000, 4000, 6000, 8001)
FFT = 1024
EMPHASIS = 1.4
"""By so much Flite lifts the mel cepstrum from its third number on before a frame becomes sound: measured, the slope of
its sound's cepstrum over its frames'."""
FLAT_VOICES = ("kal16",)
"""Whose frames are read from their sound, so nothing is to be lifted."""
VOICELESS = {"p", "t", "k", "ch", "f", "s", "sh", "th", "hh", START, *PAUSES}
FLOOR_HZ, CEILING_HZ = 50.0, 400.0


def warped(bins: int, alpha: float = ALPHA) -> npt.NDArray[np.float64]:
    """The warped angle of each of `bins` frequencies from 0 to half the rate."""
    angle = np.linspace(0, np.pi, bins)
    return np.asarray(angle + 2 * np.arctan(alpha * np.sin(angle) / (1 - alpha * np.cos(angle))))


def cosines(bins: int) -> npt.NDArray[np.float64]:
    """Mel cepstrum → logarithm of the magnitude [ORDER, bins]."""
    return np.asarray(np.cos(np.arange(ORDER)[:, None] * warped(bins)[None]))


def analysed(spoken: Spoken) -> Floats:
    """Parameters [frames, 31] of an utterance that came with its pitch periods."""
    assert spoken.periods is not None
    samples = spoken.samples.astype(np.float64)
    frames = -(-len(samples) // HOP)
    times = np.arange(frames) * (HOP / RATE)
    f0 = _pitch(spoken, frames)
    carried = np.where(f0 > 0, f0, 100.0)
    spectrum = pyworld.cheaptrick(samples, carried, times, RATE, fft_size=FFT)
    aperiodic = pyworld.d4c(samples, carried, times, RATE, fft_size=FFT, threshold=0.0)
    cepstrum = 0.5 * np.log(spectrum + 1e-2) @ np.linalg.pinv(cosines(FFT // 2 + 1))
    frequency = np.linspace(0, RATE / 2, FFT // 2 + 1)
    bands = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(BANDS)]
    strengths = np.stack([1 - aperiodic[:, band].mean(1) for band in bands], 1)
    return np.concatenate([f0[:, None], cepstrum, strengths], 1).astype(np.float32)


def _pitch(spoken: Spoken, frames: int) -> npt.NDArray[np.float64]:
    """F0 of each frame from the pitch periods; 0 in phones without voice."""
    ends = np.asarray(spoken.periods, np.float64)
    lengths = np.diff(ends, prepend=0.0)
    period = np.interp(np.arange(frames) * HOP, ends - lengths / 2, lengths)
    f0 = np.clip(RATE / period, FLOOR_HZ, CEILING_HZ)
    start = 0
    for symbol, end in zip(spoken.symbols, spoken.ends, strict=True):
        if symbol in VOICELESS:
            f0[start:end] = 0.0
        start = int(end)
    return f0
