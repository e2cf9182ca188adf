"""The codec as ONNX graphs, written from folded weights.

Three streaming graphs (see `writer`). Quantizer: codes → latents by codebooks, transformer and upsampling. Decoder:
latents → samples by convolutions, nearly all of the arithmetic. Encoder: samples → codes. The decoder has two forms:

- rows (time × channel), for ONNX Runtime: a convolution is one gather of its taps and one matrix product, fp32 or int8;
  by `winograd`, a gather of groups and a product for each of a dozen matrices.
- channels (channel × time), for OpenVINO: plain convolutions, in bf16 where the processor supports it.

In both, a transposed convolution of kernel 2·stride is a convolution of kernel 2 with stride · channels outputs, each
row of which is reshaped to `stride` rows.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from saywell.graphs.numerics import Weights
from saywell.graphs.writer import CODEC, INT64, GraphWriter
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.graphs.layers import SNAKE_EPS, Layers, Products, sine_squared, transposed_as_conv
from saywell.models.dual_ar.onnx.codec_files import DECODER, DECODER_CHANNELS, ENCODER, PRECISIONS, QUANTIZER, Precision

QUANTIZER_TILE = 8
"""Frames of a tile of the quantizer: more would save little (weights are read once a tile) and delay a first frame."""
TILE = 4
"""Frames of a tile of the decoder in fp32 and bf16: fewer would read the weights too often."""
INT8_TILE = 1
"""Frames of a tile of the int8 decoder. Its activations share one scale a tile: with one frame a tile, the samples of a
frame never depend on the frames decoded with it."""
ENCODER_TILE = 8
_SNAKE_DEGREE = 5
_PRODUCTS: dict[str, Products] = {"fp32": "fp32", "winograd": "winograd", "int8": "tile8"}


def write_decoder(weights: Weights, codec: CodecConfig, directory: Path) -> list[Path]:
    """Every graph of the decoder. Returns the files written."""
    files = []
    for precision in PRECISIONS:
        files += quantizer(weights, codec, precision).save(directory / QUANTIZER[precision])
    for conv_impl, file in DECODER.items():
        files += decoder_rows(weights, codec, _PRODUCTS[conv_impl]).save(directory / file)
    return files + decoder_channels(weights, codec).save(directory / DECODER_CHANNELS)


def write_encoder(weights: Weights, codec: CodecConfig, directory: Path) -> list[Path]:
    """The graph for reference audio. Returns the files written."""
    return encoder(weights, codec).save(directory / ENCODER)


def quantizer(weights: Weights, codec: CodecConfig, precision: Precision, tile: int = QUANTIZER_TILE) -> GraphWriter:
    """x: codes [tile, num_codebooks] int64, each within its book → y: latents [tile · steps, latent_dim]."""
    g = GraphWriter("codec_latents", CODEC)
    layers = Layers(g, weights, codec, "block8" if precision == "int8" else "fp32")
    y = _entries(layers, g.input("x", (tile, codec.num_codebooks), INT64), tile)
    y = layers.transformer("quantizer.post_module.", y, tile, codec.module_layers, codec.module_window)
    rows = tile
    for stage, rate in enumerate(codec.downsample[::-1]):
        at = f"quantizer.upsample.{stage}."
        weight, bias = weights[f"{at}0.conv.weight"], weights[f"{at}0.conv.bias"]
        flat = weight.transpose(0, 2, 1).reshape(codec.latent_dim, rate * codec.latent_dim)
        y = layers.product(y, flat, np.tile(bias, rate), "fp32")  # fp32: small, and the whole signal passes through it
        rows *= rate
        y = g.op("Reshape", y, g.ints(rows, codec.latent_dim))
        y = layers.convnext(f"{at}1.", y, rows)
    g.output("y", y, (rows, codec.latent_dim))
    return g


def _book(book: int) -> str:
    return f"quantizer.quantizer.quantizers.{book - 1}." if book else "quantizer.semantic_quantizer.quantizers.0."


def _entries(layers: Layers, codes: str, tile: int) -> str:
    """Sum over the books of out_proj(codebook[code]): one gather, one product."""
    g, w, codec = layers.g, layers.weights, layers.codec
    books = [_book(book) for book in range(codec.num_codebooks)]
    entries = np.concatenate([w[f"{at}codebook.weight"] for at in books])
    offsets = np.cumsum([0, *(len(w[f"{at}codebook.weight"]) for at in books[:-1])])
    out = np.concatenate([w[f"{at}out_proj.weight"][:, :, 0].T for at in books])
    bias = np.sum([w[f"{at}out_proj.bias"] for at in books], axis=0)
    taken = g.op("Gather", g.const(entries), g.op("Add", codes, g.const(offsets, np.int64)), axis=0)
    flat = g.op("Reshape", taken, g.ints(tile, codec.num_codebooks * codec.codebook_dim))
    return layers.product(flat, out, bias, "fp32")


def decoder_rows(weights: Weights, codec: CodecConfig, products: Products) -> GraphWriter:
    """x: latents [tile · steps, latent_dim] → y: samples [tile · frame]."""
    g = GraphWriter("codec_stack", CODEC)
    tile = INT8_TILE if products == "tile8" else TILE
    rows = tile * math.prod(codec.downsample)
    layers = Layers(g, weights, codec, products, tile)
    x, rows = _decoder(layers, g.input("x", (rows, codec.latent_dim)), rows)
    last = len(codec.decoder_rates) + 2
    g.output("y", _to_samples(layers, f"decoder.model.{last}.", x, rows), (rows,))
    return g


def _decoder(layers: Layers, x: str, rows: int) -> tuple[str, int]:
    """The decoder before its last convolution: the value, and its number of rows."""
    codec = layers.codec
    y = layers.conv("decoder.model.0.", x, rows)
    for number, rate in enumerate(codec.decoder_rates, start=1):
        at = f"decoder.model.{number}.block."
        y = layers.transposed(f"{at}1.", layers.snake(f"{at}0.", y), rows, rate)
        rows *= rate
        for unit, dilation in enumerate(codec.dilations):
            y = layers.residual_unit(f"{at}{unit + 2}.", y, rows, dilation)
    return layers.snake(f"decoder.model.{len(codec.decoder_rates) + 1}.", y), rows


def _to_samples(layers: Layers, at: str, x: str, rows: int) -> str:
    """The convolution to one channel, in fp32: the products of all taps, then their sums, shifted by tap."""
    g, weight = layers.g, layers.weights[f"{at}conv.weight"]
    _, inputs, taps = weight.shape
    long = g.with_past(at.rstrip("."), x, (taps - 1, inputs), axis=0)
    shares = g.op("Transpose", layers.product(long, weight[0], products="fp32"), perm=[1, 0])
    flat = g.op("Reshape", shares, g.ints(-1))
    y = g.const(layers.weights[f"{at}conv.bias"])
    for tap in range(taps):
        start = tap * (rows + taps - 1) + tap
        y = g.op("Add", g.op("Slice", flat, g.ints(start), g.ints(start + rows)), y)
    return g.op("Tanh", y)


def decoder_channels(weights: Weights, codec: CodecConfig, tile: int = TILE) -> GraphWriter:
    """As `decoder_rows`, by plain convolutions on [1, channels, time]."""
    g = GraphWriter("codec_stack", CODEC)
    rows = tile * math.prod(codec.downsample)
    layers = _ChannelLayers(g, weights, codec)
    x = g.input("x", (rows, codec.latent_dim))
    x, rows = _decoder(layers, g.op("Unsqueeze", g.op("Transpose", x, perm=[1, 0]), g.ints(0)), rows)
    y = layers.conv(f"decoder.model.{len(codec.decoder_rates) + 2}.", x, rows)
    g.output("y", g.op("Tanh", g.op("Reshape", y, g.ints(rows))), (rows,))
    return g


class _ChannelLayers(Layers):
    """Layers of the decoder on [1, channels, time]."""

    def conv(self, at: str, x: str, rows: int, *, stride: int = 1, dilation: int = 1) -> str:  # noqa: ARG002
        weight = self.weights[f"{at}conv.weight"]
        _, inputs, taps = weight.shape
        if taps > 1:
            x = self.g.with_past(at.rstrip("."), x, (1, inputs, (taps - 1) * dilation), axis=2)
        bias = self.g.const(self.weights[f"{at}conv.bias"])
        return self.g.op("Conv", x, self.g.const(weight), bias, kernel_shape=[taps], dilations=[dilation])

    def transposed(self, at: str, x: str, rows: int, stride: int) -> str:
        """[1, in, rows] → [1, out, rows · stride]. Not by ConvTranspose, which is fp32 and as slow as one core."""
        g, weight = self.g, self.weights[f"{at}conv.weight"]
        inputs, outputs, _ = weight.shape
        flat = transposed_as_conv(weight, stride).transpose(2, 3, 1, 0).reshape(stride * outputs, inputs, 2)
        x = g.with_past(at.rstrip("."), x, (1, inputs, 1), axis=2)
        bias = g.const(np.tile(self.weights[f"{at}conv.bias"], stride))
        y = g.op("Conv", x, g.const(flat), bias, kernel_shape=[2])
        y = g.op("Transpose", g.op("Reshape", y, g.ints(1, stride, outputs, rows)), perm=[0, 2, 3, 1])
        return g.op("Reshape", y, g.ints(1, outputs, rows * stride))

    def snake(self, at: str, x: str) -> str:
        """With a polynomial, which OpenVINO fuses into one pass over memory; a sine it does not."""
        g, alpha = self.g, self.weights[f"{at}alpha"]
        turns = g.op("Mul", x, g.const(alpha / np.float32(np.pi)))
        part = g.op("Sub", turns, g.op("Round", turns))
        square = g.op("Mul", part, part)
        first, *rest = (g.const(coefficient.reshape(1, 1, 1)) for coefficient in sine_squared(_SNAKE_DEGREE)[::-1])
        y = g.op("Mul", square, first)
        for coefficient in rest:
            y = g.op("Mul", g.op("Add", y, coefficient), square)
        return g.op("Add", x, g.op("Mul", y, g.const(np.reciprocal(alpha + np.float32(SNAKE_EPS)))))


def encoder(weights: Weights, codec: CodecConfig, tile: int = ENCODER_TILE) -> GraphWriter:
    """x: samples [tile · frame] → y: codes [tile, num_codebooks] int64."""
    g = GraphWriter("codec_encode", CODEC)
    layers, rows = Layers(g, weights, codec), tile * codec.frame
    y = g.op("Reshape", g.input("x", (rows,)), g.ints(rows, 1))
    y = layers.conv("encoder.block.0.", y, rows)
    units, last = len(codec.dilations), len(codec.encoder_rates)
    for number, rate in enumerate(codec.encoder_rates, start=1):
        at = f"encoder.block.{number}.block."
        for unit, dilation in enumerate(codec.dilations):
            y = layers.residual_unit(f"{at}{unit}.", y, rows, dilation)
        y = layers.conv(f"{at}{units + 1}.", layers.snake(f"{at}{units}.", y), rows, stride=rate)
        rows //= rate
    y = layers.transformer(f"{at}{units + 2}.", y, rows, codec.encoder_layers, codec.encoder_window)
    y = layers.conv(f"encoder.block.{last + 2}.", layers.snake(f"encoder.block.{last + 1}.", y), rows)
    for stage, rate in enumerate(codec.downsample):
        y = layers.conv(f"quantizer.downsample.{stage}.0.", y, rows, stride=rate)
        rows //= rate
        y = layers.convnext(f"quantizer.downsample.{stage}.1.", y, rows)
    y = layers.transformer("quantizer.pre_module.", y, rows, codec.module_layers, codec.module_window)
    g.output("y", _nearest(layers, y), (tile, codec.num_codebooks), INT64)
    return g


def _nearest(layers: Layers, x: str) -> str:
    """Codes [rows, num_codebooks]: the entry with the smallest angle to the query."""
    g, w, codes = layers.g, layers.weights, []
    for book in range(layers.codec.num_codebooks):
        at = _book(book)
        entries = w[f"{at}codebook.weight"]
        unit = entries / np.maximum(np.linalg.norm(entries, axis=1, keepdims=True), 1e-12)
        query = layers.product(x, w[f"{at}in_proj.weight"][:, :, 0].T, w[f"{at}in_proj.bias"])
        codes.append(g.op("ArgMax", g.op("MatMul", query, g.const(unit.T)), axis=1, keepdims=1))
        taken = g.op("Gather", g.const(entries), g.op("Squeeze", codes[-1], g.ints(1)), axis=0)
        x = g.op("Sub", x, layers.product(taken, w[f"{at}out_proj.weight"][:, :, 0].T, w[f"{at}out_proj.bias"]))
    return g.op("Concat", *codes, axis=1)
