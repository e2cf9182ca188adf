"""Convolutions over a dynamic number of rows, [rows, channels], as matrix products; zeros outside.

By `winograd`, `OUTPUTS` rows come from fewer products. With dilation d, a group has every d-th row.
"""

from __future__ import annotations

import math

import numpy as np

from saywell.graphs import winograd
from saywell.graphs.numerics import Floats
from saywell.graphs.writer import GraphWriter

OUTPUTS = {3: 4, 7: 4, 11: 4}
"""Taps → outputs computed together."""
FAR = 1 << 31


class Waves:
    """The rows of one rate."""

    def __init__(self, g: GraphWriter, count: str, *, fewer: bool) -> None:
        """`count`: the number of rows, int64 [1]. `fewer`: convolutions by `winograd`, 20 dB less exact."""
        self.g, self.count, self._fewer = g, count, fewer
        self._plans: dict[tuple[int, int], tuple[str, str, str]] = {}

    def conv(self, x: str, weight: Floats, bias: Floats, dilation: int = 1) -> str:
        """[rows, in] → [rows, out], of the same number of rows; weight [out, in, taps]."""
        outputs, inputs, taps = weight.shape
        if self._fewer and taps in OUTPUTS:
            y = self._grouped(x, weight, dilation)
        else:
            reach = (taps - 1) * dilation // 2
            flat = weight.transpose(2, 1, 0).reshape(taps * inputs, outputs)
            y = self.g.op("MatMul", self.window(x, taps, dilation, reach, reach), self.g.const(flat))
        return self.g.op("Add", y, self.g.const(bias))

    def window(self, x: str, taps: int, dilation: int, before: int, after: int) -> str:
        """Each row with the taps around it, [rows, taps · in]; `before` and `after`: zero rows added."""
        g = self.g
        long = g.op("Pad", x, g.ints(before, 0, after, 0))
        parts = []
        for tap in range(taps):
            end = (tap - taps + 1) * dilation or FAR
            parts.append(g.op("Slice", long, g.ints(tap * dilation), g.ints(end), g.ints(0)))
        return g.op("Concat", *parts, axis=1)

    def _grouped(self, x: str, weight: Floats, dilation: int) -> str:
        g, (outputs, inputs, taps) = self.g, weight.shape
        together = OUTPUTS[taps]
        size, transforms = together + taps - 1, winograd.transforms(together, taps)
        filters = np.einsum("sk,oik->sio", transforms.filters, weight.astype(np.float64)).astype(np.float32)
        pads, taken, positions = self._plan(taps, dilation)
        rows = g.op("Gather", g.op("Pad", x, pads), taken, axis=0)
        before = g.op("MatMul", g.const(transforms.before), g.op("Reshape", rows, g.ints(size, -1)))
        products = g.op("MatMul", g.op("Reshape", before, g.ints(size, -1, inputs)), g.const(filters))
        after = g.op("MatMul", g.const(transforms.after), g.op("Reshape", products, g.ints(size, -1)))
        return g.op("Gather", g.op("Reshape", after, g.ints(-1, outputs)), positions, axis=0)

    def _plan(self, taps: int, dilation: int) -> tuple[str, str, str]:
        """Pads of the rows; the row of each tap of each group [taps + outputs − 1, groups]; where each output is."""
        if (taps, dilation) in self._plans:
            return self._plans[taps, dilation]
        g, together = self.g, OUTPUTS[taps]
        unit, reach = together * dilation, (taps - 1) * dilation
        groups = g.op("Div", g.op("Add", self.count, g.ints(unit - 1)), g.ints(unit))
        missing = g.op("Sub", g.op("Mul", groups, g.ints(unit)), self.count)
        left = reach // 2
        pads = g.op("Concat", g.ints(left, 0), g.op("Add", missing, g.ints(reach - left)), g.ints(0), axis=0)
        starts = g.op("Mul", self._range(groups), g.ints(unit))
        one = np.arange(together + taps - 1)[:, None, None] * dilation + np.arange(dilation)
        first = g.op("Add", g.op("Reshape", starts, g.ints(1, -1, 1)), g.const(one, np.int64))
        taken = g.op("Reshape", first, g.ints(together + taps - 1, -1))
        order = g.op("Reshape", self._range(g.op("Mul", groups, g.ints(unit))), g.ints(together, -1, dilation))
        order = g.op("Reshape", g.op("Transpose", order, perm=[1, 0, 2]), g.ints(-1))
        positions = g.op("Slice", order, g.ints(0), self.count)
        self._plans[taps, dilation] = (pads, taken, positions)
        return self._plans[taps, dilation]

    def _range(self, count: str) -> str:
        return self.g.op("Range", self.g.const(0, np.int64), self.g.op("Squeeze", count), self.g.const(1, np.int64))

    def upsampled(self, x: str, weight: Floats, bias: Floats, rate: int) -> str:
        """A transposed convolution with weight [in, out, taps]: [rows, in] → [rate · rows, out]."""
        g, (inputs, outputs, taps) = self.g, weight.shape
        past = math.ceil(taps / rate)
        full = np.zeros((inputs, outputs, past * rate), np.float32)
        full[:, :, :taps] = weight
        # Row q of the window's product holds rows rate · q … of the uncropped result: tap p has the row p before.
        flat = full.reshape(inputs, outputs, past, rate)[:, :, ::-1].transpose(2, 0, 3, 1)
        long = self.window(x, past, 1, past - 1, past - 1)
        y = g.op("MatMul", long, g.const(flat.reshape(past * inputs, rate * outputs)))
        crop = (taps - rate) // 2
        start, end = g.ints(crop), g.op("Add", g.op("Mul", self.count, g.ints(rate)), g.ints(crop))
        y = g.op("Slice", g.op("Reshape", y, g.ints(-1, outputs)), start, end, g.ints(0))
        return g.op("Add", y, g.const(bias))
