"""Blends of voices: `af_heart(2)+af_bella(1)` is two thirds of one and one third of the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from saywell.models.kokoro.files import Pack
from saywell.voices.names import parse_blend

_KEPT = 16


def mixer(single: Callable[[str], Pack]) -> Callable[[str], Pack]:
    """A function from the name of a voice or blend to its pack. `single`: reads one voice."""
    packs = lru_cache(maxsize=64)(single)

    @lru_cache(maxsize=_KEPT)
    def mixed(name: str) -> Pack:
        parts = parse_blend(name)
        if not parts:
            return packs(name)
        total = sum(weight for _, weight in parts)
        return np.asarray(sum(packs(part) * np.float32(weight / total) for part, weight in parts), np.float32)

    return mixed
