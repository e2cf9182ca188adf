"""Synthetic sound that resembles speech."""

from __future__ import annotations

import numpy as np

from saywell.types import Samples

RATE = 16_000


def babble(seconds: float, rate: int = RATE, seed: int = 0) -> Samples:
    """Syllables: five times a second, different harmonics of a changing pitch, faded in and out."""
    random, count = np.random.default_rng(seed), int(seconds * rate)
    t = np.arange(count) / rate
    syllable = (t * 5).astype(int)
    pitch = random.uniform(90, 220, syllable[-1] + 1)[syllable]
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    strengths = 10 ** random.uniform(-1.5, 0, (syllable[-1] + 1, 20))
    sound = sum(strengths[syllable, n] * np.sin((n + 1) * phase) for n in range(20)) * np.sin(np.pi * (t * 5 % 1))
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)
