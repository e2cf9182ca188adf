"""Cleaning for all languages: unusual characters are removed or folded to plain ones, without losing anything audible.

The whole text is not NFKC-normalised, in which one character may become eighteen (U+FDFA).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from saywell.text.check import FILLERS
from saywell.text.spans import Edited

_MARKS_KEPT = 3
"""Combining marks kept on a base: Vietnamese has two, pointed Hebrew three."""

# Marks can pile up only in a run this long without a letter.
_PILE = re.compile(r"[^\w\s\x00-\u02ff]{3,}")
_ODD = re.compile(r"[^\n\x20-\x7e]")
_WITH_BASE = re.compile(r"[\x20-\x7e]?[^\n\x20-\x7e]+")
_ODD_RUN = re.compile(r"[^\n\x20-\x7e]+")
# Joiners shape Arabic and Indic words; elsewhere they are invisible.
_JOINERS = re.compile(r"(?<![\u0600-\u0dff])[\u200c\u200d]|[\u200c\u200d](?![\u0600-\u0dff])")
# 10 000 with a space that must not break is one number.
_FIXED_THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")

_FOLDED = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u02b9\uff07\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02\u301d\u301e", '"'),
    **dict.fromkeys("\u2010\u2011\ufe63\uff0d\u2043", "-"),
    **dict.fromkeys("\u2012\ufe58", "–"),
    **dict.fromkeys("\u2015\u2e3a\u2e3b", "—"),
    **dict.fromkeys("\u2039\u203a\u2329\u232a", "'"),
    "\u2026": "...",
    "\u2025": "..",
    "\u00ad": "",
    "\u2028": "\n",
    "\u2029": "\n\n",
    "\x85": "\n",
    "\x0b": "\n",
    "\x0c": "\n\n",
    "\u203c": "!!",
    "\u2047": "??",
    "\u2048": "?!",
    "\u2049": "!?",
    "\u2044": "/",
}
_KEPT_SYMBOLS = "⌘⇧⌥♭→±×÷≈≠≤≥∞√∑π©®™°№§‰€£¥₹₩₽₿¢·•‣–—†‡¿¡¬¶¦¨¯¸∆∂∏∫"


def clean(edited: Edited, *, latin: bool = False) -> Edited:
    """Plain characters in NFC, without controls, invisible characters, emoji and piles of accents.

    `latin`: also fold wide forms, styled letters and digits of other scripts to ASCII, as English needs it.
    """
    if not _ODD.search(edited.text):
        return edited
    edited = edited.edit((found.start(), found.end(), "") for found in _FIXED_THOUSANDS.finditer(edited.text))
    edited = edited.edit((found.start(), found.end(), _thin(found)) for found in _PILE.finditer(edited.text))
    edited = edited.edit(_composed(edited.text))
    edited = edited.edit((found.start(), found.end(), "") for found in _JOINERS.finditer(edited.text))
    plain = _plain_latin if latin else _plain
    return edited.edit(
        (at, at + 1, instead)
        for run in _ODD_RUN.finditer(edited.text)
        for at, char in enumerate(run[0], run.start())
        if (instead := plain(char)) != char
    )


def _composed(text: str) -> Iterator[tuple[int, int, str]]:
    """Runs that NFC changes, each with the character before it."""
    for run in _WITH_BASE.finditer(text):
        if (composed := unicodedata.normalize("NFC", run[0])) != run[0]:
            yield run.start(), run.end(), composed


def _thin(run: re.Match[str]) -> str:
    """Keep the first few of a run of combining marks. Before NFC, whose sorting is quadratic in such a run."""
    kept, marks = [], 0
    for char in run[0]:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        if marks <= _MARKS_KEPT:
            kept.append(char)
    return "".join(kept)


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    """The replacement of a character outside printable ASCII: itself, a look-alike, a space, or nothing."""
    if char in _FOLDED:
        return _FOLDED[char]
    kind = unicodedata.category(char)
    if char in FILLERS or kind in ("Cf", "Cc", "Cs", "Cn", "Co"):
        return char if char in "\u200c\u200d" else " " if char == "\t" else ""
    if kind[0] == "Z":
        return " "
    if "\ufe00" <= char <= "\ufe0f" or kind == "Me":
        return ""
    if kind in ("So", "Sk") and char not in _KEPT_SYMBOLS and len(unicodedata.normalize("NFKC", char)) > 4:
        return " "
    return " " if kind == "So" and not _has_letters(char) and char not in _KEPT_SYMBOLS else _unless_modifier(char)


def _unless_modifier(char: str) -> str:
    """Skin tones are the only symbol modifier of emoji."""
    return "" if "\U0001f3fb" <= char <= "\U0001f3ff" else char


def _has_letters(char: str) -> bool:
    """True for symbols made of letters or digits: ℃, ㎏, ①, ㍿."""
    return any(part.isalnum() for part in unicodedata.normalize("NFKC", char))


@lru_cache(maxsize=4096)
def _plain_latin(char: str) -> str:
    """As _plain, and wide, enclosed and styled characters as ASCII, digits of any script as 0-9."""
    if char in "²³¹⁰⁴⁵⁶⁷⁸⁹⁺⁻ªº№™®µ":
        return char
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    plain = _plain(char)
    if plain != char:
        return plain
    folded = unicodedata.normalize("NFKC", char).replace("\u2044", "/")
    if folded == char or len(folded) > 4 or "/" in folded:
        return char
    enclosed = unicodedata.category(char) == "No"
    folded = "".join(map(_plain, folded))
    return f" {folded} " if enclosed and not "\u2080" <= char <= "\u2089" else folded
