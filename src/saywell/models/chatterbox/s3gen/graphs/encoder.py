"""The flow encoder: speech tokens → the mean of the mel spectrogram, two frames a token."""

from __future__ import annotations

import math

import numpy as np

from saywell.graphs.linears import Format
from saywell.graphs.numerics import Weights
from saywell.graphs.writer import FLOAT, FUSED, INT64, TRANSFORMER, External, GraphWriter
from saywell.models.chatterbox.s3gen.config import S3GenConfig
from saywell.models.chatterbox.s3gen.graphs.layers import Rows
from saywell.models.chatterbox.s3gen.layout import ENCODER

_BLOCK_EPSILON = 1e-12


def encoder(weights: Weights, config: S3GenConfig, fmt: Format, external: External) -> GraphWriter:
    """tokens [1, n] within the vocabulary, xvector [1, speaker] → mu [1, frames · n, mel], speaker [1, mel].

    All rows see all others; the last tokens see zeros ahead.
    """
    g, c = GraphWriter("flow_encoder", TRANSFORMER, external), config
    tokens = g.input("tokens", (1, "tokens"), INT64)
    name = "flow.input_embedding.weight"
    x = g.op("Gather", g.weight(name, weights[name]), tokens, axis=0)
    rows = Rows(g, weights, fmt, x)
    x = _Stage(rows, c, x).embedded("embed", rows.flat(x))
    x = _looked_ahead(rows, c, x)
    stage = _Stage(rows, c, rows.grid(x, c.width))
    for block in range(c.blocks):
        x = stage.block(f"{ENCODER}encoders.{block}.", x)
    x = _repeated(rows, c, x)
    rows = Rows(g, weights, fmt, x)
    stage = _Stage(rows, c, x)
    x = stage.embedded("up_embed", rows.conv(rows.flat(x), f"{ENCODER}up_layer.conv", 2 * c.frames))
    for block in range(c.up_blocks):
        x = stage.block(f"{ENCODER}up_encoders.{block}.", x)
    x = rows.exact(rows.norm(x, f"{ENCODER}after_norm"), "flow.encoder_proj")
    g.output("mu", rows.grid(x, c.mel), (1, "frames", c.mel))
    g.output("speaker", _speaker(rows, g.input("xvector", (1, c.speaker))), (1, c.mel))
    return g


def _speaker(rows: Rows, x: str) -> str:
    g = rows.g
    length = g.op("Max", g.op("ReduceL2", x, g.ints(-1)), g.const(1e-12))
    return rows.exact(g.op("Div", x, length), "flow.spk_embed_affine_layer")


def _looked_ahead(rows: Rows, c: S3GenConfig, x: str) -> str:
    g, at = rows.g, f"{ENCODER}pre_lookahead_layer."
    y = g.op("LeakyRelu", rows.conv(x, f"{at}conv1", 0, c.look_ahead), alpha=0.01)
    return g.op("Add", rows.conv(y, f"{at}conv2", 2), x)


def _repeated(rows: Rows, c: S3GenConfig, x: str) -> str:
    """[n, width] → [1, frames · n, width], each row `frames` times."""
    return rows.g.op("Reshape", rows.g.op("Concat", *[x] * c.frames, axis=1), rows.g.ints(1, -1, c.width))


