"""The networks that listen to a reference clip as ONNX graphs, in fp32, from the published tensors.

All take any number of frames, without a batch: a clip is encoded alone. Batch norms are folded into the convolution
before them, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from saywell.graphs.linears import Judge, Linears
from saywell.graphs.numerics import Floats, Weights, rotary_frequencies
from saywell.graphs.writer import FLOAT, FUSED, INT64, TRANSFORMER, External, GraphWriter
from saywell.models.chatterbox.voice.config import SpeakerConfig, TokenizerConfig, VoiceConfig, XVectorConfig
from saywell.models.chatterbox.voice.files import SPEAKER, TOKENIZER, XVECTOR
from saywell.models.chatterbox.voice.layout import STAGES
from saywell.models.chatterbox.voice.layout import TOKENIZER as IN_TOKENIZER
from saywell.models.chatterbox.voice.layout import XVECTOR as IN_XVECTOR

_LN_EPS, _BN_EPS = 1e-5, 1e-5
_NEARLY = 0.9990000128746033
"""Factor of the tokeniser's digits before rounding, as published: 1.5 is never reached."""


def write(s3gen: Weights, ve: Weights, config: VoiceConfig, directory: Path) -> list[Path]:
    """All three graphs, from the tensors of `layout.s3gen_tensors` and `layout.ve_tensors`. Returns the files."""
    return [
        *_write(directory / TOKENIZER, lambda g: _Tokenizer(g, s3gen, config.tokenizer).write()),
        *_write(directory / XVECTOR, lambda g: _XVector(g, s3gen, config.xvector).write()),
        *_write(directory / SPEAKER, lambda g: _speaker(g, ve, config.speaker)),
    ]


def _write(path: Path, fill: Callable[[GraphWriter], None]) -> list[Path]:
    external = External(path.with_name(f"{path.name}.data"))
    try:
        g = GraphWriter(path.stem, TRANSFORMER, external)
        fill(g)
    finally:
        external.close()
    onnx.save_model(g.model(), str(path))
    return [path, external.path]


