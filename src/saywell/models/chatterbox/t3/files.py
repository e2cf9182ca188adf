"""Names of T3's files in a converted model, and its configuration there."""

from __future__ import annotations

from pathlib import Path

import msgspec

from saywell.errors import BadCheckpoint
from saywell.files import Damaged, read_plain
from saywell.models.chatterbox.t3.config import T3Config

CONFIG_FILE = "t3.json"
TABLES_FILE = "t3-tables.safetensors"
"""Embeddings and the encoder of voices, for every precision."""
PRECISIONS = ("fp32", "int8", "int4")
_MAX_CONFIG_BYTES = 1 << 20


def activation_bits(precision: str) -> tuple[int, ...]:
    """Numbers of activation bits that graphs exist for. Only products of int8 weights depend on them."""
    return (8, 7) if precision == "int8" else (8,)


def graph_file(precision: str, cache: str, bits: int = 8) -> str:
    """`cache`: element type of keys and values, fp32 or int8."""
    suffix = "" if bits == 8 or bits not in activation_bits(precision) else f"-a{bits}"
    return f"t3-{precision}{suffix}-kv-{cache}.onnx"


def data_file(precision: str) -> str:
    return f"t3-{precision}.data"


def scales_file(precision: str) -> str:
    """Scales of an int8 cache, [2 · layer, kv head, head_dim]."""
    return f"t3-kv-scales-{precision}.npy"


def write_config(config: T3Config, out: Path) -> Path:
    path = out / CONFIG_FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=1) + b"\n")
    return path


def read_config(path: Path) -> T3Config:
    """Raises BadCheckpoint."""
    try:
        return msgspec.json.decode(read_plain(path / CONFIG_FILE, _MAX_CONFIG_BYTES, links=True), type=T3Config)
    except (OSError, Damaged, ValueError) as error:
        raise BadCheckpoint(f"{path / CONFIG_FILE} is missing or damaged; run `saywell convert` again") from error
