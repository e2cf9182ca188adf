"""Linear layers as graph nodes, in each number format.

Activations are quantised by row, or by blocks within a row, never over the whole batch: a row of a product must not
depend on the other rows.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from saywell.graphs.numerics import Floats
from saywell.graphs.writer import FUSED, GraphWriter

Codes = npt.NDArray[np.uint8]
Format = Literal["fp32", "w8a8", "w8", "w4"]
"""`w8a8`: rows of int8 weights times rows of 8-bit (or 7-bit, see `STEPS`) activations, with exact integer sums. `w8`,
`w4`: weights in blocks with a scale each, times activations quantised in the same blocks."""

BLOCK = {"w8": 64, "w4": 128}
"""Weights that share a scale."""
BITS = {"w8": 8, "w4": 4}
STEPS = {8: 127, 7: 64}
"""Bits of activations → steps on each side of zero. Processors without VNNI add two 8-bit products in 16 bits:
2 · 128 · 127 fits, 2 · 255 · 127 does not."""
STEP, MIDDLE = "activation.step", "activation.middle"
"""Constants that depend on the bits: the quantisation step relative to the largest value of a row; the zero point."""
BOUND = 0.2
"""Largest acceptable error of a layer's output, relative, RMS. Random weights have 0.01 in int8 and 0.1 in int4; far
more comes from outliers."""
_HIGHER: dict[Format, Format] = {"w8a8": "fp32", "w4": "w8", "w8": "fp32"}
_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Factors tried on the scale of a block: clipping its largest weights a little can reduce the total error."""


@dataclass(slots=True)
class Judge:
    """Decides which layers stay at a higher precision than the model's."""

    seen: Mapping[str, Floats]
    """Layer → its inputs for the calibration sentences. Other layers have the model's format."""
    errors: dict[str, float] = field(default_factory=dict)
    """Layer → error at the model's precision."""
    kept: dict[str, Format] = field(default_factory=dict)
    """Layer above the bound → its format."""

    def format(self, name: str, weight: Floats, fmt: Format) -> Format:
        """The format of a layer in a model of format `fmt`."""
        x = self.seen.get(name)
        if x is None or fmt == "fp32":
            return fmt
        self.errors[name] = loss = error(x, weight, fmt)
        while loss > BOUND:
            fmt = self.kept[name] = _HIGHER[fmt]
            loss = 0.0 if fmt == "fp32" else error(x, weight, fmt)
        return fmt


class Linears:
    """Writes linear layers of one number format whose inputs have the same number of rows."""

    def __init__(self, g: GraphWriter, fmt: Format, x: str, judge: Judge) -> None:
        """`x`: any value [M, …] with that number of rows."""
        self.g, self.fmt, self.judge = g, fmt, judge
        if fmt == "w8a8":
            shape = g.op("Concat", g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(1)), g.ints(1), axis=0)
            self.middle = g.op("Expand", g.named(MIDDLE, middle(8)), shape)

    def __call__(self, x: str, name: str, weight: Floats, bias: Floats | None = None) -> str:
        """x [M, K] times weight [N, K] transposed, plus bias [N]; fp32 in and out."""
        fmt = self.judge.format(name, weight, self.fmt)
        if fmt == "fp32":
            y = self.g.op("MatMul", x, self.g.weight(name, weight.T))
        elif fmt == "w8a8":
            y = self._by_rows(x, name, weight)
        else:
            y = self._by_blocks(x, name, weight, fmt)
        return y if bias is None else self.g.op("Add", y, self.g.const(bias))

    def _by_rows(self, x: str, name: str, weight: Floats) -> str:
        g = self.g
        codes, scales = quantize_rows(weight)
        size = g.op("Mul", g.op("ReduceMax", g.op("Abs", x), g.ints(-1)), g.named(STEP, step(8)))
        quantized = g.op("QuantizeLinear", x, size, self.middle, axis=1, block_size=weight.shape[1])
        product = g.op(
            "MatMulIntegerToFloat",
            quantized,
            g.weight(name, codes.T),
            g.const(1.0),
            g.weight(f"{name}.scale", scales),
            g.named(MIDDLE, middle(8)),
            domain=FUSED,
        )
        return g.op("Mul", product, size)

    def _by_blocks(self, x: str, name: str, weight: Floats, fmt: Format) -> str:
        g, (rows, columns) = self.g, weight.shape
        block = block_of(columns, fmt)
        codes, scales = quantize_blocks(weight, BITS[fmt], block)
        sizes = {"K": columns, "N": rows, "bits": BITS[fmt], "block_size": block, "accuracy_level": 4}
        inputs = (x, g.weight(name, codes), g.weight(f"{name}.scale", scales))
        return g.op("MatMulNBits", *inputs, domain=FUSED, **sizes)


