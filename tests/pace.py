"""Growth of a function's time with its input, independent of the speed and load of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMES = 16
_ROOM = 4
"""For 16 times the input, quadratic time is 256 times as long; this allows 64 times."""


def check_linear(work: Callable[[str], object], unit: str, size: int) -> float:
    """Assert that `work` is linear in the length of texts made of `unit`. Returns CPU seconds for `size` characters."""
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
