"""Requests, and waiting for what they lead to."""

from __future__ import annotations

import time
from collections.abc import Callable

from saywell.types import Request, SamplingParams

LONG = (
    "The first sentence is short. Then comes another one, which is somewhat longer than the first! "
    "Does a third follow? It does, and it brings a friend; the friend is quiet. "
    "Numbers such as twenty-three are welcome here. The rain in Spain falls mainly on the plain. "
) * 3


def ask(text: str = "Good morning to you all.", seed: int = 1, **fields: object) -> Request:
    return Request(text=text, sampling=SamplingParams(seed=seed), **fields)


def until(true: Callable[[], object], seconds: float = 5.0) -> float:
    """Wait for it; how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.002)
    return time.monotonic() - began
