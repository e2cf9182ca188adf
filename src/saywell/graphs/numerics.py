"""bfloat16 without torch, and the rotary table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
"""[num_codebooks, T], or [1 + num_codebooks, T] with token ids first."""
Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Weights = Mapping[str, Floats]
"""Tensors by name as fp32. Each is asked for once, so it may be read lazily."""
Bits = npt.NDArray[np.uint16]
"""bfloat16: the upper 16 bits of a float32."""


def to_bfloat16(array: Floats) -> Bits:
    """Rounded to nearest even."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(bits: Bits) -> Floats:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rotary_frequencies(head_dim: int, base: float) -> Floats:
    """Radians per position of each pair, [head_dim / 2]."""
    # In float32, as in training: float64 would round some entries of the table to other bfloat16 values.
    return np.float32(1) / np.float32(base) ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))


def rotary(positions: int, head_dim: int, base: float) -> tuple[Floats, Floats]:
    """cos and sin [positions, head_dim / 2], rounded to bfloat16 as in training."""
    angle = np.outer(np.arange(positions, dtype=np.float32), rotary_frequencies(head_dim, base))
    cos, sin = (from_bfloat16(to_bfloat16(part)) for part in (np.cos(angle), np.sin(angle)))
    return cos, sin
