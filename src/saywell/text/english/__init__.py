"""English text as it is spoken, by rules: `RULES` in the order in which they are tried."""

from __future__ import annotations

from functools import cache

from saywell.text.english import amounts, dates, figures, signs, web, words
from saywell.text.english.grammar import Grammar, Reading, Rule, Scan

_ORDER = """
    mail-address web-address bare-address path windows-path emoticon long-digits
    iso-date numeric-date day-and-month year-and-month phone-number code-number verse numbered-book version
    months month-first month-and-year short-month weekdays weekday
    numbering circa doctor-or-drive apartment saint-or-street street title senior-or-sister junior versus-in-law before-or-after-number rate-unit title-before-name
    abbreviation versus with-or-without initial initialism world-war roman-numeral sharp and-or
    time-range time-to-noon clock hour day-first duration plural-number short-year season feet-and-inches coordinates
    money money-after currency-code currency-code-before cents years inches measure scaled dimensions times-as
    scientific ordinal-number mixed-number vulgar-fraction rating slash-fraction fifty-fifty ratio number-range lone-year european-number decimal-comma letters-and-digits number
    footnote-mark power plus-plus number-sign hashtag about heart comparison less-than greater-than
    option arithmetic range-dash minus spaced-hyphen dash dot slash equals-signs named-sign
"""


def _ordered() -> list[Rule]:
    named = {rule.name: rule for room in (amounts, dates, figures, signs, web, words) for rule in room.rule}
    order = _ORDER.split()
    assert sorted(order) == sorted(named), sorted(set(order) ^ set(named))
    return [named[name] for name in order]


RULES: tuple[Rule, ...] = tuple(_ordered())


@cache
def _grammar(off: frozenset[str]) -> Grammar:
    return Grammar(list(RULES), off)


def read(text: str, *, month_first: bool = False, off: frozenset[str] = frozenset()) -> list[Reading]:
    """How each span of a cleaned text on one line is spoken, in order. `off`: names of rules to leave out."""
    readings = _grammar(off).read(Scan(text, month_first=month_first))
    return [_spoken_mark(text, reading) if reading.rule == "mark" else reading for reading in readings]


def _spoken_mark(text: str, reading: Reading) -> Reading:
    before = text[reading.start - 1 : reading.start]
    said = signs.mark(reading.spoken, before, text[reading.end : reading.end + 1])
    return Reading(reading.start, reading.end, said, reading.rule)
