"""The rotary table of the Llama."""

from __future__ import annotations

import numpy as np

from saywell.graphs.numerics import Floats, rotary_frequencies
from saywell.models.chatterbox.t3.config import HEAD_DIM, RopeScaling


def rotary(scaling: RopeScaling, positions: int) -> tuple[Floats, Floats]:
    """cos and sin [positions, head_dim / 2], in float32 as upstream."""
    plain = rotary_frequencies(HEAD_DIM, scaling.base)
    turns = scaling.original * plain / np.float32(2 * np.pi)  # in the original positions
    smooth = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1).astype(np.float32)
    scaled = (1 - smooth) * plain / np.float32(scaling.factor) + smooth * plain
    angle = np.outer(np.arange(positions, dtype=np.float32), scaled.astype(np.float32))
    return np.cos(angle), np.sin(angle)
