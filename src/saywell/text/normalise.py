"""Text as it is spoken: "Dr. Smith paid $5.20 on 21/11/2026" → "Doctor Smith paid five dollars and twenty cents on …".

English is written out in full by the rules of `saywell.text.english`. Other languages are only cleaned: their
synthesisers know their own numbers better. Time is linear in the length of the text, hostile text included.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from saywell.text.clean import clean
from saywell.text.english import read
from saywell.text.english.grammar import Reading, Scan, join
from saywell.text.language import looks_english
from saywell.text.lexicon import NO_WORDS, Words
from saywell.text.markup import detect, emphasis, lines, references, strip_markup
from saywell.text.spans import Edit, Edited
from saywell.types import Markup

_AMERICAN = ("en-us",)
_RETURN = re.compile(r"\r\n?")
_SPACES = re.compile(r"\s+")
_RUN = re.compile(r"([!?,;:\"'(\[{<)\]}>*_~#|\\/^&%@+°§©$€£¥₹₩₽₿¢-])\1{2,}")
_STOPS = re.compile(r"\.{4,}")
_BEFORE_MARK = re.compile(r" (?=[,;!?](?![\w.])|[.:](?=\s|$))")
_LOOSE = re.compile(r"\s+\"(?=\s)|\(\s*\)|``|''|\s+")
"""White space, and marks around nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How one span of the request's text is spoken, and by which rule."""

    start: int
    end: int
    written: str
    spoken: str
    rule: str
    phones: str = ""
    """Those the user gave."""


class Spoken:
    """The spoken form of a text, and which span of the text each part of it comes from."""

    def __init__(self, plain: Edited, readings: list[Reading]) -> None:
        pieces = list(join(readings))
        self._plain, self._readings, self._lengths = plain, readings, [*map(len, pieces)]
        self._starts = list(accumulate(map(len, pieces), initial=0))[:-1]
        """Where each reading begins in the joined text."""
        joined = Edited("".join(pieces))
        joined = joined.edit(_replaced(joined.text, _LOOSE, " "))
        joined = joined.edit(_replaced(joined.text, _SPACES, " "))
        joined = joined.edit(_replaced(joined.text, _BEFORE_MARK, ""))
        self._spoken = joined
        self.text = joined.text.strip()
        self._begun = len(joined.text) - len(joined.text.lstrip())
        self.phones = tuple(self._given(index) for index, reading in enumerate(readings) if reading.phones)
        """Start and end in `text`, and the phones that the user gave for it."""

    def _given(self, index: int) -> tuple[int, int, str]:
        reading = self._readings[index]
        end = self._starts[index] + self._lengths[index]
        span = self._place(end - len(reading.spoken)), self._place(end)
        return span[0] - self._begun, span[1] - self._begun, reading.phones

    def _place(self, joined: int) -> int:
        """Where a character of the joined readings is in the text made of them."""
        return bisect_left(range(len(self._spoken.text)), joined, key=self._spoken.source)

    def spans(self, words: Iterable[str]) -> list[tuple[int, int]]:
        """For words of the spoken text, in order: the spans of the written text they speak."""
        found, at, lower = list[tuple[int, int]](), 0, self.text.lower()
        for word in words:
            begin = lower.find(word.lower(), at)
            if begin >= 0:
                at = begin + len(word)
                found.append((self._written(begin)[0], self._written(at - 1)[1]))
            else:  # the model spells this word in another way
                found.append(found[-1] if found else (0, 0))
        return found

    def _written(self, at: int) -> tuple[int, int]:
        """The span of the written text of the character at `at`."""
        place = self._spoken.source(at + self._begun)
        index = max(0, bisect_right(self._starts, place) - 1)
        reading = self._readings[index]
        start, end = reading.start, reading.end
        if reading.rule == "word":  # spoken as written, character by character
            start = end = min(reading.end - 1, reading.start + place - self._starts[index])
            end += 1
        return self._plain.source(start), self._plain.source(end, end=True)


