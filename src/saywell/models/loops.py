"""Detection of loops in the tokens of a sequence while it runs, for autoregressive families."""

from __future__ import annotations

from collections import deque

LONGEST_PERIOD = 24
"""Frames: about a second."""


class Loops:
    """Watches the frames of one sequence."""

    def __init__(self, span: int) -> None:
        """`span`: frames of exact repetition that are a loop."""
        self._span = max(2 * LONGEST_PERIOD, span)
        self._recent: deque[bytes] = deque(maxlen=self._span)
        self.count = 0
        """Frames so far."""

    def add(self, frame: bytes) -> bool:
        """Whether the frames up to this one are a loop. Only every `LONGEST_PERIOD`-th frame is checked."""
        self._recent.append(frame)
        self.count += 1
        return self.count >= self._span and self.count % LONGEST_PERIOD == 0 and self._repeats()

    def _repeats(self) -> bool:
        recent = list(self._recent)
        return any(recent[period:] == recent[:-period] for period in range(1, LONGEST_PERIOD + 1))
