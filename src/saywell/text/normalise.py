"""Spoken form of a text: "Dr. Smith paid $5.20 on 21/11/2026" → "Doctor Smith paid five dollars and twenty cents on …".

English is written out in full. Other languages are only cleaned: their synthesisers read numbers better.
Every pattern does bounded work at each position, so hostile text takes no longer than prose.
"""

from __future__ import annotations

import re

from saywell.text.abbreviations import speak_abbreviations, speak_numbering, speak_roman
from saywell.text.check import speakable
from saywell.text.clean import clean
from saywell.text.dates import speak_dates, speak_times
from saywell.text.numbers import any_numeral
from saywell.text.quantities import (
    speak_huge,
    speak_measures,
    speak_money,
    speak_numbers,
    speak_phones,
    speak_versions,
)
from saywell.text.web import speak_addresses

_MONTH_FIRST = ("en-us",)
_DIGIT = re.compile(r"[\d²³¹⁰⁴-⁹¼-¾⅐-⅞]")
_OTHER_NUMERAL = re.compile(r"[^\W\x00-\x7f]")

_BULLET = re.compile(r"(?:^|\n)[ ]*(?:[-*+•‣·▪◦]|#{1,6})[ ]+(?=\S)")
_LINK = re.compile(r"!?\[([^\[\]\n]{0,200}[^\W_][^\[\]\n]{0,200})\]\((?:https?://|mailto:|[/#.])[^()\s]{0,500}\)")
_UNENDED = re.compile(r"(?<=[^\s.!?,;:…])(?=[\"')\]]{0,3}[ ]*\n[ ]*(?:\n|[=-]{3}|[-*+•‣·][ ]|\(?\d{1,3}[.)][ ]|#))")
_SPACES = re.compile(r"\s+")
_RUN = re.compile(r"([!?,;:\"'(\[{<)\]}>*_~#|\\/^&%@+°§©$€£¥₹₩₽₿¢-])\1{2,}")
_STOPS = re.compile(r"\.{4,}")
_BEFORE_MARK = re.compile(r" (?=[,;!?](?![\w.])|[.:](?=\s|$))")
_LOST_QUOTES = re.compile(r"(?<=\s)\"(?=\s)|\(\s*\)|``|''")

_WORD_SYMBOLS = (
    (re.compile(r"\b([CFGA])#(?!\w)"), r"\1 sharp"),
    (re.compile(r"(?<=\w)\+\+"), " plus plus"),
    (re.compile(r"#(?=\d)"), "number "),
    (re.compile(r"(?<!\w)#(?=[^\W\d_])"), "hashtag "),
    (re.compile(r"№\s?"), "number "),
    (re.compile(r"(?<![\w~])~\s?(?=[$€£]?\d)"), "about "),
    (re.compile(r"(?<!\S)<3(?!\S)"), "heart"),
    (re.compile(r"<\s?=|≤"), " less than or equal to "),
    (re.compile(r">\s?=|≥"), " greater than or equal to "),
    (re.compile(r"[-=]>|→|⇒"), " to "),
    (re.compile(r"(?:(?<=^)|(?<=[^\d\W][\s(])|(?<=[^\w\s][\s(]))–(?=\d)"), "−"),
    (re.compile(r"!=|≠"), " is not equal to "),
    (re.compile(r"(?:(?<=[\w)])|(?<![^\s(]))\s?<\s?(?=[$€£]?\.?\d)|(?<=[\w)])\s<\s(?=\w)"), " less than "),
    (re.compile(r"(?<=[\d)])\s?>\s?(?=\d)|(?<=[\w)])\s>\s(?=\.?\w)|(?<![^\s(])>(?=[$€£]?\.?\d)"), " greater than "),
)
_SYMBOLS = {
    "&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees", "§": "section", "©": "copyright",
    "×": "times", "÷": "divided by", "±": "plus or minus", "≈": "approximately", "∞": "infinity", "√": "square root of",
    "∑": "sum of", "‰": "per mille", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "₩": "won",
    "₽": "rouble", "₿": "bitcoin", "¢": "cent", "Ω": "ohm", "π": "pi",
}  # fmt: skip
_SYMBOL = re.compile("[" + re.escape("".join(_SYMBOLS)) + "]")
_EQUALS_RULE = re.compile(r"={2,}")
_DOT = re.compile(r"(?<=[^\W\d_])\.(?=[a-z])")
_AND_OR = re.compile(r"\b(and)/(or)\b", re.IGNORECASE)
_SLASH = re.compile(r"(?<=[^\W_])\s?/\s?(?=[^\W_])")
_TIDY = str.maketrans(
    {
        **dict.fromkeys("*_~`|\\^<>/#™®†‡¬¦¨¯¸·•‣¶-−", " "),
        **dict.fromkeys("[{", "("),
        **dict.fromkeys("]}", ")"),
        "–": "-",
    }
)
_HYPHEN = re.compile(r"(?<=[^\W_])-(?=[^\W_])")
_DASH = re.compile(r"\s?(?:—|--|–)\s?|\s-\s")


