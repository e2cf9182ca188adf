"""English words for numbers."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

MAX_DIGITS = 15
"""Longer whole numbers are read digit by digit."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DENOMINATORS = {2: "half", 4: "quarter"}
_COMMON_DENOMINATORS = (*range(2, 11), 12, 16, 20, 25, 32, 50, 64, 100)
_TENS = ("", "", "twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")


@lru_cache(maxsize=4096)
def _words(number: int, form: str) -> str:
    from num2words import num2words  # 50 ms to import

    return str(num2words(number, lang="en", to=form)).replace(",", "")


def digits(text: str) -> str:
    """Each digit by its name; anything else is skipped."""
    return " ".join(_DIGITS[int(char)] for char in text if char.isascii() and char.isdigit())


def cardinal(text: str) -> str:
    """A string of ASCII digits as a whole number; leading zeros and very long strings digit by digit."""
    if len(text) > MAX_DIGITS or (len(text) > 1 and text[0] == "0"):
        return digits(text)
    return _words(int(text), "cardinal")


def ordinal(text: str) -> str:
    """`21` → twenty-first."""
    if len(text) > MAX_DIGITS:
        return digits(text)
    return _words(int(text), "ordinal")


def year(text: str) -> str:
    """Four digits as a year: nineteen ninety-nine, two thousand and five, twenty twenty-six."""
    number = int(text)
    return _words(number, "year") if 1000 < number < 2100 else cardinal(text)


def decade(text: str) -> str:
    """`1990` or `90` → nineteen nineties, nineties."""
    tens = int(text[-2:]) // 10
    if len(text) == 2:
        return _TENS[tens]
    if tens:
        return f"{cardinal(text[:2])} {_TENS[tens]}" if tens > 1 else f"{cardinal(text[:2])} tens"
    return f"{year(text)}s" if int(text) < 2100 else f"{cardinal(text[:2])} hundreds"


def decimal(text: str) -> str:
    """`1,234.50` → one thousand two hundred and thirty-four point five zero. Also accepts `.5` and a sign."""
    sign = "minus " if text[:1] == "-" else ""
    whole, _, part = text.lstrip("+-").replace(",", "").partition(".")
    spoken = cardinal(whole) if whole else ""
    if part:
        spoken = f"{spoken} point {digits(part)}".lstrip()
    return sign + spoken


def plural_words(words: str) -> str:
    """forty-seven → forty-sevens, twenty → twenties, six → sixes."""
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}{'es' if words.endswith('x') else 's'}"


def is_one(text: str) -> bool:
    """Whether the counted noun is singular."""
    return text.lstrip("+-") == "1"


@lru_cache(maxsize=1024)
def fraction(above: str, below: str) -> str:
    """`3/4` → three quarters; `1/2` → one half; improper and unusual fractions with `over`."""
    top, bottom = int(above), int(below)
    if not 2 <= bottom <= 100 or not 0 < top < bottom or (top > 1 and bottom not in _COMMON_DENOMINATORS):
        return f"{cardinal(above)} over {cardinal(below)}"
    name = _DENOMINATORS.get(bottom) or _words(bottom, "ordinal")
    if top != 1:
        name = "halves" if bottom == 2 else f"{name}s"
    return f"{_words(top, 'cardinal')} {name}"


@lru_cache(maxsize=1024)
def any_numeral(char: str) -> str:
    """A character with a numeric value, of any script, in words."""
    value = unicodedata.numeric(char)
    if value == int(value):
        return cardinal(str(int(value))) if value >= 0 else f"minus {cardinal(str(int(-value)))}"
    for bottom in range(2, 21):
        if abs(value * bottom - round(value * bottom)) < 1e-9:
            return fraction(str(round(value * bottom)), str(bottom))
    return decimal(f"{value:.4f}".rstrip("0"))
