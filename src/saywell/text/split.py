"""Splits a text into chunks that are spoken one after the other, while the text may still be arriving.

The joined chunks are exactly the text, and do not depend on how it was fed. A chunk is available as soon as later text
cannot change its end. Chunks end with a sentence if possible, else with a clause, at a space, or, in a word longer than
the limit, anywhere. Short sentences stay together. The first chunk is shorter, for an early first sound.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from dataclasses import dataclass

from saywell.text.breaks import GAP, Break, judge, next_word
from saywell.text.check import SPEAKABLE

_PIECE = 2048
"""Characters read at once: bounds the buffer, and with it the cost of cutting it."""
_SOON = 24
"""The first chunk may be longer by that, if its sentence ends there."""
_SHORT = 60
"""Sentences shorter than this are joined to the next if both fit."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """A place to cut: from `low` (after the last mark) to `high` (after the white space)."""

    low: int
    high: int
    kind: Break
    words: int
    """Gaps before this one, in the same chunk."""


class Splitter:
    """Splits a text that arrives in pieces. Lazy: reads only as much of the text as the next chunk needs.

    Each chunk is speakable, unless the text is not, or has a run of punctuation or white space about as long as the
    limit.
    """

    def __init__(self, first: int, rest: int) -> None:
        """`rest`: upper limit of a chunk in characters. `first`: about that of chunk 0."""
        if first < 1 or rest < 1:
            raise ValueError(f"limits must be at least 1, not {first} and {rest}")
        self._rest = rest
        self._limit = first
        self._sentence_from = first // 4
        self._clause_from: int | None = first // 2
        self._extended = False
        self._waiting: deque[str] = deque()
        """Unread pieces; the first one is read up to `_at`."""
        self._at = 0
        self._buffer = ""
        """Text that is read and not yet in a chunk."""
        self._ended = False
        """No further pieces will be fed."""
        self._final = False
        """All pieces are in the buffer."""
        self._reset()

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
        self._reset()
        return chunk

    def _read_on(self) -> bool:
        """Read more of the text, or note its end; False if there is no more."""
        if not self._waiting:
            changed = self._ended and not self._final
            self._final = self._ended
            return changed
        piece = self._waiting[0]
        self._buffer += piece[self._at : self._at + _PIECE]
        self._at += _PIECE
        if self._at >= len(piece):
            self._waiting.popleft()
            self._at = 0
        return True

    def _reset(self) -> None:
        """Start scanning the next chunk."""
        self._gaps: list[_Gap] = []
        self._scan = 0
        self._first_voiced = self._next_voiced = -1

    def _find_cut(self) -> int | None:
        """The end of this chunk; None if it needs more text, or if the rest of the text is the last chunk."""
        self._first_voiced = self._voiced_from(0, self._first_voiced)
        while (gap := self._next_gap()) is not None:
            if self._is_enough(gap):
                return min(gap.high, self._limit)
            self._gaps.append(gap)
        if len(self._buffer) <= self._limit or not self._scanned_limit():
            return None
        if self._extend():
            return self._find_cut()
        return self._best_cut()

    def _extend(self) -> bool:
        """Let the first chunk grow to a sentence that ends soon, or to the next pause if it has none: a lone last word,
        or a cut between two words that belong together, is heard."""
        if self._clause_from is None or self._limit >= self._rest:
            return False
        if not self._extended:
            self._extended, self._limit = True, min(self._rest, self._limit + _SOON)
            return True
        if any(gap.kind >= Break.PHRASE and gap.low >= self._limit // 4 for gap in self._gaps):
            return False
        self._limit = self._rest
        return True

    def _next_gap(self) -> _Gap | None:
        """The next gap within the limit; None without one, or if the text after it has not arrived."""
        while (match := GAP.search(self._buffer, self._scan, self._bound())) is not None:
            start, high = match.span()
            low = start + len(match[0].rstrip())
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
        """End of the text considered for this chunk."""
        return self._limit + self._rest + 16

    def _voiced_from(self, at: int, known: int) -> int:
        """Position of the first speakable character from `at` on; -1: none so far."""
        if known >= at:
            return known
        match = SPEAKABLE.search(self._buffer, at, self._bound())
        return match.start() if match else -1

    def _knows_silence(self, at: int) -> bool:
        """Whether later text cannot make the considered part from `at` on speakable."""
        return self._final or len(self._buffer) >= self._bound() > at

    def _scanned_limit(self) -> bool:
        """Whether all gaps within the limit are classified."""
        match = GAP.search(self._buffer, self._scan, self._bound())
        return match is None or self._scan > self._limit or match.start() + len(match[0].rstrip()) > self._limit

    def _is_enough(self, gap: _Gap) -> bool:
        """Whether the chunk ends at this gap although more would fit."""
        if gap.kind is Break.PARAGRAPH:
            return True
        if gap.kind is Break.SENTENCE:
            return gap.high >= self._sentence_from
        return gap.kind is Break.CLAUSE and self._clause_from is not None and gap.high >= self._clause_from > 0

    def _best_cut(self) -> int | None:
        """Cut a text longer than the limit at its most natural gap, else inside a word."""
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
        """Cut without a gap: between words if possible, else between characters, leaving the next chunk speakable."""
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
        """Position of the last speakable character if it is near the limit; else the limit."""
        for at in range(limit - 1, max(limit * 3 // 4, 1) - 1, -1):
            if SPEAKABLE.match(self._buffer, at):
                return at
        return limit


def _splits_token(text: str, at: int) -> bool:
    """Whether a cut at `at` splits a character, or a number or word of a script with spaces."""
    after, before = text[at], text[at - 1]
    return (before < "\u0e00" and after < "\u0e00" and not before.isspace()) or _splits_character(text, at)


def _splits_character(text: str, at: int) -> bool:
    """Whether a cut at `at` separates a base from its marks, or splits a surrogate pair or a joined emoji."""
    after, before = text[at], text[at - 1]
    if after < "\u0300":
        return False
    return (
        unicodedata.category(after)[0] == "M"
        or "\u200d" in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
    )
