"""One step of the flow: the direction in which a noisy mel spectrogram moves at a time."""

from __future__ import annotations

import numpy as np

from saywell.graphs.linears import Format
from saywell.graphs.numerics import Weights
from saywell.graphs.writer import FUSED, TRANSFORMER, External, GraphWriter
from saywell.models.chatterbox.s3gen.config import S3GenConfig
from saywell.models.chatterbox.s3gen.graphs.layers import Rows
from saywell.models.chatterbox.s3gen.layout import ESTIMATOR, MIXER, stages

_TIME_SCALE = 1000


def estimator(weights: Weights, config: S3GenConfig, fmt: Format, external: External) -> GraphWriter:
    """x, mu, cond [batch, frames, mel], speaker [batch, mel], t [1] (and r [1], the step's end, for meanflow) → dxdt.

    Entries of the batch are independent: with guidance, the second has no mu, speaker and condition.
    """
    g = GraphWriter("flow_step", TRANSFORMER, external)
    shape = ("batch", "frames", config.mel)
    x, mu, cond = (g.input(name, shape) for name in ("x", "mu", "cond"))
    speaker = g.input("speaker", ("batch", config.mel))
    rows = Rows(g, weights, fmt, x)
    net = _Estimator(rows, config)
    everywhere = g.op("Expand", g.op("Unsqueeze", speaker, g.ints(1)), g.op("Shape", x))
    y = rows.flat(g.op("Concat", x, mu, everywhere, cond, axis=2))
    g.output("dxdt", rows.grid(net.run(y), config.mel), shape)
    return g


class _Estimator:
    def __init__(self, rows: Rows, config: S3GenConfig) -> None:
        self.rows, self.config, self.g = rows, config, rows.g
        self.time = rows.mish(self._time())

    def run(self, x: str) -> str:
        """[rows, 4 · mel] → [rows, mel]."""
        g, r, skip = self.g, self.rows, ""
        for stage, _ in stages(self.config):
            at = f"{ESTIMATOR}{stage}."
            if stage.startswith("up"):
                x = g.op("Concat", x, skip, axis=1)
            x = self._transformers(f"{at}1.", self._resnet(f"{at}0.", x))
            if stage.startswith("down"):
                skip = x
            if not stage.startswith("mid"):
                x = r.conv(x, f"{at}2", 2)
        return r.exact(self._block(f"{ESTIMATOR}final_block.", x), f"{ESTIMATOR}final_proj")

    def _time(self) -> str:
        """Embedding of the time [1, 4 · channels]; of both ends of the step for meanflow."""
        g, r = self.g, self.rows
        ends = [self._embedding(g.input(name, (1,))) for name in ("t", "r")[: 1 + self.config.meanflow]]
        if len(ends) == 1:
            return ends[0]
        return g.op("MatMul", g.op("Concat", *ends, axis=1), g.weight(MIXER, r.weights[MIXER].T))

    def _embedding(self, time: str) -> str:
        g, r, half = self.g, self.rows, self.config.estimator_inputs // 2
        turn = np.exp(np.arange(half, dtype=np.float32) * -np.float32(np.log(10000) / (half - 1)))
        angle = g.op("Mul", g.op("Mul", g.op("Unsqueeze", time, g.ints(1)), g.const(_TIME_SCALE)), g.const(turn))
        y = g.op("Concat", g.op("Sin", angle), g.op("Cos", angle), axis=1)
        y = r.exact(y, f"{ESTIMATOR}time_mlp.linear_1")
        return r.exact(g.op("Mul", y, g.op("Sigmoid", y)), f"{ESTIMATOR}time_mlp.linear_2")

    def _block(self, at: str, x: str) -> str:
        """Causal convolution, norm, Mish."""
        r = self.rows
        return r.mish(r.norm(r.conv(x, f"{at}block.0", 2), f"{at}block.2"))

    def _resnet(self, at: str, x: str) -> str:
        g, r = self.g, self.rows
        y = g.op("Add", self._block(f"{at}block1.", x), r.exact(self.time, f"{at}mlp.1"))
        y = self._block(f"{at}block2.", y)
        return g.op("Add", y, r.conv(x, f"{at}res_conv", 0))

    def _transformers(self, at: str, x: str) -> str:
        """SkipLayerNormalization would add and normalise at once, and takes five times as long as the three nodes."""
        g, r, c = self.g, self.rows, self.config
        for block in range(c.flow_blocks):
            here = f"{at}{block}."
            normed = r.norm(x, f"{here}norm1")
            q, k, v = (r.product(normed, f"{here}attn1.to_{name}") for name in "qkv")
            y = r.attention(q, k, v, c.flow_heads, c.flow_heads * c.head_dim)
            x = g.op("Add", x, r.linear(y, f"{here}attn1.to_out.0"))
            wide = r.product(r.norm(x, f"{here}norm3"), f"{here}ff.net.0.proj")
            wide = g.op("BiasGelu", wide, r.bias(f"{here}ff.net.0.proj"), domain=FUSED)
            x = g.op("Add", x, r.linear(wide, f"{here}ff.net.2"))
        return x
