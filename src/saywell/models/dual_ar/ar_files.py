"""Names of the files both transformers are run from."""

from __future__ import annotations

FACTS_FILE = "ar.json"
EMBEDDINGS_FILE, CODES_FILE = "embeddings.npy", "codebook_embeddings.npy"


def slow_file(precision: str, cache: str) -> str:
    return f"slow-{precision}-kv-{cache}.onnx"


def fast_file(precision: str) -> str:
    return f"fast-{precision}.onnx"


def data_file(precision: str) -> str:
    return f"ar-{precision}.data"


def scales_file(precision: str) -> str:
    """Scales of an int8 cache, [2 · layer, kv head, head_dim]."""
    return f"kv-scales-{precision}.npy"
