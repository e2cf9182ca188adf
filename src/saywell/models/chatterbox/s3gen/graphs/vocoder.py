"""The vocoder: mel spectrogram → fundamental → harmonic source; both → samples."""

from __future__ import annotations

import math

import numpy as np

from saywell.graphs.numerics import Floats, Weights
from saywell.graphs.writer import FLOAT, TRANSFORMER, GraphWriter
from saywell.models.chatterbox.s3gen.config import S3GenConfig
from saywell.models.chatterbox.s3gen.graphs.waves import Waves
from saywell.models.chatterbox.s3gen.layout import VOCODER

DOUBLE = 11
"""The element type float64 of ONNX."""
_SNAKE_EPS = 1e-9
_LOUDEST = 100.0
"""Of a magnitude of the spectrum."""


def fundamental(weights: Weights, config: S3GenConfig) -> GraphWriter:
    """mel [frames, mel] → f0 [frames] in Hz."""
    g, c = GraphWriter("fundamental", TRANSFORMER), config.vocoder
    x = g.input("mel", ("frames", config.mel))
    waves = Waves(g, g.op("Shape", x, start=0, end=1), fewer=False)
    for layer in range(c.f0_layers):
        at = f"{VOCODER}f0_predictor.condnet.{2 * layer}"
        x = g.op("Elu", waves.conv(x, weights[f"{at}.weight"], weights[f"{at}.bias"]))
    at = f"{VOCODER}f0_predictor.classifier"
    y = g.op("Add", g.op("MatMul", x, g.const(weights[f"{at}.weight"].T)), g.const(weights[f"{at}.bias"]))
    g.output("f0", g.op("Reshape", g.op("Abs", y), g.ints(-1)), ("frames",))
    return g


def source(weights: Weights, config: S3GenConfig) -> GraphWriter:
    """f0 [frames], start [harmonics] (turns before the first sample), phases [harmonics], noise [samples, harmonics] →
    source [samples], end [harmonics] (turns after the last sample)."""
    g, c = GraphWriter("source", TRANSFORMER), config.vocoder
    tones = c.harmonics + 1
    f0, start = g.input("f0", ("frames",)), g.input("start", (tones,), DOUBLE)
    phases, noise = g.input("phases", (tones,)), g.input("noise", ("samples", tones))
    column = g.op("Unsqueeze", f0, g.ints(1))
    pitch = g.op("Mul", column, g.const(np.arange(1, tones + 1)))
    step = g.op("Cast", g.op("Div", pitch, g.const(config.sample_rate)), to=DOUBLE)
    frame = g.op("Mul", step, g.const(config.frame, np.float64))
    turned = g.op("Add", g.op("CumSum", frame, g.const(0, np.int64)), start)
    began = g.op("Unsqueeze", g.op("Sub", turned, frame), g.ints(1))
    inside = g.op(
        "Mul", g.op("Unsqueeze", step, g.ints(1)), g.const(np.arange(1, config.frame + 1)[:, None], np.float64)
    )
    turns = g.op("Reshape", g.op("Add", began, inside), g.ints(-1, tones))
    part = g.op("Cast", g.op("Sub", turns, g.op("Floor", turns)), to=FLOAT)
    wave = g.op("Sin", g.op("Add", g.op("Mul", part, g.const(2 * np.pi)), phases))
    voiced = g.op("Cast", g.op("Greater", column, g.const(c.voiced_hz)), to=FLOAT)
    spread = g.op("Expand", g.op("Unsqueeze", voiced, g.ints(1)), g.ints(1, config.frame, 1))
    voiced = g.op("Reshape", spread, g.ints(-1, 1))
    breath = c.sine_amplitude / 3
    level = g.op("Add", g.op("Mul", voiced, g.const(c.noise_std - breath)), g.const(breath))
    tone = g.op("Mul", wave, g.op("Mul", voiced, g.const(c.sine_amplitude)))
    mixed = g.op("Add", tone, g.op("Mul", noise, level))
    at = f"{VOCODER}m_source.l_linear"
    y = g.op("Add", g.op("MatMul", mixed, g.const(weights[f"{at}.weight"].T)), g.const(weights[f"{at}.bias"]))
    g.output("source", g.op("Reshape", g.op("Tanh", y), g.ints(-1)), ("samples",))
    last = g.op("Gather", turned, g.const(-1, np.int64), axis=0)
    g.output("end", g.op("Sub", last, g.op("Floor", last)), (tones,), DOUBLE)
    return g


def vocoder(weights: Weights, config: S3GenConfig) -> GraphWriter:
    """mel [frames, mel], source [samples] → samples [samples]."""
    g = GraphWriter("vocoder", TRANSFORMER)
    net = _Vocoder(g, weights, config)
    g.output("y", net.run(g.input("mel", ("frames", config.mel)), g.input("source", ("samples",))), ("samples",))
    return g


