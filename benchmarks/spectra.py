"""Average spectra of voices, and their similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from saywell.audio.resample import resample
from saywell.types import Samples

RATE = 16000
"""Hz."""
BANDS = 40
_WINDOW, _HOP, _FFT = 480, 240, 512
"""30 ms every 15 ms."""
_FLOOR_DB = 60.0
"""Range below the loudest band of a recording; quieter bands are raised to it."""
_SPEECH_DB = 30.0
"""A frame more than this below the loudest frame is not speech."""

Spectrum = npt.NDArray[np.float64]
"""Mel bands in dB, [frames, BANDS]."""
Print = npt.NDArray[np.float64]
"""A voice's average spectrum in dB minus its mean, [BANDS]."""


def spectrum(samples: Samples, rate: int) -> Spectrum:
    """Mel bands of a recording in dB, limited to 60 dB below the loudest."""
    samples = resample(samples, rate, RATE).astype(np.float64)
    samples = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), _FFT)) ** 2
    decibels = 10 * np.log10(power @ _bands() + 1e-12)
    return np.asarray(np.maximum(decibels, decibels.max() - _FLOOR_DB))


def voice_print(spectra: Sequence[Spectrum]) -> Print:
    """Mean over all speech frames of recordings of one voice."""
    frames = np.concatenate(spectra)
    level = frames.mean(axis=1)
    speech = frames[level > level.max() - _SPEECH_DB]
    mean = speech.mean(axis=0)
    return np.asarray(mean - mean.mean())


def similarity(one: Print, other: Print) -> float:
    """Correlation of two prints: above 0.95 for halves of one recording, 0.6 to 0.93 for different speakers."""
    return float(np.corrcoef(one, other)[0, 1])


def nearest(print_: Print, voices: Mapping[str, Print]) -> str:
    """Name of the voice with the most similar print."""
    return min(voices, key=lambda name: float(((voices[name] - print_) ** 2).mean()))


@cache
def _bands() -> npt.NDArray[np.float64]:
    """Triangles evenly spaced in mel from 60 Hz to 7600 Hz, [bins, BANDS]."""

    def mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    edges = 700 * (10 ** (np.linspace(mel(60), mel(7600), BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None))
