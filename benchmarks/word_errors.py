"""Word and character error rates with confidence intervals, and a limit on the word error rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from benchmarks import intervals
from benchmarks.held_out import words

LIMIT = 0.01
"""Largest allowed increase of the word error rate over the reference: one point."""

Counts = npt.NDArray[np.int64]
"""Edits and words (or characters) of each text, [texts, 2]."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Errors by text, so that scores on the same texts can be compared."""

    by_word: Counts
    by_character: Counts

    @property
    def wer(self) -> float:
        """Word error rate: substitutions, deletions and insertions over words of the text. Can exceed 1."""
        return float(_rate(self.by_word))

    @property
    def cer(self) -> float:
        """Character error rate: a similar word costs less than a different one."""
        return float(_rate(self.by_character))

    @property
    def interval(self) -> intervals.Interval:
        """Interval of the word error rate."""
        return intervals.ratio(self.by_word[:, 0], self.by_word[:, 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a candidate is good enough compared with its reference."""

    passed: bool
    certain: bool
    """Whether the whole interval lies on one side of the limit; if not, more sentences may change the verdict."""
    added: float
    """Word error rate of the candidate minus that of the reference."""
    interval: intervals.Interval
    reason: str


def score(texts: Sequence[str], transcripts: Sequence[str]) -> Score:
    """Errors by text, after the same normalisation of both sides."""
    pairs = [(words(text), words(heard)) for text, heard in zip(texts, transcripts, strict=True)]
    return Score(
        _counts([(a, b) for a, b in pairs]),
        _counts([(" ".join(a), " ".join(b)) for a, b in pairs]),
    )


def word_error_rate(text: str, transcript: str) -> float:
    return score([text], [transcript]).wer


def verdict(candidate: Score, reference: Score, name: str) -> Verdict:
    """Whether the candidate has at most LIMIT more errors than the reference, called `name`, on the same texts."""
    if not np.array_equal(candidate.by_word[:, 1], reference.by_word[:, 1]):
        raise ValueError("scores can only be compared on the same texts")
    added = candidate.wer - reference.wer
    indices = intervals.resamples(len(reference.by_word))
    low, high = intervals.bounds(_rate(candidate.by_word[indices]) - _rate(reference.by_word[indices]))
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
    """Edits over length, both summed over texts, the second last axis."""
    edits, length = counts.sum(axis=-2)[..., 0], counts.sum(axis=-2)[..., 1]
    return np.asarray(edits / np.maximum(1, length))
