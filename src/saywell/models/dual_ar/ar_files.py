"""Names of the files both transformers are run from."""

from __future__ import annotations

from importlib.metadata import version

FACTS_FILE = "ar.json"
EMBEDDINGS_FILE, CODES_FILE = "embeddings.npy", "codebook_embeddings.npy"


FIRST_INT8_CACHE = (1, 25)
"""ONNX Runtime's first release whose attention on a CPU reads an int8 cache: tried with 1.23 to 1.31."""


def cache_type(precision: str) -> str:
    """Element type of the keys and values that go with a precision on this runtime: "int8" or "fp32"."""
    release = tuple(int(part) for part in version("onnxruntime").split(".")[:2])
    return "int8" if precision != "fp32" and release >= FIRST_INT8_CACHE else "fp32"


def slow_file(precision: str, cache: str) -> str:
    return f"slow-{precision}-kv-{cache}.onnx"


def fast_file(precision: str) -> str:
    return f"fast-{precision}.onnx"


def data_file(precision: str) -> str:
    return f"ar-{precision}.data"


def scales_file(precision: str) -> str:
    """Scales of an int8 cache, [2 · layer, kv head, head_dim]."""
    return f"kv-scales-{precision}.npy"
