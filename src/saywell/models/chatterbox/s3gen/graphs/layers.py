"""What the graphs of the flow share. Activations are rows, [batch · time, channels]; all lengths are dynamic."""

from __future__ import annotations

from saywell.graphs.linears import Format, Judge, Linears
from saywell.graphs.numerics import Weights
from saywell.graphs.writer import FUSED, GraphWriter

FAR = 1 << 31


class Rows:
    """Layers on the rows of one input, in one number format."""

    def __init__(self, g: GraphWriter, weights: Weights, fmt: Format, x: str) -> None:
        """`x`: the input [batch, time, …] that all activations have the batch and the time of."""
        self.g, self.weights = g, weights
        self._grid = g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(2))
        rows = self.flat(x)
        self._products = Linears(g, fmt, rows, Judge({}))
        self._exact = Linears(g, "fp32", rows, Judge({}))

    def flat(self, x: str) -> str:
        """[batch, time, channels] → [batch · time, channels]."""
        shape = self.g.op("Slice", self.g.op("Shape", x), self.g.ints(2), self.g.ints(3))
        return self.g.op("Reshape", x, self.g.op("Concat", self.g.ints(-1), shape, axis=0))

    def grid(self, x: str, channels: int) -> str:
        """[batch · time, channels] → [batch, time, channels]."""
        return self.g.op("Reshape", x, self.g.op("Concat", self._grid, self.g.ints(channels), axis=0))

    def bias(self, at: str) -> str:
        return self.g.const(self.weights[f"{at}.bias"])

    def product(self, x: str, at: str) -> str:
        """x times the weight [out, in] of a layer, without its bias."""
        return self._products(x, f"{at}.weight", self.weights[f"{at}.weight"])

    def linear(self, x: str, at: str) -> str:
        return self.g.op("Add", self.product(x, at), self.bias(at))

    def exact(self, x: str, at: str) -> str:
        """As `linear`, in fp32: for rows of another number, and small layers that everything passes through. Taps of a
        convolution are columns."""
        weight = self.weights[f"{at}.weight"]
        flat = weight if weight.ndim == 2 else weight.transpose(0, 2, 1).reshape(len(weight), -1)
        return self._exact(x, f"{at}.weight", flat, self.weights[f"{at}.bias"])

    def norm(self, x: str, at: str, epsilon: float = 1e-5) -> str:
        scale, shift = (self.g.const(self.weights[f"{at}.{part}"]) for part in ("weight", "bias"))
        return self.g.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    def window(self, x: str, channels: int, before: int, after: int) -> str:
        """[batch · time, channels] → each row joined with its neighbours, `before` … `after` of them, zeros outside."""
        g, taps = self.g, before + after + 1
        pads = g.ints(0, before, 0, 0, after, 0)
        long = g.op("Pad", self.grid(x, channels), pads)
        one = g.ints(1)
        parts = [g.op("Slice", long, g.ints(tap), g.ints(tap - taps + 1 or FAR), one) for tap in range(taps)]
        return self.flat(g.op("Concat", *parts, axis=2))

    def conv(self, x: str, at: str, before: int, after: int = 0) -> str:
        """A convolution over time as one product, with its bias. In fp32: a tenth of the work, and in int8 it would be
        half of the error."""
        weight = self.weights[f"{at}.weight"]
        if weight.shape[2] > 1:
            x = self.window(x, weight.shape[1], before, after)
        return self.exact(x, at)

    def attention(self, q: str, k: str, v: str, heads: int, inner: int) -> str:
        """Over all rows of each batch entry. Scores never are in memory as a whole."""
        grids = (self.grid(each, inner) for each in (q, k, v))
        return self.flat(self.g.op("MultiHeadAttention", *grids, domain=FUSED, num_heads=heads))

    def mish(self, x: str) -> str:
        """x · tanh(ln(1 + eˣ)) = x · n / (n + 2) for n = eˣ (eˣ + 2)."""
        g = self.g
        power = g.op("Exp", g.op("Min", x, g.const(20.0)))
        part = g.op("Mul", power, g.op("Add", power, g.const(2.0)))
        return g.op("Mul", x, g.op("Div", part, g.op("Add", part, g.const(2.0))))