def speak(text: str, language: str = "en", *, markup: Markup = "auto", own: Words = NO_WORDS) -> Spoken:
    """The spoken form of `text` with its spans.

    `language`: BCP-47 tag; `und`: English if it looks so. `own`: the user's own readings.
    """
    return Spoken(*_readings(text, language, markup, own))


def normalise(text: str, language: str = "en", *, markup: Markup = "auto", own: Words = NO_WORDS) -> str:
    """The spoken form of `text`, on one line; see `speak`. Raises nothing."""
    return speak(text, language, markup=markup, own=own).text


def markup_of(text: str, markup: Markup = "auto") -> Markup:
    """Which markup `speak` reads in `text`."""
    return detect(text) if markup == "auto" else markup


def explain(
    text: str, language: str = "en", *, markup: Markup = "auto", own: Words = NO_WORDS, off: Iterable[str] = ()
) -> list[Decision]:
    """Each span that is spoken other than written, in order. `off`: names of rules of English to leave out."""
    plain, readings = _readings(text, language, markup, own, frozenset(off))
    found = []
    for reading in readings:
        written = plain.text[reading.start : reading.end]
        if reading.rule not in ("word", "mark") or (
            reading.spoken.strip() != written.strip() and reading.spoken.strip()
        ):
            start, end = plain.source(reading.start), plain.source(reading.end, end=True)
            found.append(Decision(start, end, text[start:end], reading.spoken.strip(), reading.rule, reading.phones))
    return found


def _readings(
    text: str, language: str, markup: Markup, own: Words, off: frozenset[str] = frozenset()
) -> tuple[Edited, list[Reading]]:
    edited = Edited(text)
    edited = edited.edit(_replaced(text, _RETURN, "\n"))
    if not _is_english(language, text):
        if markup != "plain":
            used = markup_of(edited.text, markup)
            edited = lines(references(strip_markup(edited, used, formulas=False)))
            edited = emphasis(edited) if used == "markdown" else edited
        plain = clean(edited)
        return plain, [*_words(plain.text, _given(plain.text, own))]
    plain = _plain(edited, markup)
    scan = Scan(plain.text, american=_tag(language) in _AMERICAN, given=[*_given(plain.text, own)])
    return plain, read(scan, off)


def _given(text: str, own: Words) -> Iterator[Reading]:
    return (Reading(start, end, entry.spoken, "lexicon", entry.phones) for start, end, entry in own.find(text))


def _words(text: str, given: Iterable[Reading]) -> Iterator[Reading]:
    """Readings of a whole text, as written between those given."""
    at = 0
    for reading in given:
        if reading.start > at:
            yield Reading(at, reading.start, text[at : reading.start], "word")
        yield reading
        at = reading.end
    if at < len(text):
        yield Reading(at, len(text), text[at:], "word")


def _tag(language: str) -> str:
    return language.lower().replace("_", "-")


def _is_english(language: str, text: str) -> bool:
    primary = _tag(language).partition("-")[0]
    return primary == "en" or (primary == "und" and looks_english(text))


def _plain(edited: Edited, markup: Markup) -> Edited:
    """One line without markup, invisible characters and runs of marks."""
    if markup != "plain":
        edited = references(strip_markup(edited, markup))
    edited = lines(edited)
    edited = clean(edited, latin=True)
    edited = edited.edit(_replaced(edited.text, _STOPS, "..."))
    edited = edited.edit((m.start(), m.end(), m[1]) for m in _RUN.finditer(edited.text))
    edited = edited.edit((m.start(), m.end(), " ") for m in _SPACES.finditer(edited.text) if m[0] != " ")
    stripped = edited.text.strip()
    begun = len(edited.text) - len(edited.text.lstrip())
    return edited.edit([(0, begun, ""), (begun + len(stripped), len(edited.text), "")])


def _replaced(text: str, pattern: re.Pattern[str], instead: str) -> Iterable[Edit]:
    return ((found.start(), found.end(), instead) for found in pattern.finditer(text))
