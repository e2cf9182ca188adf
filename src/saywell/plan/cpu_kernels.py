"""Which arithmetic comes out right on a processor, and which of those is fastest. Pure: facts → (value, why)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.types import ModelSpec

T = TypeVar("T")
Decided = tuple[T, str]
"""A value and why."""

BF16 = frozenset({"amx_bf16", "avx512_bf16"})
"""Instructions with which OpenVINO's bf16 is the fastest way to convolve that was measured."""
DOT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 instructions that add products of 8-bit numbers in 32 bits. Without them pairs are added in 16 and overflow."""


def bf16(hardware: Hardware) -> bool:
    """Whether this processor multiplies bf16."""
    return bool(BF16 & set(hardware.cpu.features))


def exact_int8(hardware: Hardware) -> bool:
    """Whether sums of products of unsigned and signed 8-bit numbers come out right on this processor."""
    return hardware.arch != "x86_64" or bool(DOT & set(hardware.cpu.features))


def openvino_gains(hardware: Hardware, spec: ModelSpec) -> bool:
    """Over ONNX Runtime's int8 with bf16 only, over its fp32 also without."""
    return bf16(hardware) or (not exact_int8(hardware) and "winograd" in spec.convolutions)


def activation_bits(hardware: Hardware, spec: ModelSpec) -> Decided[int]:
    if not spec.activation_bits:
        return 8, "this model leaves no choice"
    if exact_int8(hardware):
        return 8, "this processor adds products of 8-bit numbers exactly"
    if hardware.os == "windows":
        return 7, "exact everywhere; Windows does not tell whether this processor has VNNI, which 8 would need"
    return 7, "without VNNI this processor adds pairs of products in 16 bits: those of 8-bit numbers overflow"


def convolutions(hardware: Hardware, spec: ModelSpec, executor: str, precision: str) -> Decided[str]:
    if not spec.convolutions:
        return "", "this model leaves no choice"
    if precision == "fp32":
        return "fp32", "the precision asked for, product by product"
    if executor == "openvino" and bf16(hardware):
        return "bf16", "this processor multiplies bf16, twice as fast as int8"
    if executor == "onnx" and exact_int8(hardware):
        return "int8", "this processor adds products of 8-bit numbers exactly, four at a time"
    if executor == "onnx":
        return "winograd", "in fp32 with fewer products: as fast as int8 without VNNI, and nearly exact"
    return "winograd", "in fp32 with fewer products: half the time of all of them"
