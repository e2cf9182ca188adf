"""Word and character error rates with their confidence intervals, and the gate on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from benchmarks import intervals
from benchmarks.held_out import words

LIMIT = 0.01
"""The most word error rate that may be added to the reference's: one point."""

Counts = npt.NDArray[np.int64]
"""Edits and words (or characters) of each text, [texts, 2]."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Errors by text, so that two scores can be compared on the same texts."""

    by_word: Counts
    by_character: Counts

    @property
    def wer(self) -> float:
        """Word error rate: substituted, missing and added words over words asked for. May exceed 1."""
        return float(_rate(self.by_word))

    @property
    def cer(self) -> float:
        """Character error rate: a near miss costs less than a different word."""
        return float(_rate(self.by_character))

    @property
    def interval(self) -> intervals.Interval:
        """Of the word error rate."""
        return intervals.ratio(self.by_word[:, 0], self.by_word[:, 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a candidate is good enough beside its reference."""

    passed: bool
    certain: bool
    """Whether the whole interval lies on the verdict's side of the limit; if not, more sentences may change it."""
    added: float
    """Word error rate of the candidate minus the reference's."""
    interval: intervals.Interval
    reason: str


def score(asked: Sequence[str], heard: Sequence[str]) -> Score:
    """Errors by text; both sides are normalised the same way."""
    pairs = [(words(text), words(said)) for text, said in zip(asked, heard, strict=True)]
    return Score(
        _counts([(a, b) for a, b in pairs]),
        _counts([(" ".join(a), " ".join(b)) for a, b in pairs]),
    )


def word_error_rate(asked: str, heard: str) -> float:
    """Of one text."""
    return score([asked], [heard]).wer


def verdict(candidate: Score, reference: Score, name: str) -> Verdict:
    """The gate: at most LIMIT more than the reference, called `name` in the reason, on the same texts."""
    if not np.array_equal(candidate.by_word[:, 1], reference.by_word[:, 1]):
        raise ValueError("only scores on the same texts can be compared")
    added = candidate.wer - reference.wer
    drawn = intervals.resamples(len(reference.by_word))
    low, high = intervals.bounds(_rate(candidate.by_word[drawn]) - _rate(reference.by_word[drawn]))
    passed = added <= LIMIT + 1e-9
    return Verdict(
        passed=passed,
        certain=bool(high <= LIMIT if passed else low > LIMIT),
        added=added,
        interval=(low, high),
        reason=f"{100 * added:+.1f} points of word error rate against {name}; at most {100 * LIMIT:+.1f} is allowed",
    )


def _counts(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Counts:
    return np.array([(Levenshtein.distance(a, b), len(a)) for a, b in pairs], dtype=np.int64).reshape(-1, 2)


def _rate(counts: Counts) -> intervals.Floats:
    """Edits over length, both summed over texts: the last axis but one."""
    edits, length = counts.sum(axis=-2)[..., 0], counts.sum(axis=-2)[..., 1]
    return np.asarray(edits / np.maximum(1, length))
