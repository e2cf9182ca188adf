"""What a reader of English needs beside the spoken form of a text: plain letters, and what only neighbours tell."""

from __future__ import annotations

import re
import unicodedata

LETTERS = str.maketrans(
    {
        "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
        "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i",
        "‘": "'", "’": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
        "–": ", ", "—": ", ", "‐": "-", "‑": "-", "−": "-", "⁄": "/", "。": ". ", "、": ", ",
    }
)  # fmt: skip

SPELLED = frozenset(
    "AL AK AZ CA CO DC DE FL GA IA ID IL KS KY LA MA MD MI MN MS MT MO NC ND NE NH NV NY PA RI SC SD TN TX UT VA WA "  # noqa: SIM905
    "WI WV WY PR US".split()
)
"""Pairs of capitals read letter by letter though they look like a word or an abbreviation: the PA, an SD card."""

_PERFECT = re.compile("have|has|had|'ve|having|was|were|is|are|be|been|being|already|he|she|it")
"""Before "read": sounds like "red" …"""
_AUXILIARY = re.compile("to|did|does|do|can|could|will|would|should|shall|must|may|might|let")
"""… unless one of these stands within three words before it."""


def ascii_only(text: str) -> str:
    """Letters without their accents; whatever else ASCII does not know, and control characters, become spaces."""
    return "".join(map(_ascii, unicodedata.normalize("NFKD", text.translate(LETTERS)).translate(LETTERS)))


def _ascii(char: str) -> str:
    if char.isascii() and char.isprintable():
        return char
    return "" if unicodedata.category(char) in ("Mn", "Me", "Cf") else " "


def respell(word: str, before: list[str]) -> str:
    """A spelling that can be read in one way only. `word` and up to three words `before` it in lower case."""
    if word == "lead":
        return "leed"
    if word == "read":
        past = before and _PERFECT.fullmatch(before[-1]) and not any(map(_AUXILIARY.fullmatch, before))
        return "red" if past else "reed"
    return word
