"""What a frame costs at the least, from the sizes alone: weights read, products done."""

from __future__ import annotations

import math

from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.layout import model_tensors

BYTES = {"fp32": 4.0, "int8": 1.0, "int4": 0.5}
"""Of one weight, without its scales."""


def weights_read(config: Config) -> tuple[int, int]:
    """Weights that a step reads for a frame: the slow transformer's once, the fast one's once for each residual
    codebook."""
    slow, fast, turns = _matrices(config)
    return slow + (config.codebook_size + 1) * config.dim, turns * (fast + config.residual_logits * config.fast_dim)


def bytes_read(config: Config, precision: str) -> int:
    """Of both, a frame, however many sequences share the step."""
    return int(sum(weights_read(config)) * BYTES[precision])


def multiplications(config: Config) -> int:
    """Of both transformers' matrices in a frame of one sequence."""
    _, fast, _ = _matrices(config)
    # The first turn of the fast one reads two positions: the hidden state and the semantic code.
    return sum(weights_read(config)) + fast


def _matrices(config: Config) -> tuple[int, int, int]:
    """Weights in the blocks of the slow and the fast one, and turns of the fast one."""
    each = {name: math.prod(shape) for name, shape in model_tensors(config).items() if len(shape) == 2}
    slow = sum(size for name, size in each.items() if name.startswith("layers."))
    fast = sum(size for name, size in each.items() if name.startswith("fast_layers."))
    return slow, fast, config.num_codebooks - 1