def normalise(text: str, language: str = "en") -> str:
    """The spoken form of `text`, on one line. `language`: BCP-47 tag; `und` is read as English. Never raises."""
    tag = language.lower().replace("_", "-")
    if tag.partition("-")[0] not in ("en", "und"):
        return _SPACES.sub(" ", clean(text)).strip()
    text = _lines(_LINK.sub(r"\1", clean(text, latin=True)))
    text = speak_addresses(_RUN.sub(r"\1", _STOPS.sub("...", text)))
    text = _say_numbers(text, month_first=tag in _MONTH_FIRST)
    text = _say_symbols(text)
    return _tidy(text)


def _lines(text: str) -> str:
    """One line without bullets, with full stops added to paragraphs and list items."""
    if "\n" in text:
        text = _UNENDED.sub(".", text)
    text = _BULLET.sub(_without_bullet, text)
    return _SPACES.sub(" ", text).strip()


def _without_bullet(found: re.Match[str]) -> str:
    """A sign with nothing speakable after it is not a bullet, but is itself read."""
    end = found.string.find("\n", found.end())
    return " " if speakable(found.string[found.end() : end if end >= 0 else None]) else found[0]


def _say_numbers(text: str, *, month_first: bool) -> str:
    for pattern, words in _WORD_SYMBOLS:
        text = pattern.sub(words, text)
    text = speak_roman(speak_abbreviations(speak_roman(speak_numbering(speak_huge(text)))))
    if _DIGIT.search(text):
        text = speak_times(speak_dates(speak_phones(text), month_first=month_first))
        text = speak_numbers(speak_measures(speak_money(speak_versions(text))))
    return text if text.isascii() else _OTHER_NUMERAL.sub(_numeral, text)


def _numeral(match: re.Match[str]) -> str:
    """Remaining numerals of any script in words. Letters with a numeric value stay."""
    char = match[0]
    return f" {any_numeral(char)} " if char.isnumeric() and not char.isalpha() else char


def _say_symbols(text: str) -> str:
    text = _AND_OR.sub(r"\1 \2", text)
    text = _DOT.sub(" dot ", text)
    text = _EQUALS_RULE.sub(" ", text)
    text = _SYMBOL.sub(lambda match: f" {_SYMBOLS[match[0]]} ", text)
    return _SLASH.sub(" slash ", text)


def _tidy(text: str) -> str:
    """Only letters and punctuation that matters for speech."""
    text = _DASH.sub(" — ", text)
    text = "-".join(piece.translate(_TIDY) for piece in _HYPHEN.split(text))
    text = _LOST_QUOTES.sub(" ", text)
    return _BEFORE_MARK.sub("", _SPACES.sub(" ", text)).strip()
