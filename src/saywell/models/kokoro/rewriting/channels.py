"""Writes the decoder for OpenVINO: channel-major, [1, channels, 1, time], the layout that its convolutions take.

- Convolutions have 8-bit inputs with a step of their own in each run: the range of what a norm and an activation make
  follows from the extremes of each channel before them, so no tensor is read twice. Nothing is calibrated, and one
  compiled graph serves every voice and blend.
- A step is no constant, and OpenVINO convolves in 8 bits only with constant ones. So a tensor arrives divided by its
  step, and what reads the convolution multiplies by it.
- A dilated convolution is a view of time as [time / dilation, dilation] and an undilated one.
- A transposed convolution is a convolution of two rows with stride times the outputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saywell.models.kokoro.rewriting.meaning import (
    Convolution,
    Doubling,
    Joined,
    Leaf,
    Leaky,
    Meaning,
    Norm,
    Reflected,
    Repeated,
    Scaled,
    Snake,
    Sum,
    Upsampling,
    quantised,
)
from saywell.models.kokoro.rewriting.rows import Writer, snake

Floats = NDArray[np.float32]
STYLE = "gains"
"""Input: gains and offsets of all norms, one after the other, [n]."""
ZERO = 112
"""The 8-bit value of 0. It must be a constant; activations reach further up than down."""
_LEAST_DILATED_KERNEL = 5
"""Below it the view costs as much as it gains."""
_REST = int(np.iinfo(np.int64).max)


class Channels:
    """Writes meanings."""

    def __init__(self, out: Writer, widths: dict[str, int]) -> None:
        """`widths`: channels of the leaves."""
        self.out, self._widths = out, widths
        self.leaves: dict[str, str] = {}
        """Tensor of the exported graph → input [1, channels, time]."""
        self.norms: list[Norm] = []
        """In the order of their gains in STYLE."""
        self.size = 0
        """Of STYLE."""
        self._done: dict[Meaning, str] = {}
        self._points: dict[Meaning, tuple[str, str]] = {}

    def write(self, meaning: Meaning) -> str:
        if meaning not in self._done:
            self._done[meaning] = self._write(meaning)
        return self._done[meaning]

    def width(self, meaning: Meaning) -> int:
        match meaning:
            case Convolution():
                return int(meaning.weight.shape[0])
            case Upsampling():
                return int(meaning.weight.shape[1])
            case Leaf(name=name):
                return self._widths[name]
            case Joined(inputs=inputs):
                return sum(map(self.width, inputs))
        return self.width(meaning.inputs[0])

    def _write(self, meaning: Meaning) -> str:
        out = self.out
        match meaning:
            case Leaf(name=name):
                self.leaves[name] = f"leaf{len(self.leaves)}"
                return out.put("Unsqueeze", self.leaves[name], out.integers(2))
            case Norm(inputs=[a]):
                gain, offset = self._affine(meaning)
                return self._scaled(self._normal(meaning, self.write(a)), gain, offset)
            case Snake(inputs=[a], alpha=alpha):
                x = out.put("Mul", self.write(a), self._by_channel(alpha / np.pi))
                return snake(out, x, self._by_channel(np.pi / alpha))
            case Leaky(inputs=[a], slope=slope):
                return out.put("LeakyRelu", self.write(a), alpha=slope)
            case Sum(inputs=[a, b]):
                return out.put("Add", self.write(a), self.write(b))
            case Scaled(inputs=[a], factor=factor):
                return out.put("Mul", self.write(a), out.number(factor))
            case Joined(inputs=inputs):
                return out.put("Concat", *map(self.write, inputs), axis=1)
            case Repeated(inputs=[a], factor=factor):
                return out.put(
                    "Resize",
                    self.write(a),
                    "",
                    out.constant([1, 1, 1, factor], np.float32),
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            case Doubling(inputs=[a]):
                return self._doubling(meaning, self.write(a))
            case Upsampling():
                return self._upsampling(meaning, reflected=False)
            case Reflected(inputs=[Upsampling() as up]):
                return self._upsampling(up, reflected=True)
            case Convolution():
                return self._convolution(meaning)
        raise ValueError(f"the decoder has {type(meaning).__name__} where none is expected")

    def _by_channel(self, values: Floats) -> str:
        return self.out.constant(np.reshape(values, (-1, 1, 1)), np.float32)

    # -- Norms
    def _normal(self, norm: Norm, x: str) -> str:
        """Each channel with mean 0 and variance 1."""
        ones, zeros = (self.out.constant(np.full(self.width(norm), value), np.float32) for value in (1, 0))
        return self.out.put("InstanceNormalization", x, ones, zeros, epsilon=norm.epsilon)

    def _affine(self, norm: Norm) -> tuple[str, str]:
        """Gain and offset [1, channels, 1, 1]."""
        out, channels, start = self.out, self.width(norm), self.size
        self.norms.append(norm)
        self.size += 2 * channels
        ends = ((start, start + channels), (start + channels, self.size))
        gain, offset = (out.reshape(out.rows(STYLE, out.integers(a), out.integers(b)), 1, -1, 1, 1) for a, b in ends)
        return gain, offset

    def _scaled(self, x: str, gain: str, offset: str) -> str:
        return self.out.put("Add", self.out.put("Mul", x, gain), offset)

    # -- Steps
    def _point(self, source: Meaning) -> tuple[str, str]:
        """What a convolution reads, divided by its step; and the step."""
        if source not in self._points:
            self._points[source] = self._divided(source)
        return self._points[source]

    def _divided(self, source: Meaning) -> tuple[str, str]:
        out = self.out
        match source:
            case Snake(inputs=[Norm() as norm], alpha=alpha):
                by = self._by_channel(alpha / np.pi)
                gain, offset = (out.put("Mul", part, by) for part in self._affine(norm))
                x, scale = self._normal(norm, self.write(norm.inputs[0])), self._by_channel(np.pi / alpha)
                ends = [snake(out, self._scaled(end, gain, offset), scale) for end in self._ends(x, 3)]
                step = self._step(out.put("Min", *ends), out.put("Max", *ends))
                return snake(out, self._scaled(x, gain, offset), out.put("Div", scale, step)), step
            case Leaky(inputs=[Norm() as norm], slope=slope):
                gain, offset = self._affine(norm)
                x = self._normal(norm, self.write(norm.inputs[0]))
                ends = [out.put("LeakyRelu", self._scaled(end, gain, offset), alpha=slope) for end in self._ends(x, 3)]
                step = self._step(out.put("Min", *ends), out.put("Max", *ends))
                x = self._scaled(x, out.put("Div", gain, step), out.put("Div", offset, step))
                return out.put("LeakyRelu", x, alpha=slope), step
        x = self.write(source)
        step = self._step(*self._ends(x, 3))
        return out.put("Div", x, step), step

    def _ends(self, x: str, *axes: int) -> list[str]:
        return [self.out.put(kind, x, self.out.integers(*axes)) for kind in ("ReduceMin", "ReduceMax")]

    def _step(self, low: str, high: str) -> str:
        """So that 8 bits hold the lowest and highest of these values. They are never all 0: they vary in time."""
        out, all_axes = self.out, self.out.integers(1, 2, 3)
        least, most = out.put("ReduceMin", low, all_axes), out.put("ReduceMax", high, all_axes)
        step = out.put(
            "Max", out.put("Mul", least, out.number(-1 / ZERO)), out.put("Mul", most, out.number(1 / (255 - ZERO)))
        )
        return out.put("Max", step, out.number(1e-6))

    # -- Convolutions
    def _convolution(self, conv: Convolution) -> str:
        """With its step and bias, which a norm that reads nothing else would take away again."""
        y, step = self._product(conv)
        return y if {type(user) for user in conv.users} == {Norm} else self._restored(y, step, conv.bias)

    def _restored(self, y: str, step: str, bias: Floats | None) -> str:
        y = self.out.put("Mul", y, step)
        return y if bias is None else self.out.put("Add", y, self._by_channel(bias))

    def _product(self, conv: Convolution) -> tuple[str, str]:
        """The convolution of what is divided by the step, and the step."""
        out = self.out
        x, step = self._point(conv.inputs[0])
        outputs, inputs, kernel = conv.weight.shape
        viewed = conv.dilation > 1 and kernel >= _LEAST_DILATED_KERNEL and conv.stride == 1
        if viewed:
            time, by = out.put("Shape", x, start=3, end=4), out.integers(conv.dilation)
            more = out.put("Mod", out.put("Sub", by, out.put("Mod", time, by)), by)
            # Before it is quantised: else OpenVINO would multiply in float.
            x = out.put("Pad", x, out.put("Concat", out.integers(*[0] * 7), more, axis=0))
        by_one = out.number(1), out.constant(ZERO, np.uint8)
        x = out.put("DequantizeLinear", out.put("QuantizeLinear", x, *by_one), *by_one)
        before, after = conv.pads
        if not viewed:
            return (
                out.put(
                    "Conv",
                    x,
                    self._weight(conv, 1, kernel),
                    pads=[0, before, 0, after],
                    strides=[1, conv.stride],
                    dilations=[1, conv.dilation],
                ),
                step,
            )
        x = out.reshape(x, 1, inputs, -1, conv.dilation)
        pads = [before // conv.dilation, 0, after // conv.dilation, 0]
        y = out.reshape(out.put("Conv", x, self._weight(conv, kernel, 1), pads=pads), 1, outputs, 1, -1)
        return out.put("Slice", y, out.integers(0), time, out.integers(3)), step

    def _weight(self, conv: Convolution, *kernel: int) -> str:
        """[out, in, *kernel]"""
        out = self.out
        weight = conv.weight.astype(np.int16) - conv.zero
        if np.abs(weight).max() > 127:
            raise ValueError("weights that 8 bits with a sign do not hold")
        weight = weight.reshape(*weight.shape[:2], *kernel)
        scale = np.broadcast_to(conv.scale, len(weight))
        zero = out.constant(np.zeros(len(weight)), np.int8)
        return out.put("DequantizeLinear", out.constant(weight, np.int8), out.constant(scale, np.float32), zero, axis=0)

    def _doubling(self, up: Doubling, x: str) -> str:
        out, given = self.out, [self.out.constant(up.weight[:, None, None], np.float32)]
        if up.bias is not None:
            given.append(out.constant(up.bias, np.float32))
        return out.put(
            "ConvTranspose",
            x,
            *given,
            group=len(up.weight),
            strides=[1, 2],
            pads=[0, 1, 0, 1],
            output_padding=[0, 1],
        )

    def _upsampling(self, up: Upsampling, reflected: bool) -> str:
        """Row q·s + j before cropping is x[q] w[j] + x[q - 1] w[s + j]: a convolution of 2 rows."""
        out, s, time = self.out, up.stride, self.out.integers(3)
        channels, outputs, _ = up.weight.shape
        taps = np.stack([up.weight[:, :, s:], up.weight[:, :, :s]])  # [before and now, in, out, s]
        conv = quantised(taps.transpose(3, 2, 1, 0).reshape(s * outputs, channels, 2))
        conv.pads, conv.inputs = (1, 1), up.inputs
        y, step = self._product(conv)
        y = out.put("Transpose", out.reshape(y, 1, s, outputs, -1), perm=[0, 2, 3, 1])
        y = out.reshape(y, 1, outputs, 1, -1)
        cut = out.put("Slice", y, out.integers(up.crop), out.integers(-up.crop if up.crop else _REST), time)
        if reflected:  # the row before the first is the second
            second = out.put("Slice", y, out.integers(up.crop + 1), out.integers(up.crop + 2), time)
            cut = out.put("Concat", second, cut, axis=3)
        return self._restored(cut, step, up.bias)
