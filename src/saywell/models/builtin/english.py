"""What Flite is given to read: plain ASCII in a spelling its own text rules cannot misread.

Flite expands what looks like a US state, a Roman numeral or a homograph with rules of its own, case by case: "I told
John I would" becomes "John the first would", "Sean Penn is" "Sean Pennsylvania is", "HI THERE" "Hawaii there", "Please
read this" "please red this". Pronunciation does not depend on case, so lower case switches those rules off.
"""

from __future__ import annotations

import re
import unicodedata

from saywell.errors import InvalidText

LONGEST_WORD = 50
"""Characters; a longer one is cut, because Flite's recursion and memory grow with it."""

LETTERS = str.maketrans(
    {
        "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
        "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i",
        "‘": "'", "’": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
        "–": ", ", "—": ", ", "‐": "-", "‑": "-", "−": "-", "⁄": "/", "。": ". ", "、": ", ",
    }
)  # fmt: skip

STATES = frozenset(
    "AL AK AZ CA CO DC DE FL GA HI IA ID IL KS KY LA MA MD ME MI MN MS MT MO NC ND NE NH NV NY OH OK OR PA RI SC SD "  # noqa: SIM905
    "TN TX UT VA WA WI WV WY PR".split()
)
"""Capitals that Flite takes for a US state, even in "the SD card"."""
WORDS = {"HI", "ME", "OH", "OK", "OR"}
"""Those of them that are words."""

WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
ROMAN = re.compile(r"[IVX]{2,}")
PERFECT = re.compile("have|has|had|having|was|were|is|are|be|been|being|already|he|she|it")
"""Before "read": sounds like "red" …"""
AUXILIARY = re.compile("to|did|does|do|can|could|will|would|should|shall|must|may|might|let")
"""… unless one of these stands within three words before it."""


def plain(text: str) -> str:
    """ASCII text for Flite. Raises InvalidText when no letter or digit is left."""
    text = ascii_only(text)
    if not any(char.isalnum() for char in text):
        raise InvalidText(
            "nothing in this text can be read by an English Flite voice; choose an espeak:<language> voice",
            param="text",
        )
    text = re.sub(r"\.{2,}(?=\s*$)", ".", text)
    text = re.sub(r"\.{2,}", ", ", text)
    text = re.sub(r"[][<>{}`]", " ", text)
    text = re.sub(r"\s+", " ", _respell(text)).strip()
    return re.sub(rf"\S{{{LONGEST_WORD}}}(?=\S)", r"\g<0> ", text)


def ascii_only(text: str) -> str:
    """Letters without their accents; whatever else ASCII does not know, and control characters, become spaces."""
    return "".join(map(_ascii, unicodedata.normalize("NFKD", text.translate(LETTERS)).translate(LETTERS)))


def _ascii(char: str) -> str:
    if char.isascii() and char.isprintable():
        return char
    return "" if unicodedata.category(char) in ("Mn", "Me", "Cf") else " "


def _respell(text: str) -> str:
    words = [match.group() for match in WORD.finditer(text)]
    shouted = len(words) > 1 and not any(char.islower() for char in text)
    spoken = iter([_spell(word, words[max(0, at - 3) : at], shouted) for at, word in enumerate(words)])
    return WORD.sub(lambda _: next(spoken), text)


def _spell(word: str, before: list[str], shouted: bool) -> str:
    lower = word.lower()
    if lower == "lead":
        return "leed"
    if lower == "read":
        return _read([other.lower() for other in before])
    if len(word) < 2 or not word.isupper():
        return lower
    if ROMAN.fullmatch(word):
        return word
    if not shouted and (word == "US" or (word in STATES and word not in WORDS)):
        return " ".join("ay" if letter == "a" else letter for letter in lower)
    return lower


def _read(before: list[str]) -> str:
    past = before and PERFECT.fullmatch(before[-1]) and not any(map(AUXILIARY.fullmatch, before))
    return "red" if past else "reed"
