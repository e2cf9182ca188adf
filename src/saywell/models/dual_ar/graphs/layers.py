"""Layers of the codec's graphs on rows (time × channel), one tile at a time.

A convolution is one gather of its taps and one matrix product. Constant linear factors are folded into the weights.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from saywell.graphs import winograd
from saywell.graphs.numerics import Floats, Weights, rotary_frequencies
from saywell.graphs.writer import BFLOAT16, FLOAT, FUSED, INT64, GraphWriter
from saywell.models.dual_ar.config import CodecConfig

Products = Literal["fp32", "block8", "tile8", "winograd"]
"""Arithmetic of matrix products. block8: int8 weights and rows, both scaled by blocks, so that rows are independent.
tile8: int8 weights scaled by output, uint8 activations with one scale for the whole tile: fastest on processors that
add such products in 32 bits, wrong on those that add pairs of them in 16. winograd: fp32, fewer products."""

_FAR = 1 << 31
_LN_EPS = 1e-6
SNAKE_EPS = 1e-9
_BLOCKS = (32, 16)
OUTPUTS = {7: (4, 6), 2: (4,)}
"""Taps of a convolution → outputs computed together. Eight outputs of seven taps would save another eighth and cost
20 dB of accuracy."""
FEWEST_ROWS = 16
"""Fewest rows of a frame for winograd: with fewer, reading its weights, half as large again, takes longer."""
_BATCHED = 400
"""Channels up to which one batched product is as fast as separate products with prepacked weights."""
_SNAKE = {"tile8": 3, "winograd": 4}
"""Degree of the polynomial that replaces the sine, which costs ONNX Runtime as much as ten multiplications."""


def sine_squared(degree: int) -> Floats:
    """c with sin²(πr) ≈ Σ c[k] r^(2k+2) for |r| ≤ ½. Worst error 2e-3 for degree 3, 6e-5 for 4, 1.3e-6 for 5."""
    r = np.linspace(0, 0.5, 4001)[1:]
    powers = np.stack([r ** (2 * k + 2) for k in range(degree)], axis=1)
    coefficients, *_ = np.linalg.lstsq(powers, np.sin(np.pi * r) ** 2, rcond=None)
    return np.asarray(coefficients, np.float32)


def transposed_as_conv(weight: Floats, stride: int) -> Floats:
    """A transposed convolution's weight [in, out, 2·stride] as [2, in, stride, out]: previous, then current step."""
    return np.stack([weight[:, :, stride:], weight[:, :, :stride]]).transpose(0, 1, 3, 2)


