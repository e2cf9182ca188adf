"""Texts that know where each of their characters comes from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Edit = tuple[int, int, str]
"""Start, end, and what stands there instead."""


class Edited:
    """A text, and the text it was made from by edits, if any."""

    def __init__(
        self, text: str, parent: Edited | None = None, starts: tuple[int, ...] = (), shifts: tuple[int, ...] = ()
    ):
        self.text = text
        self._parent = parent
        self._starts, self._shifts = starts, shifts

    def edit(self, edits: Iterable[Edit]) -> Edited:
        """The text with spans replaced. `edits`: in order, not overlapping."""
        pieces: list[str] = []
        starts, shifts = [0], [0]
        at = length = 0
        for start, end, instead in edits:
            if start < at:
                continue  # inside an edit before it
            pieces += (self.text[at:start], instead)
            length += start - at
            starts.append(length)
            shifts.append(start - length)
            length += len(instead)
            starts.append(length)
            shifts.append(end - length)
            at = end
        if not pieces:
            return self
        pieces.append(self.text[at:])
        return Edited("".join(pieces), self, tuple(starts), tuple(shifts))

    def source(self, at: int, *, end: bool = False) -> int:
        """Position in the first text of the character at `at`; `end`: of the end of the span that ends there."""
        if self._parent is None:
            return at
        index = bisect_right(self._starts, at - end if end else at) - 1
        found = at + self._shifts[index]
        if index % 2:  # inside what an edit wrote: its own bounds
            start = self._starts[index] + self._shifts[index]
            stop = self._starts[index + 1] + self._shifts[index + 1]
            found = stop if end else start
        return self._parent.source(found, end=end)
