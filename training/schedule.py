"""How fast to learn at which part of the time."""

from __future__ import annotations

import math

WARM_STEPS = 100


def rate_at(rate: float, step: int, part: float, cool: float) -> float:
    """The learning rate at `part` of the time: it rises, stays, and falls to nothing over the last `cool` of it."""
    falling = max(0.0, (part - (1 - cool)) / cool)
    return rate * min(1.0, (step + 1) / WARM_STEPS) * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))