class Layers:
    """Writes layers into a graph. `at` is the prefix of a layer's tensor names; values are names in the graph."""

    def __init__(
        self, graph: GraphWriter, weights: Weights, codec: CodecConfig, products: Products = "fp32", frames: int = 1
    ) -> None:
        """`frames`: of a tile."""
        self.g, self.weights, self.codec, self.products, self.frames = graph, weights, codec, products, frames

    def product(self, x: str, weight: Floats, bias: Floats | None = None, products: Products | None = None) -> str:
        """x [rows, in] times weight [in, out] plus bias [out]."""
        match products or self.products:
            case "tile8":
                return self._tile8(self.g.ops("DynamicQuantizeLinear", 3, x), weight, bias)
            case "block8":
                y = self._block8(x, weight)
            case _:
                y = self.g.op("MatMul", x, self.g.const(weight))
        return y if bias is None else self.g.op("Add", y, self.g.const(bias))

    def _tile8(self, quantised: list[str], weight: Floats, bias: Floats | None) -> str:
        scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / 127
        whole = self.g.const(np.round(weight / scale), np.int8)
        x, x_scale, x_zero = quantised
        last = () if bias is None else ("", self.g.const(bias))
        return self.g.op("MatMulIntegerToFloat", x, whole, x_scale, self.g.const(scale), x_zero, *last, domain=FUSED)

    def _block8(self, x: str, weight: Floats) -> str:
        inputs, outputs = weight.shape
        block = next((size for size in _BLOCKS if inputs % size == 0), _BLOCKS[-1])
        count = math.ceil(inputs / block)
        padded = np.zeros((outputs, count * block), np.float32)
        padded[:, :inputs] = weight.T
        blocks = padded.reshape(outputs, count, block)
        scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True), 1e-12) / 127
        return self.g.op(
            "MatMulNBits",
            x,
            self.g.const(np.round(blocks / scale) + 128, np.uint8),
            self.g.const(scale.reshape(-1)),
            domain=FUSED,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=block,
            accuracy_level=4,
        )

    def conv(self, at: str, x: str, rows: int, *, stride: int = 1, dilation: int = 1) -> str:
        """Causal; [rows, in] → [rows / stride, out]."""
        weight = self.weights[f"{at}conv.weight"]
        outputs, inputs, taps = weight.shape
        flat = weight.transpose(2, 1, 0).reshape(taps * inputs, outputs)
        past = (taps - 1) * dilation + 1 - stride
        if stride == 1 and self._uses_winograd(taps, rows):
            x = self.g.with_past(at.rstrip("."), x, (past, inputs), axis=0)
            return self.grouped(x, rows, dilation, weight.transpose(2, 1, 0), self.weights[f"{at}conv.bias"])
        steps = np.arange(0, rows, stride)[:, None] + np.arange(taps) * dilation
        if past:
            x = self.g.with_past(at.rstrip("."), x, (past, inputs), axis=0)
        return self.gathered(x, steps, flat, self.weights[f"{at}conv.bias"])

    def transposed(self, at: str, x: str, rows: int, stride: int) -> str:
        """Causal, kernel 2·stride; [rows, in] → [rows · stride, out]."""
        weight = self.weights[f"{at}conv.weight"]
        inputs, outputs, _ = weight.shape
        flat = transposed_as_conv(weight, stride).reshape(2 * inputs, stride * outputs)
        bias = np.tile(self.weights[f"{at}conv.bias"], stride)
        x = self.g.with_past(at.rstrip("."), x, (1, inputs), axis=0)
        if self._uses_winograd(2, rows):
            y = self.grouped(x, rows, 1, flat.reshape(2, inputs, stride * outputs), bias)
        else:
            y = self.gathered(x, np.arange(rows)[:, None] + np.arange(2), flat, bias)
        return self.g.op("Reshape", y, self.g.ints(rows * stride, outputs))

    def gathered(self, x: str, steps: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> str:
        """Rows `steps` [out_rows, taps] of x, concatenated by tap, times weight [taps · in, out]."""
        rows, taps = steps.shape
        quantised = self.g.ops("DynamicQuantizeLinear", 3, x) if self.products == "tile8" else [x]
        if taps > 1:
            taken = self.g.op("Gather", quantised[0], self.g.const(steps, np.int32), axis=0)
            quantised[0] = self.g.op("Reshape", taken, self.g.ints(rows, weight.shape[0]))
        if self.products == "tile8":
            return self._tile8(quantised, weight, bias)
        return self.product(quantised[0], weight, bias)

    def _uses_winograd(self, taps: int, rows: int) -> bool:
        return self.products == "winograd" and taps in OUTPUTS and rows // self.frames >= FEWEST_ROWS

    def grouped(self, x: str, rows: int, dilation: int, weight: Floats, bias: Floats) -> str:
        """A convolution by `winograd`. x with its past, weight [taps, in, out] → [rows, out]."""
        g, (taps, inputs, outputs) = self.g, weight.shape
        groups = winograd.cheapest(self.frames, rows // self.frames, taps, dilation, OUTPUTS[taps])
        (size, count), transforms = groups.taken.shape, winograd.transforms(groups.outputs, taps)
        filters = np.einsum("sk,kio->sio", transforms.filters, weight.astype(np.float64)).astype(np.float32)
        taken = g.op(
            "Reshape", g.op("Gather", x, g.const(groups.taken, np.int32), axis=0), g.ints(size, count * inputs)
        )
        before = g.op("Reshape", g.op("MatMul", g.const(transforms.before), taken), g.ints(size, count, inputs))
        products = g.op("Reshape", self._products(before, filters, count), g.ints(size, count * outputs))
        after = g.op("MatMul", g.const(transforms.after), products)
        flat = g.op("Reshape", after, g.ints(groups.outputs * count, outputs))
        return g.op("Add", g.op("Gather", flat, g.const(groups.positions, np.int32), axis=0), g.const(bias))

    def _products(self, x: str, filters: Floats, rows: int) -> str:
        """Batched product of x [size, rows, in] and filters [size, in, out]."""
        g, (size, inputs, outputs) = self.g, filters.shape
        if inputs <= _BATCHED:
            return g.op("MatMul", x, g.const(filters))
        parts = g.ops("Split", size, x, g.ints(*[1] * size), axis=0)
        flat = (g.op("Reshape", part, g.ints(rows, inputs)) for part in parts)
        products = [g.op("MatMul", part, g.const(matrix)) for part, matrix in zip(flat, filters, strict=True)]
        return g.op("Concat", *(g.op("Reshape", y, g.ints(1, rows, outputs)) for y in products), axis=0)

    def snake(self, at: str, x: str) -> str:
        """x + sin²(αx) / α."""
        alpha = self.weights[f"{at}alpha"].reshape(-1)
        inverse = np.reciprocal(alpha + np.float32(SNAKE_EPS))
        if self.products in _SNAKE:
            return self._quick_snake(x, alpha, inverse, _SNAKE[self.products])
        wave = self.g.op("Sin", self.g.op("Mul", x, self.g.const(alpha)))
        scaled = self.g.op("Mul", self.g.op("Mul", wave, wave), self.g.const(inverse))
        return self.g.op("Add", x, scaled)

    def _quick_snake(self, x: str, alpha: Floats, inverse: Floats, degree: int) -> str:
        g = self.g
        turns = g.op("Mul", x, g.const(alpha / np.float32(np.pi)))
        part = g.op("Sub", turns, g.op("Round", turns))
        square = g.op("Mul", part, part)
        first, *middle, last = (g.const(coefficient * inverse) for coefficient in sine_squared(degree))
        y = g.op("Mul", square, last)
        for coefficient in [*middle[::-1], first]:
            y = g.op("Mul", g.op("Add", y, coefficient), square)
        return g.op("Add", x, y)

    def residual_unit(self, at: str, x: str, rows: int, dilation: int) -> str:
        """Snake, wide convolution, Snake, narrow convolution, plus the input."""
        y = self.conv(f"{at}block.1.", self.snake(f"{at}block.0.", x), rows, dilation=dilation)
        y = self.conv(f"{at}block.3.", self.snake(f"{at}block.2.", y), rows)
        return self.g.op("Add", x, y)

    def convnext(self, at: str, x: str, rows: int) -> str:
        """Depthwise convolution, layer norm, GELU layer, scaled, added. [rows, dim] → the same."""
        g, w = self.g, self.weights
        dim, _, taps = w[f"{at}dwconv.conv.weight"].shape
        long = g.with_past(f"{at}dwconv", x, (taps - 1, dim), axis=0)
        steps = np.arange(rows)[:, None] + np.arange(taps)
        taken = g.op("Gather", long, g.const(steps, np.int32), axis=0)
        products = g.op("Mul", taken, g.const(w[f"{at}dwconv.conv.weight"][:, 0].T))
        y = g.op("Add", g.op("ReduceSum", products, g.ints(1), keepdims=0), g.const(w[f"{at}dwconv.conv.bias"]))
        scale, shift = g.const(w[f"{at}norm.weight"]), g.const(w[f"{at}norm.bias"])
        y = g.op("LayerNormalization", y, scale, shift, axis=-1, epsilon=_LN_EPS)
        y = self.product(y, w[f"{at}pwconv1.weight"].T)
        y = g.op("BiasGelu", y, g.const(w[f"{at}pwconv1.bias"]), domain=FUSED)
        gamma = w[f"{at}gamma"]
        y = self.product(y, w[f"{at}pwconv2.weight"].T * gamma, w[f"{at}pwconv2.bias"] * gamma)
        return g.op("Add", x, y)

    def transformer(self, at: str, x: str, rows: int, layers: int, window: int) -> str:
        """Causal attention over the last `window` rows. [rows, dim] → the same."""
        positions = _Positions(self, at, rows, window)
        for layer in range(layers):
            here = f"{at}layers.{layer}."
            x = self._attention(here, x, rows, positions)
            x = self._feed_forward(here, x)
        return self._rms_norm(x, f"{at}norm.weight")

    def _rms_norm(self, x: str, name: str) -> str:
        scale = self.g.const(self.weights[name])
        return self.g.op("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=self.codec.norm_eps)

    def _attention(self, at: str, x: str, rows: int, positions: _Positions) -> str:
        g, size = self.g, self.codec.head_dim
        packed, gamma = self.weights[f"{at}attention.wqkv.weight"], self.weights[f"{at}attention_layer_scale.gamma"]
        heads = packed.shape[1] // size
        qkv = self.product(self._rms_norm(x, f"{at}attention_norm.weight"), _halved(packed, heads, size).T)
        by_head = g.op("Transpose", g.op("Reshape", qkv, g.ints(rows, 3 * heads, size)), perm=[1, 0, 2])
        qk, v = g.ops("Split", 2, by_head, g.ints(2 * heads, heads), axis=0)
        q, k = g.ops("Split", 2, positions.rotate(qk), g.ints(heads, heads), axis=0)
        past = (heads, positions.window - 1, size)
        k, v = (g.with_past(f"{at}{name}", value, past, axis=1) for name, value in (("k", k), ("v", v)))
        scores = g.op("FusedMatMul", q, k, domain=FUSED, transB=1, alpha=1 / math.sqrt(size))
        shares = g.op("Softmax", g.op("Add", scores, positions.mask), axis=-1)
        y = g.op("Transpose", g.op("MatMul", shares, v), perm=[1, 0, 2])
        y = g.op("Reshape", y, g.ints(rows, heads * size))
        return g.op("Add", x, self.product(y, self.weights[f"{at}attention.wo.weight"].T * gamma))

    def _feed_forward(self, at: str, x: str) -> str:
        w, g = self.weights, self.g
        w1, w3 = w[f"{at}feed_forward.w1.weight"], w[f"{at}feed_forward.w3.weight"]
        both = self.product(self._rms_norm(x, f"{at}ffn_norm.weight"), np.concatenate([w1, w3]).T)
        gate, up = g.ops("Split", 2, both, g.ints(len(w1), len(w3)), axis=1)
        y = g.op("Mul", g.op("QuickGelu", gate, domain=FUSED, alpha=1.0), up)
        return g.op("Add", x, self.product(y, w[f"{at}feed_forward.w2.weight"].T * w[f"{at}ffn_layer_scale.gamma"]))


def _halved(packed: Floats, heads: int, size: int) -> Floats:
    """q and k with even before odd channels: interleaved rotary pairs become halves, and q · k stays the same."""
    qk, v = packed[: 2 * heads * size], packed[2 * heads * size :]
    pairs = qk.reshape(2 * heads, size // 2, 2, -1).transpose(0, 2, 1, 3)
    return np.concatenate([pairs.reshape(qk.shape), v])


class _Positions:
    """Rotary embedding and attention mask of a tile, shared by the layers of a transformer."""

    def __init__(self, layers: Layers, at: str, rows: int, window: int) -> None:
        self.g, self.window, self._half = layers.g, window, layers.codec.head_dim // 2
        g = self.g
        start = g.load_state(f"{at}position", (1,), INT64)
        g.store_state(f"{at}position", g.op("Add", start, g.ints(rows)), (1,), INT64)
        self._cos, self._sin = self._rotary(start, rows, layers.codec)
        self.mask = self._mask(start, rows)

    def _rotary(self, start: str, rows: int, codec: CodecConfig) -> list[str]:
        """cos and sin [rows, head_dim / 2], rounded to bf16 as in training."""
        g, turn = self.g, rotary_frequencies(codec.head_dim, codec.rope_base)
        position = g.op("Cast", g.op("Add", start, g.const(np.arange(rows), np.int64)), to=FLOAT)
        angle = g.op("Mul", g.op("Reshape", position, g.ints(rows, 1)), g.const(turn))
        rounded = (g.op("Cast", g.op(kind, angle), to=BFLOAT16) for kind in ("Cos", "Sin"))
        return [g.op("Cast", part, to=FLOAT) for part in rounded]

    def _mask(self, start: str, rows: int) -> str:
        """[rows, window − 1 + rows]: 0 for each row's last `window` positions, very negative elsewhere."""
        g, past = self.g, self.window - 1
        keys = np.arange(past + rows)
        back = np.arange(rows)[:, None] + past - keys
        band = np.where((back >= 0) & (back <= past), 0, -1e30)
        exists = g.op("GreaterOrEqual", g.op("Add", start, g.const(keys - past, np.int64)), g.ints(0))
        return g.op("Where", exists, g.const(band), g.const(-1e30))

    def rotate(self, x: str) -> str:
        """x [heads, rows, head_dim], whose pairs are halves (see `_halved`)."""
        g = self.g
        a, b = g.ops("Split", 2, x, g.ints(self._half, self._half), axis=2)
        left = g.op("Sub", g.op("Mul", a, self._cos), g.op("Mul", b, self._sin))
        right = g.op("Add", g.op("Mul", b, self._cos), g.op("Mul", a, self._sin))
        return g.op("Concat", left, right, axis=2)
