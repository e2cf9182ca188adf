"""Names of the files both transformers are run from."""

from __future__ import annotations

from importlib.metadata import version

FACTS_FILE = "ar.json"
EMBEDDINGS_FILE, CODES_FILE = "embeddings.npy", "codebook_embeddings.npy"


FIRST_INT8_CACHE = (1, 25)
"""ONNX Runtime's first release whose attention on a CPU reads an int8 cache: tried with 1.23 to 1.31."""


FIRST_NORMED_HEADS = (1, 24)
"""The first that takes the graphs of models that normalise queries and keys, as S1-mini does: tried 1.20 to 1.32."""


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in version("onnxruntime").split(".")[:2])


def too_old(normed_heads: bool) -> str:
    """Why this runtime cannot run a model, in a sentence; empty: it can."""
    if not normed_heads or _release() >= FIRST_NORMED_HEADS:
        return ""
    needed = ".".join(map(str, FIRST_NORMED_HEADS))
    return (
        f"this model needs ONNX Runtime {needed} or newer and {version('onnxruntime')} is installed: "
        "pip install -U onnxruntime (there is one for Python 3.11 and newer)"
    )


def activation_bits(precision: str) -> tuple[int, ...]:
    """Of the activations in products of int8 weights: what there are graphs for. Elsewhere it makes no difference."""
    return (8, 7) if precision == "int8" else (8,)


def slow_file(precision: str, cache: str, bits: int = 8) -> str:
    return f"slow-{precision}{_suffix(precision, bits)}-kv-{cache}.onnx"


def fast_file(precision: str, bits: int = 8) -> str:
    return f"fast-{precision}{_suffix(precision, bits)}.onnx"


def _suffix(precision: str, bits: int) -> str:
    return "" if bits == 8 or bits not in activation_bits(precision) else f"-a{bits}"


def data_file(precision: str) -> str:
    return f"ar-{precision}.data"


def scales_file(precision: str) -> str:
    """Scales of an int8 cache, [2 · layer, kv head, head_dim]."""
    return f"kv-scales-{precision}.npy"


def layers_file(precision: str) -> str:
    """Report of a conversion: the error of each layer, and which ones stay at a higher precision."""
    return f"layers-{precision}.json"
