"""Names of the files of a converted decoder."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
"""Of the flow. int8: 8-bit weights and activations in its matrix products. The vocoder is always fp32."""

CONFIG = "s3gen.json"
FUNDAMENTAL, SOURCE, VOCODER = "s3gen-fundamental.onnx", "s3gen-source.onnx", "s3gen-vocoder.onnx"


def activation_bits(precision: Precision) -> tuple[int, ...]:
    """Numbers of activation bits that graphs exist for. 7: for processors without VNNI, see `graphs.linears.STEPS`."""
    return (8, 7) if precision == "int8" else (8,)


def encoder_file(precision: Precision, bits: int = 8) -> str:
    return f"s3gen-encoder-{precision}{_suffix(precision, bits)}.onnx"


def estimator_file(precision: Precision, bits: int = 8) -> str:
    return f"s3gen-estimator-{precision}{_suffix(precision, bits)}.onnx"


def _suffix(precision: Precision, bits: int) -> str:
    return "" if bits == 8 or bits not in activation_bits(precision) else f"-a{bits}"


def data_file(precision: Precision) -> str:
    """Weights of both graphs."""
    return f"s3gen-flow-{precision}.data"


def loaded_files(precision: Precision, bits: int = 8) -> list[str]:
    """What a decoder reads at start."""
    flow = [encoder_file(precision, bits), estimator_file(precision, bits), data_file(precision)]
    return [CONFIG, *flow, *(each for name in (FUNDAMENTAL, SOURCE, VOCODER) for each in (name, f"{name}.data"))]
