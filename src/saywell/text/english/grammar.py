"""The scanner of the English grammar: ordered rules, tried at each token of a text, each reading one span aloud.

A rule sees the original text on both sides of its span and the readings before it, so no rule has to undo another.
Every pattern does bounded work at each position: time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from re import Match, Pattern


@dataclass(frozen=True, slots=True)
class Reading:
    """How one span of the text is spoken."""

    start: int
    end: int
    spoken: str
    """Empty: not spoken."""
    rule: str
    """Name of the rule that decided; `word` or `mark` for what is passed on as it is."""
    phones: str = ""
    """Those the user gave for it."""


@dataclass(slots=True)
class Scan:
    """One text being read: what rules may look at."""

    text: str
    american: bool = False
    """3/4/2026 is March 4th; 101 is one hundred one."""
    given: list[Reading] = field(default_factory=list)
    """Readings that no rule may change, in order: the user's own."""
    readings: list[Reading] = field(default_factory=list)
    """Of everything before the token being read."""

    def previous(self, at: int) -> Reading | None:
        """The reading that ends at `at`, or before white space that ends there."""
        if not self.readings:
            return None
        last = self.readings[-1]
        return last if not self.text[last.end : at].strip() else None


Said = str | tuple[str, int] | None
"""The spoken form of a match; with a position: of the text up to there; None: the rule does not apply."""
Say = Callable[[Match[str]], Said]
SayInContext = Callable[[Match[str], Scan], Said]


@dataclass(frozen=True, slots=True)
class Rule:
    """One decision of the grammar."""

    name: str
    starts: str
    """First characters it can match: 9 for any digit, a for any letter, all others for themselves."""
    pattern: Pattern[str]
    say: SayInContext
    about: str
    """What it reads, for people."""


class Rules(list[Rule]):
    """Rules in the order in which they are tried."""

    def __call__(self, starts: str, pattern: str, flags: int = 0) -> Callable[[Say], Say]:
        """Decorator: add a function as a rule, under its name."""

        def add(say: Say) -> Say:
            self._add(say, lambda match, _scan: say(match), starts, re.compile(pattern, flags))
            return say

        return add

    def in_context(self, starts: str, pattern: str, flags: int = 0) -> Callable[[SayInContext], SayInContext]:
        """As calling it, for a function that looks at earlier readings or settings."""

        def add(say: SayInContext) -> SayInContext:
            self._add(say, say, starts, re.compile(pattern, flags))
            return say

        return add

    def _add(self, named: Callable[..., Said], say: SayInContext, starts: str, pattern: Pattern[str]) -> None:
        name = named.__name__.replace("_", "-")
        self.append(Rule(name, starts, pattern, say, (named.__doc__ or "").strip()))


LETTER = r"[^\W\d_⁰-⁹¹²³¼-¾⅐-⅞]"
"""One letter; `\\w` has raised digits and fractions too."""
_WORD = re.compile(rf"{LETTER}+(?:['’]{LETTER}+)*")

_PROSE = re.compile(r"(?:(?!(?:vs|et|w|c|ca)\b)[a-z']{1,30},? (?=[A-Za-z]))+")
"""Words in small letters before other words: no rule reads them otherwise, so none is tried."""


class Grammar:
    """An ordered list of rules. `off`: names of rules left out."""

    def __init__(self, rules: list[Rule], off: frozenset[str] = frozenset()) -> None:
        names = {rule.name for rule in rules}
        if unknown := off - names:
            raise ValueError(f"no such rule: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
        self._rules = [rule for rule in rules if rule.name not in off]
        self._for = cache(self._candidates)

    def read(self, scan: Scan) -> list[Reading]:
        """Readings that cover the whole text, in order."""
        at = 0
        for given in scan.given:
            self._read_to(scan, at, given.start)
            scan.readings.append(given)
            at = given.end
        self._read_to(scan, at, len(scan.text))
        return scan.readings

    def _read_to(self, scan: Scan, at: int, stop: int) -> None:
        while at < stop:
            reading = self._reading(scan, at, stop)
            scan.readings.append(reading)
            at = reading.end

    def _reading(self, scan: Scan, at: int, stop: int) -> Reading:
        """What begins at `at` and does not reach beyond `stop`; rules look beyond it."""
        text = scan.text
        if (prose := _PROSE.match(text, at, stop)) and text[at - 1 : at] in ("", " ", '"', "(", "'"):
            return Reading(at, prose.end(), prose[0], "word")
        for rule in self._for(text[at]):
            if match := rule.pattern.match(text, at):
                spoken = rule.say(match, scan)
                if spoken is not None:
                    words, end = spoken if isinstance(spoken, tuple) else (spoken, match.end())
                    if end <= stop:
                        return Reading(at, max(end, at + 1), words, rule.name)
        if word := _WORD.match(text, at, stop):
            return Reading(at, word.end(), word[0], "word")
        return Reading(at, at + 1, text[at], "mark")

    def _candidates(self, char: str) -> tuple[Rule, ...]:
        kind = "9" if char.isdecimal() and char.isascii() else "a" if char.isalpha() else char
        return tuple(rule for rule in self._rules if kind in rule.starts or char in rule.starts)


def join(readings: list[Reading]) -> Iterator[str]:
    """The spoken text in pieces, one a reading, with a space where words would run together."""
    last = ""
    for reading in readings:
        spoken = reading.spoken
        if spoken:
            apart = last.isalnum() and spoken[0].isalnum() and reading.start
            yield f" {spoken}" if apart else spoken
            last = spoken[-1]
        else:
            yield ""
