"""The least cost of a frame, from the sizes alone: weights read, multiplications done."""

from __future__ import annotations

import math

from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.layout import model_tensors

BYTES = {"fp32": 4.0, "int8": 1.0, "int4": 0.5}
"""Of one weight, without its scales."""


def weights_read(config: Config) -> tuple[int, int]:
    """Weights that a step reads: of the slow transformer once, of the fast one once for each residual codebook."""
    slow, fast, steps = _matrices(config)
    return slow + (config.codebook_size + 1) * config.dim, steps * (fast + config.residual_logits * config.fast_dim)


def bytes_read(config: Config, precision: str) -> int:
    """Bytes of weights that a step reads, independent of its batch size."""
    return int(sum(weights_read(config)) * BYTES[precision])


def multiplications(config: Config) -> int:
    """Multiplications of both transformers for a frame of one sequence."""
    _, fast, _ = _matrices(config)
    # The first step of the fast transformer reads two positions: the hidden state and the semantic code.
    return sum(weights_read(config)) + fast


def _matrices(config: Config) -> tuple[int, int, int]:
    """Weights in the blocks of the slow and of the fast transformer, and steps of the fast one."""
    sizes = {name: math.prod(shape) for name, shape in model_tensors(config).items() if len(shape) == 2}
    slow = sum(size for name, size in sizes.items() if name.startswith("layers."))
    fast = sum(size for name, size in sizes.items() if name.startswith("fast_layers."))
    return slow, fast, config.num_codebooks - 1
