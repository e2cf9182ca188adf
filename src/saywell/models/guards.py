"""Detection of loops and runaway generation from the frames alone, while a sequence runs."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.types import FinishReason

LOOP_S = 2.0
"""Codes that repeat exactly for this long are a loop: codes of real speech vary, even those of silence."""
LONGEST_PERIOD = 24
"""Frames: about a second."""
CHAR_S = 0.4
"""Most that a character may take. Digits and abbreviations, spelled out slowly, stay below it."""
LEAST_S = 6.0
"""Allowed in addition for any text."""


class Guard:
    """Watches the frames of one sequence."""

    def __init__(self, text: str, frame_rate: float) -> None:
        """`frame_rate`: frames per second."""
        self.limit = int((LEAST_S + CHAR_S * len(text)) * frame_rate)
        """Frames after which the generation is a runaway."""
        self._span = max(2 * LONGEST_PERIOD, round(LOOP_S * frame_rate))
        self._recent: deque[bytes] = deque(maxlen=self._span)
        self._count = 0

    def add(self, frame: npt.NDArray[np.integer[Any]]) -> FinishReason | None:
        """Why the sequence must end after this frame; None if it may continue."""
        self._recent.append(frame.tobytes())
        self._count += 1
        if self._count >= self.limit:
            return "length"
        if self._count >= self._span and self._count % LONGEST_PERIOD == 0 and self._loops():
            return "loop"
        return None

    def _loops(self) -> bool:
        recent = list(self._recent)
        return any(recent[period:] == recent[:-period] for period in range(1, LONGEST_PERIOD + 1))
