"""The least cost of a speech token, from the sizes alone: weights read, keys and values read."""

from __future__ import annotations

from saywell.models.chatterbox.t3.config import T3Config

BYTES = {"fp32": (4.0, 4.0), "int8": (1.0, 1.0), "int4": (0.5 + 4 / 128, 1 + 4 / 64)}
"""Of one weight of the layers and of the head, with the scales of its block."""


def layer_weights(config: T3Config) -> int:
    """In the matrices of all layers."""
    feed_forward = 3 if config.kind == "llama" else 2
    return config.layers * config.hidden * (4 * config.hidden + feed_forward * config.ffn)


def bytes_read(config: T3Config, precision: str) -> int:
    """Bytes of weights that a step reads, independent of its batch size."""
    layers, head = BYTES[precision]
    return int(layer_weights(config) * layers + config.logits * config.hidden * head)


def position_bytes(config: T3Config, cache: str) -> int:
    """Bytes of keys and values of a position, in one row. `cache`: fp32 or int8."""
    return 2 * config.layers * config.hidden * (1 if cache == "int8" else 4)
