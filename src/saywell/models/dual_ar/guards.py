"""Detection of loops and runaway generation from the frames alone, while a sequence runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.models.loops import Loops
from saywell.types import FinishReason

LOOP_S = 2.0
"""Codes that repeat exactly for this long are a loop: codes of real speech vary, even those of silence."""
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
        self._loops = Loops(round(LOOP_S * frame_rate))

    def add(self, frame: npt.NDArray[np.integer[Any]]) -> FinishReason | None:
        """Why the sequence must end after this frame; None if it may continue."""
        loops = self._loops.add(frame.tobytes())
        if self._loops.count >= self.limit:
            return "length"
        return "loop" if loops else None
