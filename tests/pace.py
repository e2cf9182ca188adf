"""How the time of a function grows with its input, so that neither a busy nor a slow machine decides."""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMES = 16
_ROOM = 4
"""A quadratic part would take 256 times as long for 16 times the input; this allows 64 times."""


def check_linear(work: Callable[[str], object], unit: str, size: int) -> float:
    """Refuses a `work` that is not linear in the length of texts made of `unit`; CPU seconds for `size` characters."""
    small, large = ((unit * (length // len(unit) + 1))[:length] for length in (size // _TIMES, size))
    work(small)
    short = min(_seconds(work, small) for _ in range(3))
    long = min(_seconds(work, large) for _ in range(2))
    assert long <= _TIMES * _ROOM * short + 0.02, (short, long)
    return long


def _seconds(work: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    work(text)
    return time.process_time() - start
