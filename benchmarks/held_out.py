"""The held-out sentences that benchmarks speak, and the normalised words of a text."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

from saywell.text.normalise import normalise

_TEXT = Path(__file__).parent / "data" / "held_out.txt"
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
_SCALES = frozenset(("hundred", "thousand", "million", "billion"))
_NUMBER = re.compile(
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    "|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:th)?|first|second|third|fifth|eighth|ninth|twelfth"
    "|(?:twen|thir|for|fif|six|seven|eigh|nine)tieth"
)


def words(text: str) -> list[str]:
    """The words of the spoken form, in lower case. "And" within numbers is left out."""
    plain = unicodedata.normalize("NFKD", normalise(text).lower())
    return _without_and(_WORD.findall("".join(letter for letter in plain if not unicodedata.combining(letter))))


@cache
def sentences() -> tuple[str, ...]:
    """Plain English sentences; in order, they are ten minutes of speech."""
    return tuple(line for line in _TEXT.read_text(encoding="utf-8").splitlines() if line)


def _without_and(spoken: list[str]) -> list[str]:
    """British "one hundred and twenty" as American "one hundred twenty"."""
    return [
        word
        for word, before, after in zip(spoken, ["", *spoken], [*spoken[1:], ""], strict=False)
        if not (word == "and" and before in _SCALES and _NUMBER.fullmatch(after))
    ]