class _Tokenizer:
    """mel [T, bins] → tokens [⌈⌈T / 2⌉ / 2⌉]."""

    def __init__(self, g: GraphWriter, weights: Weights, config: TokenizerConfig) -> None:
        self.g, self.w, self.c = g, weights, config

    def write(self) -> None:
        g, c = self.g, self.c
        x = g.op("Unsqueeze", g.op("Transpose", g.input("mel", ("frames", c.bins)), perm=[1, 0]), g.ints(0))
        for name in ("conv1", "conv2"):
            at = f"encoder.{name}."
            x = g.op("Conv", x, self._put(f"{at}weight"), self._put(f"{at}bias"), strides=[2], pads=[1, 1])
            x = g.op("Gelu", x, domain=FUSED)
        x = g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])
        self.linear = Linears(g, "fp32", x, Judge({}))
        self._angles(x)
        for layer in range(c.layers):
            at = f"encoder.blocks.{layer}."
            x = g.op("Add", x, self._attention(f"{at}attn.", self._norm(f"{at}attn_ln.", x)))
            y = self._product(f"{at}mlp.0.", self._norm(f"{at}mlp_ln.", x))
            x = g.op("Add", x, self._product(f"{at}mlp.2.", g.op("Gelu", y, domain=FUSED)))
        g.output("tokens", self._quantised(x), ("tokens",), INT64)

    def _at(self, name: str) -> Floats:
        return self.w[f"{IN_TOKENIZER}{name}"]

    def _put(self, name: str) -> str:
        return self.g.weight(name, self._at(name))

    def _norm(self, at: str, x: str) -> str:
        scale, shift = self._put(f"{at}weight"), self._put(f"{at}bias")
        return self.g.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=_LN_EPS)

    def _product(self, at: str, x: str) -> str:
        return self.linear(x, f"{at}weight", self._at(f"{at}weight"), self._at(f"{at}bias"))

    def _angles(self, x: str) -> None:
        """Rotary cos and sin [T, head_dim / 2]."""
        g = self.g
        steps = g.op("Range", g.const(0, np.int64), self._length(x), g.const(1, np.int64))
        steps = g.op("Unsqueeze", g.op("Cast", steps, to=FLOAT), g.ints(1))
        angles = g.op("Mul", steps, g.const(rotary_frequencies(self.c.head_dim, self.c.rope_base)))
        self.cos, self.sin = g.op("Cos", angles), g.op("Sin", angles)

    def _length(self, x: str) -> str:
        return self.g.op("Squeeze", self.g.op("Shape", x, start=0, end=1), self.g.ints(0))

    def _attention(self, at: str, x: str) -> str:
        g, c = self.g, self.c
        scale = np.float32(c.head_dim**-0.5)
        names = ("query", "key", "value")
        query, key, value = (self._at(f"{at}{name}.weight") for name in names)
        packed = np.concatenate([query * scale, key, value])
        bias = np.concatenate([self._at(f"{at}query.bias") * scale, np.zeros_like(key[0]), self._at(f"{at}value.bias")])
        qkv = self.linear(x, f"{at}qkv.weight", packed, bias)
        _, v = g.ops("Split", 2, qkv, g.ints(2 * c.dim, c.dim), axis=1)
        by_head = g.op("Transpose", g.op("Reshape", qkv, g.ints(-1, 3 * c.heads, c.head_dim)), perm=[1, 0, 2])
        qk, values = g.ops("Split", 2, by_head, g.ints(2 * c.heads, c.heads), axis=0)
        q, k = g.ops("Split", 2, self._rotated(qk), g.ints(c.heads, c.heads), axis=0)
        shares = g.op("Softmax", g.op("FusedMatMul", q, k, domain=FUSED, transB=1), axis=-1)
        y = g.op("Reshape", g.op("Transpose", g.op("MatMul", shares, values), perm=[1, 0, 2]), g.ints(-1, c.dim))
        return g.op("Add", self._product(f"{at}out.", y), self._memory(at, v))

    def _rotated(self, x: str) -> str:
        """x [heads, T, head_dim], of which dimension i turns with i + head_dim / 2."""
        g, half = self.g, self.c.head_dim // 2
        left, right = g.ops("Split", 2, x, g.ints(half, half), axis=2)
        first = g.op("Sub", g.op("Mul", left, self.cos), g.op("Mul", right, self.sin))
        second = g.op("Add", g.op("Mul", right, self.cos), g.op("Mul", left, self.sin))
        return g.op("Concat", first, second, axis=2)

    def _memory(self, at: str, v: str) -> str:
        """v [T, dim] plus its convolution over time, channel by channel."""
        g, side = self.g, (self.c.memory - 1) // 2
        weight = self._at(f"{at}fsmn_block.weight").copy()
        weight[:, 0, side] += 1
        x = g.op("Unsqueeze", g.op("Transpose", v, perm=[1, 0]), g.ints(0))
        pads = [side, self.c.memory - 1 - side]
        y = g.op("Conv", x, g.weight(f"{at}fsmn_block.weight", weight), group=self.c.dim, pads=pads)
        return g.op("Transpose", g.op("Squeeze", y, g.ints(0)), perm=[1, 0])

    def _quantised(self, x: str) -> str:
        """Eight digits of a number to the base 3."""
        g = self.g
        y = g.op("Tanh", self._product("quantizer._codebook.project_down.", x))
        digits = g.op("Add", g.op("Round", g.op("Mul", y, g.const(_NEARLY))), g.const(1.0))
        places = g.const(3.0 ** np.arange(self.c.digits))
        return g.op("Cast", g.op("ReduceSum", g.op("Mul", digits, places), g.ints(1), keepdims=0), to=INT64)