def with_activation_bits(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """The same graph with activations of that many bits in its products of int8 weights."""
    changed = copy.deepcopy(model)
    constants: dict[str, npt.NDArray[Any]] = {MIDDLE: middle(bits), STEP: step(bits)}
    for initializer in changed.graph.initializer:
        if initializer.name in constants:
            initializer.CopyFrom(numpy_helper.from_array(constants[initializer.name], initializer.name))
    return changed


def step(bits: int) -> npt.NDArray[np.float32]:
    """The quantisation step relative to the largest value of a row."""
    return np.array(1 / STEPS[bits], np.float32)


def middle(bits: int) -> npt.NDArray[np.uint8]:
    """The zero point. Activations are unsigned: every instruction set has a fast kernel for unsigned times signed."""
    return np.array(128 if bits == 8 else STEPS[bits], np.uint8)


def block_of(columns: int, fmt: Format) -> int:
    """Block size for a matrix of that width: a power of two that divides it, at least 16."""
    return min(BLOCK[fmt], max(16, columns & -columns))


def error(x: Floats, weight: Floats, fmt: Format) -> float:
    """Relative RMS error of x [M, K] times weight [N, K] in a format."""
    exact = x @ weight.T
    if fmt == "w8a8":
        codes, scales = quantize_rows(weight)
        restored, block = codes * scales[:, None], x.shape[1]
    else:
        block = block_of(weight.shape[1], fmt)
        middle = 1 << (BITS[fmt] - 1)
        signed, scales = _quantized(weight, BITS[fmt], block)
        restored = ((signed.astype(np.float32) - middle) * scales[..., None]).reshape(weight.shape)
    parts = x.reshape(len(x), -1, block)
    size = np.maximum(np.abs(parts).max(axis=-1, keepdims=True), 1e-12) / np.float32(STEPS[8])
    rounded = (np.rint(parts / size) * size).reshape(x.shape)
    return float(np.linalg.norm(rounded @ restored.T - exact)) / max(float(np.linalg.norm(exact)), 1e-12)


def quantize_rows(weight: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """weight [N, K] → int8 codes [N, K] and scales [N]."""
    scales = np.maximum(np.abs(weight).max(axis=1), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(weight / scales[:, None]).astype(np.int8), scales


def quantize_blocks(weight: Floats, bits: int, block: int) -> tuple[Codes, Floats]:
    """weight [N, K] → packed codes [N, K / block, block · bits / 8], scales [N, K / block]. Raises ValueError unless
    `block` divides K."""
    codes, scales = _quantized(weight, bits, block)
    packed = codes if bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)
    return packed.astype(np.uint8), scales


def _quantized(weight: Floats, bits: int, block: int) -> tuple[Codes, Floats]:
    """weight [N, K] → codes [N, K / block, block] around the zero point, scales [N, K / block]."""
    rows, columns = weight.shape
    if columns % block:
        raise ValueError(f"a matrix of width {columns} is not whole blocks of {block}")
    blocks = weight.reshape(rows, columns // block, block)
    return _nearest(blocks, 1 << (bits - 1), (1.0,) if bits == 8 else _SHRINK)


def _nearest(blocks: Floats, middle: int, shrink: tuple[float, ...]) -> tuple[Codes, Floats]:
    """Codes 0 … 2·middle − 1 around `middle`, and the scale of each block with the least square error."""
    extreme = np.abs(blocks).argmax(axis=-1, keepdims=True)
    # The extreme of a block becomes code 0, because the negative side has one code more.
    step = np.take_along_axis(blocks, extreme, axis=-1) / np.float32(-middle)
    step[step == 0] = 1e-12
    codes, scales, errors = _coded(blocks, middle, step)
    for factor in shrink[1:]:
        new_codes, new_scales, new_errors = _coded(blocks, middle, step * np.float32(factor))
        better = new_errors < errors
        codes, scales = np.where(better, new_codes, codes), np.where(better, new_scales, scales)
        errors = np.minimum(new_errors, errors)
    return codes, scales[..., 0]


def _coded(blocks: Floats, middle: int, scale: Floats) -> tuple[Codes, Floats, Floats]:
    """Codes, scale and square error of each block."""
    signed = np.clip(np.rint(blocks / scale), -middle, middle - 1)
    error = np.square(signed * scale - blocks).sum(axis=-1, keepdims=True)
    return (signed + middle).astype(np.uint8), scale, error
