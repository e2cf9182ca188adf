"""How even the chunks of a long text are: spread of their loudness and of their rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saywell.types import Samples

_BLOCK_S = 0.05
_GATE_DB = 30.0
"""Blocks so far below the loudest tenth are pauses."""
_SHORTEST = 40
"""Letters: a shorter chunk's rate says more about its words than about the voice."""


def spread(chunks: Sequence[tuple[str, Samples]], rate: int) -> dict[str, float]:
    """chunks: (text, samples). Standard deviations over chunks: loudness in dB, rate in % of its mean."""
    letters = [sum(letter.isalpha() for letter in text) for text, _ in chunks]
    long = [(count, samples) for count, (_, samples) in zip(letters, chunks, strict=True) if count >= _SHORTEST]
    measured = [(count, *_voiced(samples, rate)) for count, samples in long]
    levels = np.array([level for _, level, _ in measured])
    rates = np.array([count / seconds for count, _, seconds in measured])
    return {
        "chunks": len(measured),
        "loudness_db": round(float(levels.std()), 2),
        "rate_percent": round(float(100 * rates.std() / rates.mean()), 1),
    }


def _voiced(samples: Samples, rate: int) -> tuple[float, float]:
    """Level in dB of what is not a pause, and its length in seconds."""
    size = round(_BLOCK_S * rate)
    blocks = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    powers = np.square(blocks).mean(axis=1)
    kept = powers[powers > np.quantile(powers, 0.9) * 10 ** (-_GATE_DB / 10)]
    return float(10 * np.log10(kept.mean())), len(kept) * _BLOCK_S