class _XVector:
    """fbank [T, bins] → x-vector [size]."""

    def __init__(self, g: GraphWriter, weights: Weights, config: XVectorConfig) -> None:
        self.g, self.w, self.c = g, weights, config

    def write(self) -> None:
        g, c = self.g, self.c
        x = g.op("Transpose", g.input("fbank", ("frames", c.bins)), perm=[1, 0])
        x = self._head(g.op("Unsqueeze", x, g.ints(0, 1)))
        x = self._conv("xvector.tdnn.linear", x, "xvector.tdnn.nonlinear.batchnorm", strides=[2], pads=[2, 2])
        x = g.op("Relu", x)
        self._segments(x)
        for number, layers in enumerate(c.layers, start=1):
            for layer in range(layers):
                new = self._dense(f"xvector.block{number}.tdnnd{layer + 1}.", x, c.dilations[number - 1])
                x = g.op("Concat", x, new, axis=1)
            x = self._conv(f"xvector.transit{number}.linear", self._activated(f"xvector.transit{number}.nonlinear", x))
        x = self._statistics(self._activated("xvector.out_nonlinear", x))
        g.output("xvector", self._projected(x), (c.size,))

    def _at(self, name: str) -> Floats:
        return self.w[f"{IN_XVECTOR}{name}"]

    def _affine(self, at: str) -> tuple[Floats, Floats]:
        """Scale and shift of a batch norm."""
        one = np.float32(1)
        scale = one / np.sqrt(self._at(f"{at}.running_var") + np.float32(_BN_EPS))
        if f"{IN_XVECTOR}{at}.weight" not in self.w:
            return scale, -self._at(f"{at}.running_mean") * scale
        scale = scale * self._at(f"{at}.weight")
        return scale, self._at(f"{at}.bias") - self._at(f"{at}.running_mean") * scale

    def _conv(self, at: str, x: str, norm: str = "", **how: Any) -> str:
        """A convolution without bias, and the batch norm after it."""
        weight = self._at(f"{at}.weight")
        if not norm:
            return self.g.op("Conv", x, self.g.weight(f"{at}.weight", weight), **how)
        scale, shift = self._affine(norm)
        folded = self.g.weight(f"{at}.weight", weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
        return self.g.op("Conv", x, folded, self.g.weight(f"{at}.bias", shift), **how)

    def _activated(self, at: str, x: str) -> str:
        """Batch norm, ReLU."""
        scale, shift = (self.g.const(each[:, None]) for each in self._affine(f"{at}.batchnorm"))
        return self.g.op("Relu", self.g.op("Add", self.g.op("Mul", x, scale), shift))

    def _head(self, x: str) -> str:
        """[1, 1, bins, T] → [1, planes · bins / 8, T]."""
        g, same = self.g, [1, 1, 1, 1]
        x = g.op("Relu", self._conv("head.conv1", x, "head.bn1", pads=same))
        for stage in STAGES:
            for block in range(2):
                at, strides = f"head.{stage}.{block}.", [1, 1] if block else [2, 1]
                y = g.op("Relu", self._conv(f"{at}conv1", x, f"{at}bn1", pads=same, strides=strides))
                y = self._conv(f"{at}conv2", y, f"{at}bn2", pads=same)
                x = x if block else self._conv(f"{at}shortcut.0", x, f"{at}shortcut.1", strides=strides)
                x = g.op("Relu", g.op("Add", y, x))
        x = g.op("Relu", self._conv("head.conv2", x, "head.bn2", pads=same, strides=[2, 1]))
        return g.op("Reshape", x, g.ints(1, self.c.planes * (self.c.bins // 8), -1))

    def _segments(self, x: str) -> None:
        """The segment of each frame [T], and what averages over all frames and over a segment, added: [T, segments]."""
        g, size = self.g, self.c.segment
        frames = g.op("Shape", x, start=2, end=3)
        scalar, zero, one = g.op("Squeeze", frames, g.ints(0)), g.const(0, np.int64), g.const(1, np.int64)
        self.segment = g.op("Div", g.op("Range", zero, scalar, one), g.const(size, np.int64))
        count = g.op("Div", g.op("Add", scalar, g.const(size - 1, np.int64)), g.const(size, np.int64))
        numbers = g.op("Range", zero, count, one)
        within = g.op("Equal", g.op("Unsqueeze", self.segment, g.ints(1)), g.op("Unsqueeze", numbers, g.ints(0)))
        within = g.op("Cast", within, to=FLOAT)
        shares = g.op("Div", within, g.op("ReduceSum", within, g.ints(0), keepdims=1))
        self.means = g.op("Add", shares, g.op("Div", g.const(1.0), g.op("Cast", frames, to=FLOAT)))

    def _dense(self, at: str, x: str, dilation: int) -> str:
        """[1, channels, T] → [1, growth, T]: a convolution, weighted by channel and segment."""
        g = self.g
        x = self._activated(f"{at}nonlinear1", x)
        x = g.op("Relu", self._conv(f"{at}linear1", x, f"{at}nonlinear2.batchnorm"))
        y = self._conv(f"{at}cam_layer.linear_local", x, dilations=[dilation], pads=[dilation, dilation])
        # Frames of a segment have one context, so it is computed by segment.
        context = g.op("Relu", self._pointwise(f"{at}cam_layer.linear1", g.op("MatMul", x, self.means)))
        mask = g.op("Sigmoid", self._pointwise(f"{at}cam_layer.linear2", context))
        return g.op("Mul", y, g.op("Gather", mask, self.segment, axis=2))

    def _pointwise(self, at: str, x: str) -> str:
        weight, bias = (self.g.weight(f"{at}.{name}", self._at(f"{at}.{name}")) for name in ("weight", "bias"))
        return self.g.op("Conv", x, weight, bias)

    def _statistics(self, x: str) -> str:
        """[1, channels, T] → mean and standard deviation over time, [1, 2 · channels]."""
        g = self.g
        mean = g.op("ReduceMean", x, g.ints(2), keepdims=1)
        squares = g.op("ReduceSumSquare", g.op("Sub", x, mean), g.ints(2), keepdims=0)
        others = g.op("Cast", g.op("Sub", g.op("Shape", x, start=2, end=3), g.ints(1)), to=FLOAT)
        return g.op("Concat", g.op("Squeeze", mean, g.ints(2)), g.op("Sqrt", g.op("Div", squares, others)), axis=1)

    def _projected(self, x: str) -> str:
        scale, shift = self._affine("xvector.dense.nonlinear.batchnorm")
        weight = self._at("xvector.dense.linear.weight")[:, :, 0] * scale[:, None]
        y = self.g.op("MatMul", x, self.g.weight("xvector.dense.linear.weight", weight.T))
        return self.g.op("Squeeze", self.g.op("Add", y, self.g.const(shift)), self.g.ints(0))


def _speaker(g: GraphWriter, w: Weights, c: SpeakerConfig) -> None:
    """mels [windows, frames, bins] → embedding [windows, size] of each window, of length one."""
    x = g.op("Transpose", g.input("mels", ("windows", "frames", c.bins)), perm=[1, 0, 2])
    for layer in range(c.layers):
        ih, hh = (_gates(w[f"lstm.weight_{way}_l{layer}"], c.hidden)[None] for way in ("ih", "hh"))
        biases = [_gates(w[f"lstm.bias_{way}_l{layer}"], c.hidden) for way in ("ih", "hh")]
        names = [g.weight(f"lstm.{layer}.{name}", each) for name, each in (("w", ih), ("r", hh))]
        bias = g.weight(f"lstm.{layer}.b", np.concatenate(biases)[None])
        steps, last = g.ops("LSTM", 2, x, *names, bias, hidden_size=c.hidden)
        x = g.op("Squeeze", steps, g.ints(1))
    hidden = g.op("Squeeze", last, g.ints(0))
    y = Linears(g, "fp32", hidden, Judge({}))(hidden, "proj.weight", w["proj.weight"], w["proj.bias"])
    y = g.op("Relu", y)
    # An embedding of zeros has no direction; it stays zero.
    length = g.op("Max", g.op("ReduceL2", y, g.ints(1), keepdims=1), g.const(1e-12))
    g.output("embeddings", g.op("Div", y, length), ("windows", c.size))


def _gates(packed: Floats, hidden: int) -> Floats:
    """Rows of the gates input, forget, cell, output → input, output, forget, cell."""
    i, f, cell, o = (packed[k * hidden : (k + 1) * hidden] for k in range(4))
    return np.concatenate([i, o, f, cell])