class _Stage:
    """Blocks at one rate."""

    def __init__(self, rows: Rows, config: S3GenConfig, x: str) -> None:
        """`x` [1, rows, …]."""
        self.rows, self.config, self.g = rows, config, rows.g
        self._count = self.g.op("Slice", self.g.op("Shape", x), self.g.ints(1), self.g.ints(2))
        self._tall = self.g.op("Concat", self.g.ints(-1), self._count, axis=0)
        self._wide = self.g.op("Concat", self._count, self.g.ints(-1), axis=0)
        self._positions = self._table()

    def embedded(self, name: str, x: str) -> str:
        r, at = self.rows, f"{ENCODER}{name}.out."
        y = r.norm(r.linear(x, f"{at}0"), f"{at}1")
        return self.g.op("Mul", y, self.g.const(math.sqrt(self.config.width)))

    def block(self, at: str, x: str) -> str:
        g, r = self.g, self.rows
        x = g.op("Add", x, self._attention(f"{at}self_attn.", r.norm(x, f"{at}norm_mha", _BLOCK_EPSILON)))
        y = r.linear(r.norm(x, f"{at}norm_ff", _BLOCK_EPSILON), f"{at}feed_forward.w_1")
        y = g.op("QuickGelu", y, domain=FUSED, alpha=1.0)
        return g.op("Add", x, r.linear(y, f"{at}feed_forward.w_2"))

    def _table(self) -> str:
        """Sines, then cosines, of the distances rows, rows − 1, …, 1 − rows: [2 · rows, width]. The first is unused."""
        g, half = self.g, self.config.width // 2
        count = g.op("Squeeze", self._count)
        distance = g.op("Range", count, g.op("Neg", count), g.const(-1, np.int64))
        turn = np.exp(np.arange(half, dtype=np.float32) * -np.float32(math.log(10000) / half))
        angle = g.op("Mul", g.op("Unsqueeze", g.op("Cast", distance, to=FLOAT), g.ints(1)), g.const(turn))
        return g.op("Concat", g.op("Sin", angle), g.op("Cos", angle), axis=1)

    def _attention(self, at: str, x: str) -> str:
        """Scores are q · k, and q · p of the distance; each with a bias of its own."""
        g, r, w, c = self.g, self.rows, self.rows.weights, self.config
        q, k, v = (r.product(x, f"{at}linear_{name}") for name in "qkv")
        biases = [w[f"{at}linear_q.bias"] + w[f"{at}pos_bias_{name}"].reshape(-1) for name in "uv"]
        by_key, by_distance = (g.op("Add", q, g.const(bias)) for bias in biases)
        k, v = g.op("Add", k, r.bias(f"{at}linear_k")), g.op("Add", v, r.bias(f"{at}linear_v"))
        grids = [r.grid(each, c.width) for each in (by_key, k, v)]
        scores = self._shifted(by_distance, at)
        y = g.op("MultiHeadAttention", *grids, "", "", scores, domain=FUSED, num_heads=c.heads)
        return r.linear(r.flat(y), f"{at}linear_out")

    def _shifted(self, q: str, at: str) -> str:
        """q · p for the distance of each pair of rows, [1, heads, rows, rows]."""
        g, c = self.g, self.config
        size = c.width // c.heads
        weight = self.rows.weights[f"{at}linear_pos.weight"]
        halves = np.concatenate([weight[:, 0::2], weight[:, 1::2]], axis=1)
        p = g.op("MatMul", self._positions, g.weight(f"{at}linear_pos.weight", halves.T))
        q, p = (g.op("Transpose", g.op("Reshape", each, g.ints(-1, c.heads, size)), perm=[1, 0, 2]) for each in (q, p))
        # Head by head, since a head's scores are twice as wide as the result.
        outside = g.begin_body()
        inputs = f"{at}q", f"{at}p"
        scores = g.op("FusedMatMul", *inputs, domain=FUSED, transB=1, alpha=1 / math.sqrt(size))
        # Row i starts at distance rows; as rows of another length, all start one element later than the one before.
        tail = g.op("Slice", g.op("Reshape", scores, self._tall), g.ints(1), g.ints(1 << 31), g.ints(0))
        near = g.op("Slice", g.op("Reshape", tail, self._wide), g.ints(0), self._count, g.ints(1))
        body = g.end_body(outside, [(name, FLOAT) for name in inputs], [(near, FLOAT)])
        return g.op("Unsqueeze", g.op("Scan", q, p, body=body, num_scan_inputs=2), g.ints(0))
