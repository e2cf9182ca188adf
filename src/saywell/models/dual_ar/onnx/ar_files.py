"""Names of the files of both transformers, and which ONNX Runtime can run them."""

from __future__ import annotations

from importlib.metadata import version

FACTS_FILE = "ar.json"
EMBEDDINGS_FILE, CODES_FILE = "embeddings.npy", "codebook_embeddings.npy"

FIRST_INT8_CACHE = (1, 25)
"""First release of ONNX Runtime whose attention on a CPU reads an int8 cache: tested with 1.23 to 1.31."""
FIRST_NORMED_HEADS = (1, 24)
"""First release that runs graphs which normalise queries and keys, as S1-mini does: tested with 1.20 to 1.32."""


def too_old(normed_heads: bool) -> str:
    """Why the installed ONNX Runtime cannot run a model; empty if it can. `normed_heads`: `attention_qk_norm`."""
    installed = version("onnxruntime")
    if not normed_heads or tuple(int(part) for part in installed.split(".")[:2]) >= FIRST_NORMED_HEADS:
        return ""
    needed = ".".join(map(str, FIRST_NORMED_HEADS))
    return (
        f"this model needs ONNX Runtime {needed} or newer and {installed} is installed: "
        "pip install -U onnxruntime (it needs Python 3.11 or newer)"
    )


def activation_bits(precision: str) -> tuple[int, ...]:
    """Numbers of activation bits that graphs exist for. Only products of int8 weights depend on them."""
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
