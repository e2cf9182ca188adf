"""Cutting a text into chunks to be spoken one after the other, while the text may still be arriving.

The chunks joined are the text, exactly, and they are the same however the text was fed. Each can be had as soon as
nothing that may follow could move its end. Chunks end with a sentence where there is one, else with a clause, a space,
or, in a word longer than the limit, anywhere. Short sentences stay together. The first chunk is cut earlier than the
others, for an early first sound.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from dataclasses import dataclass

from saywell.text.breaks import GAP, Break, judge, next_word
from saywell.text.check import SPEAKABLE

_PIECE = 2048
"""Characters taken in at once: bounds the buffer, and with it the cost of cutting it."""
_SHORT = 60
"""Sentences shorter than this are joined to the next, if both fit."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """A place to cut: anywhere from `low` (after the last mark) to `high` (after the white space)."""

    low: int
    high: int
    kind: Break
    words: int
    """Gaps before this one, in the same chunk."""


class Splitter:
    """Cuts a text that arrives in pieces. Each chunk is made when it is taken: no more of a long text is read before.

    A chunk always has something speakable in it, unless the text has none, or has a run of punctuation or white space
    about as long as the limit.
    """

    def __init__(self, first: int, rest: int) -> None:
        """`first`, `rest`: upper limits in characters of chunk 0 and of the others."""
        if first < 1 or rest < 1:
            raise ValueError(f"limits must be at least 1, not {first} and {rest}")
        self._rest = rest
        self._limit = first
        self._sentence_from = first // 4
        self._clause_from: int | None = first // 2
        self._waiting: deque[str] = deque()
        """Pieces not yet read; of the first one, characters before `_at` are."""
        self._at = 0
        self._buffer = ""
        """Read, and not yet in a chunk."""
        self._ended = False
        """No more pieces come."""
        self._final = False
        """And all of them are read."""
        self._forget()

    def feed(self, text: str) -> None:
        """The next piece of the text."""
        if self._ended:
            raise ValueError("the text has been finished; start another Splitter")
        self._waiting.append(text)

    def finish(self) -> None:
        """The text is complete."""
        self._ended = True

    def take(self) -> str | None:
        """The next chunk; None while more text may move its end, and after the last one."""
        while (cut := self._find_cut()) is None:
            if not self._read_on():
                cut = len(self._buffer) if self._final else 0
                break
        if not cut:
            return None
        chunk, self._buffer = self._buffer[:cut], self._buffer[cut:]
        self._limit = self._rest
        self._sentence_from, self._clause_from = min(_SHORT, self._rest // 3), None
        self._forget()
        return chunk

    def _read_on(self) -> bool:
        """Take in a bit more of the text, or that this was all; False if nothing is new."""
        if not self._waiting:
            news = self._ended and not self._final
            self._final = self._ended
            return news
        piece = self._waiting[0]
        self._buffer += piece[self._at : self._at + _PIECE]
        self._at += _PIECE
        if self._at >= len(piece):
            self._waiting.popleft()
            self._at = 0
        return True

    def _forget(self) -> None:
        """Begin a chunk: nothing of it has been looked at."""
        self._gaps: list[_Gap] = []
        self._scan = 0
        self._first_voiced = self._next_voiced = -1

    def _find_cut(self) -> int | None:
        """Where this chunk ends; None if it needs more text, or if all that is left is the last chunk."""
        self._first_voiced = self._voiced_from(0, self._first_voiced)
        while (gap := self._next_gap()) is not None:
            if self._is_enough(gap):
                return min(gap.high, self._limit)
            self._gaps.append(gap)
        if len(self._buffer) <= self._limit or not self._scanned_limit():
            return None
        return self._best_cut()

    def _next_gap(self) -> _Gap | None:
        """The next gap within the limit, or None: there is none, or what follows it has not arrived."""
        while (found := GAP.search(self._buffer, self._scan, self._bound())) is not None:
            start, high = found.span()
            low = start + len(found[0].rstrip())
            if low > self._limit:
                return None
            if high == len(self._buffer) < self._bound() and not self._final:
                self._scan = start
                return None
            voiced = self._next_voiced = self._voiced_from(high, self._next_voiced)
            word = next_word(self._buffer, voiced, self._bound(), self._final) if voiced >= 0 else ""
            if word is None or (voiced < 0 and not self._knows_silence(high)):
                self._scan = start
                return None
            self._scan = high
            if voiced >= 0 and 0 <= self._first_voiced < low:
                kind = judge(self._buffer, start, low, high, voiced, word)
                if kind is not None:
                    return _Gap(low, high, kind, len(self._gaps))
        self._scan = max(self._scan, min(len(self._buffer), self._bound()))
        return None

    def _bound(self) -> int:
        """Nothing from here on is looked at for this chunk."""
        return self._limit + self._rest + 16

    def _voiced_from(self, at: int, known: int) -> int:
        """Position of the first character at or after `at` that makes a sound; -1: none so far."""
        if known >= at:
            return known
        found = SPEAKABLE.search(self._buffer, at, self._bound())
        return found.start() if found else -1

    def _knows_silence(self, at: int) -> bool:
        """True if it is certain that nothing from `at` on makes a sound, as far as this chunk looks."""
        return self._final or len(self._buffer) >= self._bound() > at

    def _scanned_limit(self) -> bool:
        """True if every gap within the limit has been judged."""
        found = GAP.search(self._buffer, self._scan, self._bound())
        return found is None or self._scan > self._limit or found.start() + len(found[0].rstrip()) > self._limit

    def _is_enough(self, gap: _Gap) -> bool:
        """True if the chunk is to end here although more would fit."""
        if gap.kind is Break.PARAGRAPH:
            return True
        if gap.kind is Break.SENTENCE:
            return gap.high >= self._sentence_from
        return gap.kind is Break.CLAUSE and self._clause_from is not None and gap.high >= self._clause_from > 0

    def _best_cut(self) -> int | None:
        """The text does not fit the limit: cut at the most natural place seen, else in the middle of a word."""
        quarter = self._limit // 4
        choices = (
            [gap for gap in self._gaps if gap.kind >= Break.SENTENCE],
            [gap for gap in self._gaps if gap.kind is Break.CLAUSE and gap.low >= quarter],
            [gap for gap in self._gaps if gap.kind is Break.PHRASE and gap.low >= quarter],
            [gap for gap in self._gaps if gap.kind is Break.CLAUSE and gap.words],
            [gap for gap in self._gaps if gap.kind >= Break.SPACE],
            self._gaps,
        )
        for gaps in choices:
            if gaps:
                return min(gaps[-1].high, self._limit)
        return self._hard_cut()

    def _hard_cut(self) -> int | None:
        """No gap at all: keep words whole, or at least characters, and leave the next chunk something to say."""
        limit = self._limit
        voiced = self._voiced_from(limit, -1)
        if voiced < 0 and not self._knows_silence(limit):
            return None
        top = limit if voiced >= 0 else self._last_voiced(limit)
        for splits in (_splits_token, _splits_character):
            for at in range(top, limit // 2, -1):
                if not splits(self._buffer, at):
                    return at
        return top

    def _last_voiced(self, limit: int) -> int:
        """The last character that makes a sound, if the silence after it is short; else the limit."""
        for at in range(limit - 1, max(limit * 3 // 4, 1) - 1, -1):
            if SPEAKABLE.match(self._buffer, at):
                return at
        return limit


def _splits_token(text: str, at: int) -> bool:
    """True if a cut at `at` parts a character, or a number or word in an alphabet that writes spaces."""
    after, before = text[at], text[at - 1]
    return (before < "\u0e00" and after < "\u0e00" and not before.isspace()) or _splits_character(text, at)


def _splits_character(text: str, at: int) -> bool:
    """True if a cut at `at` parts a base from its marks, a surrogate pair, or a joined emoji."""
    after, before = text[at], text[at - 1]
    if after < "\u0300":
        return False
    return (
        unicodedata.category(after)[0] == "M"
        or "\u200d" in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
    )