class _Vocoder:
    def __init__(self, g: GraphWriter, weights: Weights, config: S3GenConfig) -> None:
        self.g, self.weights, self.config = g, weights, config.vocoder

    def run(self, mel: str, source: str) -> str:
        g, c = self.g, self.config
        frames = g.op("Shape", mel, start=0, end=1)
        waves, count = Waves(g, frames, fewer=False), frames
        spectrum = self._spectrum(source)
        x = waves.conv(mel, *self._layer("conv_pre"))
        for level, rate in enumerate(c.rates):
            x = waves.upsampled(g.op("LeakyRelu", x, alpha=c.slope), *self._layer(f"ups.{level}"), rate)
            count = g.op("Mul", count, g.ints(rate))
            if level == len(c.rates) - 1:
                x = g.op("Pad", x, g.ints(1, 0, 0, 0), mode="reflect")
                count = g.op("Add", count, g.ints(1))
            waves = Waves(g, count, fewer=True)
            x = g.op("Add", x, self._from_source(level, spectrum, waves))
            kinds = len(c.block_kernels)
            each = [self._block(f"resblocks.{level * kinds + kind}.", x, waves) for kind in range(kinds)]
            x = g.op("Mul", g.op("Sum", *each), g.const(1 / kinds))
        x = Waves(g, count, fewer=False).conv(g.op("LeakyRelu", x, alpha=0.01), *self._layer("conv_post"))
        return self._samples(x)

    def _layer(self, name: str) -> tuple[Floats, Floats]:
        return self.weights[f"{VOCODER}{name}.weight"], self.weights[f"{VOCODER}{name}.bias"]

    def _from_source(self, level: int, spectrum: str, waves: Waves) -> str:
        """The spectrum of the source at the rate of a level, [rows, channels]."""
        g, stride = self.g, self.config.source_stride(level)
        weight, bias = self._layer(f"source_downs.{level}")
        if stride > 1:
            # Taps are twice the stride: whole strides as rows, each with the next.
            long = g.op("Pad", spectrum, g.ints(stride // 2, 0, stride // 2, 0))
            spectrum = g.op("Reshape", long, g.ints(-1, stride * weight.shape[1]))
            spectrum = waves.window(spectrum, 2, 1, 0, 0)
        flat = weight.transpose(2, 1, 0).reshape(-1, len(weight))
        x = g.op("Add", g.op("MatMul", spectrum, g.const(flat)), g.const(bias))
        return self._block(f"source_resblocks.{level}.", x, waves)

    def _block(self, at: str, x: str, waves: Waves) -> str:
        for index, dilation in enumerate(self.config.dilations):
            y = waves.conv(self._snake(f"{at}activations1.{index}", x), *self._layer(f"{at}convs1.{index}"), dilation)
            y = waves.conv(self._snake(f"{at}activations2.{index}", y), *self._layer(f"{at}convs2.{index}"))
            x = self.g.op("Add", x, y)
        return x

    def _snake(self, at: str, x: str) -> str:
        """x + sin²(αx) / α."""
        g, alpha = self.g, self.weights[f"{VOCODER}{at}.alpha"]
        wave = g.op("Sin", g.op("Mul", x, g.const(alpha)))
        inverse = np.reciprocal(alpha + np.float32(_SNAKE_EPS))
        return g.op("Add", x, g.op("Mul", g.op("Mul", wave, wave), g.const(inverse)))

    # The spectrum of the source, and samples from a spectrum
    def _spectrum(self, source: str) -> str:
        """[samples] → [samples / hop + 1, 2 · bins]: real parts, then imaginary ones."""
        g, c = self.g, self.config
        angle = 2 * np.pi * np.outer(np.arange(c.n_fft), np.arange(c.bins)) / c.n_fft
        basis = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1) * _hann(c.n_fft)[:, None]
        long = g.op("Pad", source, g.ints(c.n_fft // 2, c.n_fft // 2), mode="reflect")
        hops = g.op("Reshape", long, g.ints(-1, c.hop))
        parts, count = [], c.n_fft // c.hop
        for index in range(count):
            end = g.ints(index - count + 1 or 1 << 31)
            parts.append(g.op("Slice", hops, g.ints(index), end, g.ints(0)))
        return g.op("MatMul", g.op("Concat", *parts, axis=1), g.const(basis))

    def _samples(self, x: str) -> str:
        """Logarithms of magnitudes and sines of phases → samples."""
        g, c = self.g, self.config
        size, phase = g.ops("Split", 2, x, g.ints(c.bins, c.bins), axis=1)
        size, phase = g.op("Min", g.op("Exp", size), g.const(_LOUDEST)), g.op("Sin", phase)
        real, imaginary = (g.op("Mul", size, g.op(kind, phase)) for kind in ("Cos", "Sin"))
        window = _hann(c.n_fft)
        angle = 2 * np.pi * np.outer(np.arange(c.bins), np.arange(c.n_fft)) / c.n_fft
        twice = np.where((np.arange(c.bins) % (c.n_fft // 2)) == 0, 1, 2)[:, None] / c.n_fft
        basis = np.concatenate([np.cos(angle) * twice, -np.sin(angle) * twice]) * window
        pieces = g.op("MatMul", g.op("Concat", real, imaginary, axis=1), g.const(basis))
        squares = g.op("Expand", g.const(np.square(window)[None]), g.op("Shape", pieces))
        y = g.op("Div", self._overlapped(pieces), self._overlapped(squares))
        return g.op("Clip", y, g.const(-c.limit), g.const(c.limit))

    def _overlapped(self, pieces: str) -> str:
        """[pieces, n_fft], each a hop after the one before → their sum, without half a piece at both ends."""
        g, c = self.g, self.config
        count = c.n_fft // c.hop
        parts = g.ops("Split", count, pieces, g.ints(*[c.hop] * count), axis=1)
        padded = [g.op("Pad", part, g.ints(index, 0, count - 1 - index, 0)) for index, part in enumerate(parts)]
        whole = g.op("Reshape", g.op("Sum", *padded), g.ints(-1))
        half = c.n_fft // 2
        return g.op("Slice", whole, g.ints(half), g.ints(-half), g.ints(0))


def _hann(size: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(size) / size)
