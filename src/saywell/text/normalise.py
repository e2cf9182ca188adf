"""Text as it is spoken: "Dr. Smith paid $5.20 on 21/11/2026" → "Doctor Smith paid five dollars and twenty cents on …".

English is written out in full by the rules of `saywell.text.english`. Other languages are only cleaned: their
synthesisers know their own numbers better. Time is linear in the length of the text, hostile text included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from saywell.text.clean import clean, clean_edits
from saywell.text.english import read
from saywell.text.english.grammar import join
from saywell.text.language import looks_english
from saywell.text.markup import Markup, lines, references, strip_markup
from saywell.text.spans import Edit, Edited

_MONTH_FIRST = ("en-us",)
_SPACES = re.compile(r"\s+")
_RUN = re.compile(r"([!?,;:\"'(\[{<)\]}>*_~#|\\/^&%@+°§©$€£¥₹₩₽₿¢-])\1{2,}")
_STOPS = re.compile(r"\.{4,}")
_BEFORE_MARK = re.compile(r" (?=[,;!?](?![\w.])|[.:](?=\s|$))")
_LOST = re.compile(r"(?<=\s)\"(?=\s)|\(\s*\)|``|''")


@dataclass(frozen=True, slots=True)
class Decision:
    """How one span of the request's text is spoken, and by which rule."""

    start: int
    end: int
    written: str
    spoken: str
    rule: str


def normalise(text: str, language: str = "en", *, markup: Markup = "auto") -> str:
    """The spoken form of `text`, on one line. `language`: BCP-47 tag; `und`: English if it looks so. Raises nothing."""
    if not _is_english(language, text):
        return _SPACES.sub(" ", clean(text)).strip()
    plain = _plain(text, markup)
    spoken = "".join(join(read(plain.text, month_first=_tag(language) in _MONTH_FIRST)))
    spoken = _SPACES.sub(" ", _LOST.sub(" ", _SPACES.sub(" ", spoken)))
    return _BEFORE_MARK.sub("", spoken).strip()


def explain(text: str, language: str = "en", *, markup: Markup = "auto", off: Iterable[str] = ()) -> list[Decision]:
    """Each span of an English text that is spoken other than written, in order. `off`: names of rules to leave out."""
    plain = _plain(text, markup)
    found = []
    for reading in read(plain.text, month_first=_tag(language) in _MONTH_FIRST, off=frozenset(off)):
        written = plain.text[reading.start : reading.end]
        if reading.rule not in ("word", "mark") or (
            reading.spoken.strip() != written.strip() and reading.spoken.strip()
        ):
            start, end = plain.source(reading.start), plain.source(reading.end, end=True)
            found.append(Decision(start, end, text[start:end], reading.spoken.strip(), reading.rule))
    return found


def _tag(language: str) -> str:
    return language.lower().replace("_", "-")


def _is_english(language: str, text: str) -> bool:
    primary = _tag(language).partition("-")[0]
    return primary == "en" or (primary == "und" and looks_english(text))


def _plain(text: str, markup: Markup) -> Edited:
    """One line without markup, invisible characters and runs of marks."""
    edited = Edited(text)
    edited = edited.edit((m.start(), m.end(), "\n") for m in re.finditer(r"\r\n?", text)) if "\r" in text else edited
    if markup != "plain":
        edited = references(strip_markup(edited, markup))
    edited = lines(edited)
    edited = clean_edits(edited, latin=True)
    edited = edited.edit(_squeezed(edited.text, _STOPS, "..."))
    edited = edited.edit((m.start(), m.end(), m[1]) for m in _RUN.finditer(edited.text))
    edited = edited.edit((m.start(), m.end(), " ") for m in _SPACES.finditer(edited.text) if m[0] != " ")
    stripped = edited.text.strip()
    begun = len(edited.text) - len(edited.text.lstrip())
    return edited.edit([(0, begun, ""), (begun + len(stripped), len(edited.text), "")])


def _squeezed(text: str, pattern: re.Pattern[str], instead: str) -> Iterable[Edit]:
    return ((found.start(), found.end(), instead) for found in pattern.finditer(text))
