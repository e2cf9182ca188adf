"""Times of words, and pitch."""

from __future__ import annotations

import numpy as np

from benchmarks.hearing import hear_words as spoken_words
from saywell.types import Samples

__all__ = ["pitch", "spoken_words"]


def pitch(samples: Samples, rate: int) -> float:
    """Median Hz of the voiced 40 ms windows, by autocorrelation."""
    size, low, high = rate // 25, rate // 400, rate // 60
    frequencies = []
    for start in range(0, len(samples) - size, size // 2):
        window = samples[start : start + size] - samples[start : start + size].mean()
        if np.sqrt(np.mean(window**2)) < 0.02:
            continue
        curve = np.correlate(window, window, "full")[size - 1 :]
        lag = low + int(np.argmax(curve[low:high]))
        if curve[lag] > 0.5 * curve[0]:
            frequencies.append(rate / lag)
    return float(np.median(frequencies))
