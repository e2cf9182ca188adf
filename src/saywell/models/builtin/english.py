"""What Flite is given to read: plain ASCII in a spelling its own text rules cannot misread.

Flite expands what looks like a US state, a Roman numeral or a homograph with rules of its own, case by case: "I told
John I would" becomes "John the first would", "Sean Penn is" "Sean Pennsylvania is", "HI THERE" "Hawaii there", "Please
read this" "please red this". Pronunciation does not depend on case, so lower case switches those rules off.
"""

from __future__ import annotations

import re

from saywell.errors import InvalidText
from saywell.text.english import SPELLED, ascii_only, respell

LONGEST_WORD = 50
"""Characters; a longer one is cut, because Flite's recursion and memory grow with it."""

WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
ROMAN = re.compile(r"[IVX]{2,}")


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


def _respell(text: str) -> str:
    words = [match.group() for match in WORD.finditer(text)]
    shouted = len(words) > 1 and not any(char.islower() for char in text)
    spoken = iter([_spell(word, words[max(0, at - 3) : at], shouted) for at, word in enumerate(words)])
    return WORD.sub(lambda _: next(spoken), text)


def _spell(word: str, before: list[str], shouted: bool) -> str:
    lower = word.lower()
    spelled = respell(lower, [other.lower() for other in before])
    if spelled != lower or len(word) < 2 or not word.isupper():
        return spelled
    if ROMAN.fullmatch(word):
        return word
    if not shouted and word in SPELLED:
        return " ".join("ay" if letter == "a" else letter for letter in lower)
    return lower
