"""95 % confidence intervals by bootstrap over sentences, with a fixed seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
_RESAMPLES = 2000

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


def resamples(sentences: int) -> npt.NDArray[np.int64]:
    """Indices of the sentences in each resample, [resamples, sentences]; the same for the same number of sentences."""
    return np.random.default_rng(0).integers(0, max(1, sentences), (_RESAMPLES, sentences))


def bounds(values: Floats) -> Interval:
    """The interval of a statistic from its values on the resamples."""
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def mean(values: Floats) -> Interval:
    """Interval of the mean over sentences. For differences on the same sentences: of the mean difference."""
    return bounds(values[resamples(len(values))].mean(axis=1))


def ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Interval:
    """Interval of sum(above) / sum(below), both given by sentence."""
    indices = resamples(len(above))
    return bounds(above[indices].sum(axis=1) / np.maximum(1e-9, below[indices].sum(axis=1)))
