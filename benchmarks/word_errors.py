"""Errors between what was to be said and what was heard, how sure they are, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from saywell.bench.held_out import words

LIMIT = 0.01
"""How much a cheaper way to speak may add to the word error rate of fp32: one point."""
_DRAWS = 2000
_LEVEL = 0.95

Counts = npt.NDArray[np.int64]
"""Edits and words (or characters) of each text, [texts, 2]."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Errors of one way to speak, text by text, so that two ways can be compared on the same texts."""

    by_word: Counts
    by_character: Counts

    @property
    def wer(self) -> float:
        """Edits (substituted, missing and added words) for each word asked for; above 1 is possible."""
        return float(_rate(self.by_word))

    @property
    def cer(self) -> float:
        """The same for characters: a near miss costs less than another word."""
        return float(_rate(self.by_character))

    @property
    def interval(self) -> tuple[float, float]:
        """Between what the word error rate lies for 95 of 100 such sets of texts, by bootstrap."""
        return _interval(_rate(self.by_word[_draws(len(self.by_word))]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a cheaper way to speak may be used without being asked for."""

    passed: bool
    certain: bool
    """Whether the whole interval lies on the side of the verdict; if not, more sentences may turn it."""
    added: float
    """Word error rate beyond that of fp32."""
    interval: tuple[float, float]
    reason: str


def score(asked: Sequence[str], heard: Sequence[str]) -> Score:
    """Text by text; both sides are reduced to the same kind of words first."""
    pairs = [(words(text), words(said)) for text, said in zip(asked, heard, strict=True)]
    return Score(
        _counts([(a, b) for a, b in pairs]),
        _counts([(" ".join(a), " ".join(b)) for a, b in pairs]),
    )


def word_error_rate(asked: str, heard: str) -> float:
    """Of one text."""
    return score([asked], [heard]).wer


def verdict(candidate: Score, fp32: Score) -> Verdict:
    """The gate for every cheaper way to speak: at most a point of word error rate beyond fp32 on the same texts."""
    if not np.array_equal(candidate.by_word[:, 1], fp32.by_word[:, 1]):
        raise ValueError("only scores on the same texts can be compared")
    added = candidate.wer - fp32.wer
    draws = _draws(len(fp32.by_word))
    low, high = _interval(_rate(candidate.by_word[draws]) - _rate(fp32.by_word[draws]))
    passed = added <= LIMIT + 1e-9
    side = "within" if passed else "beyond"
    return Verdict(
        passed=passed,
        certain=bool(high <= LIMIT if passed else low > LIMIT),
        added=added,
        interval=(low, high),
        reason=f"{100 * added:+.1f} points of word error rate beside fp32, {side} the one that is allowed",
    )


def _counts(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Counts:
    return np.array([(Levenshtein.distance(a, b), len(a)) for a, b in pairs], dtype=np.int64).reshape(-1, 2)


def _rate(counts: Counts) -> npt.NDArray[np.float64]:
    """Edits over length of everything along the last but one axis."""
    edits, length = counts.sum(axis=-2)[..., 0], counts.sum(axis=-2)[..., 1]
    return np.asarray(edits / np.maximum(1, length))


def _draws(texts: int) -> npt.NDArray[np.int64]:
    """Which texts each draw holds, [draws, texts]; always the same, so that a figure can be had again."""
    return np.random.default_rng(0).integers(0, max(1, texts), (_DRAWS, texts))


def _interval(rates: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(rates, ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return float(low), float(high)
