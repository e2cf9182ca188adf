"""Normalisation of words, and the held-out text."""

from __future__ import annotations

import pytest

from benchmarks.held_out import sentences, words


def test_text_is_ten_minutes_long() -> None:
    assert 1500 < sum(len(words(sentence)) for sentence in sentences()) < 1800
    assert len({tuple(words(sentence)) for sentence in sentences()}) == len(sentences())


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("20 cats", "twenty cats"),
        ("at 10:30", "at ten thirty"),
        ("It costs $5.", "it costs five dollars"),
        ("$14.50", "fourteen dollars and fifty cents"),
        ("in 1969", "in nineteen sixty-nine"),
        ("the 21st", "the twenty-first"),
        ("£999", "nine hundred ninety-nine pounds"),
        ("120 miles", "one hundred and twenty miles"),
        ("2,002 were lost", "Two thousand and two were lost."),
        ("50%", "fifty percent"),
        ("Dr. Smith", "Doctor Smith"),
        ("'Hello,' she said.", "hello she said"),
        ("James’ café", "james cafe"),
    ],
)
def test_spelling_of_numbers_is_ignored(written: str, spoken: str) -> None:
    assert words(written) == words(spoken)


def test_and_outside_numbers_is_kept() -> None:
    assert words("a hundred and more") == ["a", "hundred", "and", "more"]
    assert words("one and two") == ["one", "and", "two"]
