"""How far two recordings lie apart by their spectra, and whose voice one is nearest to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from saywell.audio.resample import resample
from saywell.types import Samples

RATE = 16000
"""Everything is compared at this rate, Hz."""
BANDS = 40
_WINDOW, _HOP, _FFT = 480, 240, 512
"""30 ms every 15 ms."""
_FLOOR_DB = 60.0
"""Below the loudest band of the recording: what lies deeper is not heard beside it."""
_SPEECH_DB = 30.0
"""A frame this far below the loudest frame is not counted as voice."""

Spectrum = npt.NDArray[np.float64]
"""Mel bands in dB, [frames, BANDS]."""
Print = npt.NDArray[np.float64]
"""The average colour of a voice: dB by band, without its loudness, [BANDS]."""


def spectrum(samples: Samples, rate: int) -> Spectrum:
    """Mel bands of a recording, in dB of full scale, cut off 60 dB below the loudest."""
    samples = resample(samples, rate, RATE).astype(np.float64)
    samples = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), _FFT)) ** 2
    decibels = 10 * np.log10(power @ _bands() + 1e-12)
    return np.asarray(np.maximum(decibels, decibels.max() - _FLOOR_DB))


def distance(one: Spectrum, other: Spectrum) -> float:
    """Log-spectral distance in dB along the best way to lay the two over each other (dynamic time warping).

    Root mean square over bands, mean over the way. 0: the same spectra at whatever pace.
    """
    cost = np.sqrt(((one[:, None] - other[None]) ** 2).mean(axis=2))
    total, steps = _warp(cost)
    return total / steps


def voice_print(spectra: Sequence[Spectrum]) -> Print:
    """Of some recordings of one voice: the mean over all frames that are speech."""
    frames = np.concatenate(spectra)
    level = frames.mean(axis=1)
    speech = frames[level > level.max() - _SPEECH_DB]
    mean = speech.mean(axis=0)
    return np.asarray(mean - mean.mean())


def nearest(print_: Print, voices: Mapping[str, Print]) -> str:
    """The voice whose colour is least far away."""
    return min(voices, key=lambda name: float(((voices[name] - print_) ** 2).mean()))


def _warp(cost: npt.NDArray[np.float64]) -> tuple[float, int]:
    """The cheapest way through the table from corner to corner: its cost, and how many cells it takes.

    One anti-diagonal at a time, each cell held at its row.
    """
    rows, columns = cost.shape
    total, steps = (np.full((3, rows + 1), fill) for fill in (np.inf, 0.0))
    total[0, 0] = 0.0  # before the first cell; row r of the table is cell r + 1 here
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        now, last, before = (np.array((0, -1, -2)) + diagonal) % 3
        ways = np.stack((total[before, row - 1], total[last, row - 1], total[last, row]))
        counts = np.stack((steps[before, row - 1], steps[last, row - 1], steps[last, row]))
        best, at = ways.argmin(axis=0), np.arange(len(row))
        total[now], steps[now] = np.inf, 0.0
        total[now, row] = ways[best, at] + cost[row - 1, diagonal - row - 1]
        steps[now, row] = counts[best, at] + 1
    final = (rows + columns) % 3
    return float(total[final, rows]), int(steps[final, rows])


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
