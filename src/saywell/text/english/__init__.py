"""English text as it is spoken, by rules: `RULES` in the order in which they are tried."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

from saywell.text.english import amounts, dates, figures, science, signs, web, words
from saywell.text.english.grammar import Grammar, Reading, Rule, Scan

_ORDER = """
    mail-address web-address bare-address path windows-path emoticon hexadecimal long-digits
    iso-date numeric-date named-date time-signature position day-and-month year-and-month aircraft phone-number code-number verse numbered-book version
    months month-first month-and-year bare-month short-month weekdays weekday fiscal-year born-or-died
    numbering circa doctor-or-drive apartment saint-or-street street before-street-number title senior-or-sister junior versus-in-law before-or-after-number rate-unit title-before-name
    abbreviation versus with-or-without care-of compass initial initialism too-long world-war sharp function roman-year small-numeral roman-numeral and-or
    noon-to time-range time-to-noon clock hour day-first minutes duration plural-number short-year season stones feet-and-inches feet inch-wide coordinates
    money money-after currency-code currency-code-before cents retirement-plan years factorial inches measure scaled dimensions times-as
    scientific ordinal-number mixed-number vulgar-fraction rating slash-fraction fifty-fifty ratio number-range lone-year european-number decimal-comma letters-and-digits number
    charge isotope footnote-mark power unit-of-power plus-plus number-sign hashtag about heart comparison less-than menu-path greater-than
    option arithmetic range-dash minus spaced-hyphen dash dot slash equals-signs sections cashtag named-sign
"""


_BRITISH_AND = re.compile(
    r"\b(hundred|thousand|million|billion|trillion) and (?=(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|"
    r"twelve|[a-z]+teen|[a-z]+ty|first|second|third|[a-z]+th|[a-z]+tieth)\b)(?![a-z]+ (?:hal|third|quarter|\w+th)s?\b)"
)
"""One hundred and one; not: one hundred and one half."""


def _ordered() -> list[Rule]:
    named = {rule.name: rule for room in (amounts, dates, figures, science, signs, web, words) for rule in room.rule}
    order = _ORDER.split()
    assert sorted(order) == sorted(named), sorted(set(order) ^ set(named))
    return [named[name] for name in order]


RULES: tuple[Rule, ...] = tuple(_ordered())


@cache
def _grammar(off: frozenset[str]) -> Grammar:
    return Grammar(list(RULES), off)


def read(scan: Scan, off: frozenset[str] = frozenset()) -> list[Reading]:
    """How each span of a cleaned text on one line is spoken, in order. `off`: names of rules to leave out."""
    return [_finished(scan, reading) for reading in _grammar(off).read(scan)]


def _finished(scan: Scan, reading: Reading) -> Reading:
    if reading.rule == "mark":
        return _spoken_mark(scan.text, reading)
    if scan.american and reading.rule not in ("word", "lexicon") and " and " in reading.spoken:
        return replace(reading, spoken=_BRITISH_AND.sub(r"\1 ", reading.spoken))
    return reading


def _spoken_mark(text: str, reading: Reading) -> Reading:
    before = text[reading.start - 1 : reading.start]
    said = signs.mark(reading.spoken, before, text[reading.end : reading.end + 1])
    return Reading(reading.start, reading.end, said, reading.rule)
