"""When the phones of a word are heard: the acoustic model's durations, corrected next to pauses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from saywell.models.hibari.reader import MARKS

ONSET_S = 0.045
"""A phone after a pause is audible this long before its nominal start."""
PAUSE_S = 0.25
"""The part of the phone before a mark that is a pause: median of measured .145 to .325 s."""
MIN_PHONE_S = 0.05
"""Minimum duration left of such a phone."""


def timed(
    spoken: str, start: int, end: int, ends: npt.NDArray[np.floating], rate: float
) -> tuple[tuple[str, float, float], ...]:
    """Phones of one word [start, end) with their start and end in seconds. `ends[n]`: where phone n begins.

    A stress mark belongs to the vowel after it; a space is not a phone. `rate`: how much faster the speech is.
    """
    phones: list[tuple[str, float, float]] = []
    paused = not spoken[:start].strip() or spoken[:start].rstrip()[-1] in MARKS
    mark, since = "", float(ends[start]) - (ONSET_S / rate if paused else 0.0)
    for index in range(start, end):
        if spoken[index] in "ˈˌ":
            mark += spoken[index]
            continue
        if spoken[index] != " ":
            phones.append((mark + spoken[index], since, float(ends[index + 1])))
        mark, since = "", float(ends[index + 1])
    if spoken[end : end + 1] and spoken[end] in MARKS:
        phone, first, last = phones[-1]
        phones[-1] = (phone, first, max(first + MIN_PHONE_S / rate, last - PAUSE_S / rate))
    return tuple(phones)
