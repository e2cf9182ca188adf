"""95 % confidence intervals by resampling sentences (bootstrap). The seed is fixed, so figures can be reproduced."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
_RESAMPLES = 2000

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


def resamples(sentences: int) -> npt.NDArray[np.int64]:
    """Which sentences each resample holds, [resamples, sentences]; equal for equal numbers of sentences."""
    return np.random.default_rng(0).integers(0, max(1, sentences), (_RESAMPLES, sentences))


def bounds(values: Floats) -> Interval:
    """The interval of a statistic from its value on each resample."""
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def mean(values: Floats) -> Interval:
    """Of the mean over sentences. Of differences on the same sentences, the interval of the mean difference."""
    return bounds(values[resamples(len(values))].mean(axis=1))


def ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Interval:
    """Of the sum of `above` over the sum of `below`, both given by sentence."""
    drawn = resamples(len(above))
    return bounds(above[drawn].sum(axis=1) / np.maximum(1e-9, below[drawn].sum(axis=1)))
