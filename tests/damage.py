"""Damaged copies of a file's content."""

from __future__ import annotations

import random
from collections.abc import Iterator


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    """Copies with a flipped bit and truncated ones, alternately."""
    choose = random.Random(count)
    for n in range(count):
        copy = bytearray(data)
        if n % 2:
            copy[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        else:
            del copy[choose.randrange(len(data)) :]
        yield bytes(copy)


def flipped(data: bytes) -> Iterator[bytes]:
    """All copies with one flipped bit."""
    for bit in range(len(data) * 8):
        copy = bytearray(data)
        copy[bit // 8] ^= 1 << bit % 8
        yield bytes(copy)
