"""The graphs of both transformers, built from their weights.

`slow`: a step or a part of a prompt of the slow transformer; the KV cache is updated in place.
`fast`: all codebooks of one frame with sampling: the semantic code, then a loop over the residual books.
All graphs of a precision share one file of weights. Except at fp32 `slow` is also written with an int8 KV cache; the
graphs of int8 are also written with 7-bit activations.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from saywell.graphs.linears import Format, Judge, Linears, with_activation_bits
from saywell.graphs.numerics import Weights, rotary, to_bfloat16
from saywell.graphs.writer import FUSED, TRANSFORMER, External, GraphWriter
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.graphs import draw as draws
from saywell.models.dual_ar.onnx.ar_files import (
    CODES_FILE,
    EMBEDDINGS_FILE,
    FACTS_FILE,
    activation_bits,
    data_file,
    fast_file,
    slow_file,
)


@dataclass(frozen=True, slots=True)
class Formats:
    """Number format of each kind of linear layer."""

    slow: Format
    fast: Format
    heads: Format


PRECISIONS = {
    "fp32": Formats("fp32", "fp32", "fp32"),
    "int8": Formats("w8a8", "w8a8", "w8a8"),
    "int4": Formats("w4", "w4", "w8"),
}


def build(
    config: Config,
    weights: Weights,
    out: Path,
    precision: str,
    *,
    semantic_begin_id: int,
    im_end_id: int,
    judge: Judge,
) -> list[Path]:
    """Write the graphs of one precision into `out`; returns the files. `judge` may raise the precision of layers."""
    source = _Source(config, weights, PRECISIONS[precision], judge, External(out / data_file(precision)))
    emitted = [*range(semantic_begin_id, semantic_begin_id + config.codebook_size), im_end_id]
    slow, fast = _slow(source, emitted), _fast(source)
    source.external.close()
    graphs = {}
    for bits in activation_bits(precision):
        graphs[slow_file(precision, "fp32", bits)] = with_activation_bits(slow, bits)
        graphs[fast_file(precision, bits)] = with_activation_bits(fast, bits)
        if precision != "fp32":
            graphs[slow_file(precision, "int8", bits)] = with_int8_cache(with_activation_bits(slow, bits))
    for name, model in graphs.items():
        (out / name).write_bytes(model.SerializeToString())
    return [source.external.path, *(out / name for name in graphs)]


def build_tables(weights: Weights, out: Path, *, semantic_begin_id: int, im_end_id: int) -> list[Path]:
    """Write the files that all precisions share: embedding tables (bfloat16, as uint16) and ids. Returns the files."""
    np.save(out / EMBEDDINGS_FILE, to_bfloat16(weights["embeddings.weight"]))
    np.save(out / CODES_FILE, to_bfloat16(weights["codebook_embeddings.weight"]))
    facts = {"semantic_begin_id": semantic_begin_id, "im_end_id": im_end_id}
    (out / FACTS_FILE).write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return [out / name for name in (EMBEDDINGS_FILE, CODES_FILE, FACTS_FILE)]


@dataclass(frozen=True, slots=True)
class _Source:
    """What the graphs of one precision are built from, and the file for their weights."""

    config: Config
    weights: Weights
    formats: Formats
    judge: Judge
    external: External


class _Transformer:
    """One of the two transformers inside a graph. Rows of all sequences and positions are flat, [M, dim]."""

    def __init__(self, g: GraphWriter, source: _Source, prefix: str, positions: int) -> None:
        """`prefix`: "" for the slow one, "fast_" for the fast one."""
        config = source.config
        self.g, self.weights, self.prefix, self.judge = g, source.weights, prefix, source.judge
        self.fmt = source.formats.fast if prefix else source.formats.slow
        names = ("dim", "n_head", "n_local_heads", "head_dim", "intermediate_size", "norm_eps", "rope_base")
        self.dim, self.heads, self.kv, self.size, self.wide, self.eps, base = (
            getattr(config, prefix + name) for name in names
        )
        self.layers = config.n_fast_layer if prefix else config.n_layer
        self.qk_norm = getattr(config, f"{prefix}attention_qk_norm")
        cos, sin = rotary(positions, self.size, base)
        self.cos, self.sin = g.weight(f"{prefix}cos", cos), g.weight(f"{prefix}sin", sin)

    def shapes(self, x: str) -> None:
        """Shape constants for x [B, S, dim]."""
        g = self.g
        grid = g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(2))
        self.by_head = g.op("Concat", grid, g.ints(self.heads + 2 * self.kv, self.size), axis=0)
        self.by_row = g.op("Concat", grid, g.ints(-1), axis=0)

    def norm(self, x: str, name: str) -> str:
        gamma = self.g.const(self.weights[name])
        return self.g.op("SimplifiedLayerNormalization", x, gamma, axis=-1, epsilon=self.eps, stash_type=1)

    def add_norm(self, x: str, delta: str, name: str) -> tuple[str, str]:
        """norm(x + delta), and x + delta."""
        gamma = self.g.const(self.weights[name])
        out = self.g.ops("SkipSimplifiedLayerNormalization", 4, x, delta, gamma, domain=FUSED, epsilon=self.eps)
        return out[0], out[3]

    def run(self, x: str, caches: list[tuple[str, str]], lens: str, total: str) -> tuple[str, str, list[str]]:
        """x [B, S, dim] → (h, delta) [M, dim], whose sum is the output of the last block, and the updated caches."""
        g, delta, new = self.g, "", []
        self.shapes(x)
        h = g.op("Reshape", x, g.ints(-1, self.dim))
        self.linear = Linears(g, self.fmt, h, self.judge)
        for layer, cache in enumerate(caches):
            at = f"{self.prefix}layers.{layer}."
            if layer:
                n, h = self.add_norm(h, delta, at + "attention_norm.weight")
            else:
                n = self.norm(h, at + "attention_norm.weight")
            attended, k, v = self._attention(n, at + "attention.", cache, lens, total)
            new += [k, v]
            n, h = self.add_norm(h, attended, at + "ffn_norm.weight")
            delta = self._feed_forward(n, at + "feed_forward.")
        return h, delta, new

    def _attention(self, n: str, at: str, cache: tuple[str, str], lens: str, total: str) -> tuple[str, str, str]:
        g, weights = self.g, self.weights
        qkv = self.linear(n, at + "wqkv", weights[at + "wqkv.weight"], weights.get(at + "wqkv.bias"))
        if self.qk_norm:
            qkv = self._normed_heads(qkv, at)
        qkv = g.op("Reshape", qkv, self.by_row)
        attributes = {"num_heads": self.heads, "kv_num_heads": self.kv, "do_rotary": 1, "rotary_interleaved": 1}
        inputs = (qkv, "", "", *cache, lens, total, self.cos, self.sin)
        out, k, v = g.ops("GroupQueryAttention", 3, *inputs, domain=FUSED, **attributes)
        flat = g.op("Reshape", out, g.ints(-1, self.heads * self.size))
        y = self.linear(flat, at + "wo", weights[at + "wo.weight"], weights.get(at + "wo.bias"))
        return y, k, v

    def _normed_heads(self, qkv: str, at: str) -> str:
        g = self.g
        heads = g.op("Reshape", qkv, self.by_head)
        qk, v = g.ops("Split", 2, heads, g.ints(self.heads + self.kv, self.kv), axis=2)
        q_gamma, k_gamma = (self.weights[f"{at}{name}_norm.weight"] for name in "qk")
        gamma = g.const(np.concatenate([np.tile(q_gamma, (self.heads, 1)), np.tile(k_gamma, (self.kv, 1))]))
        normed = g.op("SimplifiedLayerNormalization", qk, gamma, axis=-1, epsilon=self.eps, stash_type=1)
        return g.op("Concat", normed, v, axis=2)

    def _feed_forward(self, n: str, at: str) -> str:
        g, weights = self.g, self.weights
        both = np.concatenate([weights[at + "w1.weight"], weights[at + "w3.weight"]])
        gate, up = g.ops("Split", 2, self.linear(n, at + "w13", both), axis=-1, num_outputs=2)
        # QuickGelu with alpha 1 is SiLU.
        inner = g.op("Mul", g.op("QuickGelu", gate, domain=FUSED, alpha=1.0), up)
        return self.linear(inner, at + "w2", weights[at + "w2.weight"])


def _last(g: GraphWriter, transformer: _Transformer, flat: str) -> str:
    """Rows [M, dim] → rows of the last position, [B, dim]."""
    grid = g.op("Reshape", flat, transformer.by_row)
    return g.op("Gather", grid, g.const(-1, np.int64), axis=1)


def _slow(source: _Source, emitted: list[int]) -> onnx.ModelProto:
    """`emitted`: the token ids that have logits."""
    config, weights = source.config, source.weights
    g = GraphWriter("slow", TRANSFORMER, source.external)
    transformer = _Transformer(g, source, "", config.max_seq_len)
    x = g.input("x", ["B", "S", config.dim])
    lens, total = g.input("lens", ["B"], TensorProto.INT32), g.input("total", [], TensorProto.INT32)
    shape = ["B", transformer.kv, "P", transformer.size]
    caches = [(g.input(f"past.k.{n}", shape), g.input(f"past.v.{n}", shape)) for n in range(transformer.layers)]
    h, delta, new = transformer.run(x, caches, lens, total)
    hidden = g.op("Add", _last(g, transformer, h), _last(g, transformer, delta))
    normed = transformer.norm(hidden, "norm.weight")
    head = weights["embeddings.weight" if config.tie_word_embeddings else "output.weight"][emitted]
    logits = Linears(g, source.formats.heads, normed, source.judge)(normed, "output", head)
    g.output("logits", logits, ["B", len(emitted)])
    g.output("hidden", normed if config.norm_fast_input else hidden, ["B", config.dim])
    for n in range(transformer.layers):
        g.output(f"present.k.{n}", new[2 * n], shape)
        g.output(f"present.v.{n}", new[2 * n + 1], shape)
    return g.model()


def with_int8_cache(slow: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with an int8 KV cache; its scales [1, kv head, 1, head_dim] are inputs."""
    model = copy.deepcopy(slow)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past.", "present.")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    nodes = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    for layer, node in enumerate(nodes):
        kv, size = (dim.dim_value for dim in shapes[f"past.k.{layer}"][1::2])
        for part in "kv":
            shape = [1, kv, 1, size]
            model.graph.input.append(helper.make_tensor_value_info(f"scale.{part}.{layer}", TensorProto.FLOAT, shape))
            node.attribute.append(helper.make_attribute(f"{part}_quant_type", "PER_CHANNEL"))
        node.attribute.append(helper.make_attribute("kv_cache_bit_width", 8))
        node.input.extend(["", "", "", f"scale.k.{layer}", f"scale.v.{layer}"])
    return model


def _fast(source: _Source) -> onnx.ModelProto:
    config = source.config
    g = GraphWriter("fast", TRANSFORMER, source.external)
    params = draws.inputs(g, config.num_codebooks)
    logits = g.input("logits", ["B", config.codebook_size + 1])
    hidden = g.input("hidden", ["B", config.dim])
    semantic = draws.semantic(g, logits, config.codebook_size + 1, params)
    table = g.weight("fast_embeddings", source.weights["fast_embeddings.weight"])
    code = g.op("Min", semantic, g.const(config.codebook_size - 1, np.int64))
    start = _fast_start(g, source, hidden, g.op("Gather", table, code))
    codes = _residual_loop(g, source, start, table, params)
    by_book = g.op("Concat", g.op("Unsqueeze", semantic, g.ints(0)), codes, axis=0)
    g.output("codes", g.op("Transpose", by_book, perm=[1, 0]), ["B", config.num_codebooks], TensorProto.INT64)
    return g.model()


def _fast_start(g: GraphWriter, source: _Source, hidden: str, first: str) -> str:
    """Positions 0 (hidden state) and 1 (semantic code) of the fast transformer, [B, 2, fast_dim]."""
    if source.config.projects_fast_input:
        matrix, bias = source.weights["fast_project_in.weight"], source.weights["fast_project_in.bias"]
        hidden = Linears(g, "fp32", hidden, source.judge)(hidden, "fast_project_in", matrix, bias)
    positions = [g.op("Unsqueeze", value, g.ints(1)) for value in (hidden, first)]
    return g.op("Concat", *positions, axis=1)


def _residual_loop(g: GraphWriter, source: _Source, start: str, table: str, params: draws.Inputs) -> str:
    """One iteration for each residual book: run the new positions, draw the code, embed it. Codes [books, B]."""
    config = source.config
    transformer = _Transformer(g, source, "fast_", config.num_codebooks)
    rows = g.op("Slice", g.op("Shape", start), g.ints(0), g.ints(1))
    empty = g.op("ConstantOfShape", g.op("Concat", rows, g.ints(transformer.kv, 0, transformer.size), axis=0))
    names = [f"cache.{part}.{layer}" for layer in range(transformer.layers) for part in "kv"]
    outside = g.begin_body()
    caches = list(zip(names[0::2], names[1::2], strict=True))
    last = g.op("Add", "turn", g.const(1, np.int64))  # position of the newest key
    lens = g.op("Expand", g.op("Cast", last, to=TensorProto.INT32), rows)
    total = g.op("Cast", g.op("Add", last, g.const(1, np.int64)), to=TensorProto.INT32)
    h, delta, new = transformer.run("x", caches, lens, total)
    normed = transformer.norm(g.op("Add", _last(g, transformer, h), _last(g, transformer, delta)), "fast_norm.weight")
    head = source.weights["fast_output.weight"][: config.residual_logits]
    logits = Linears(g, source.formats.heads, normed, source.judge)(normed, "fast_output", head)
    code = draws.residual(g, logits, config.residual_logits, "turn", params)
    following = g.op("Unsqueeze", g.op("Gather", table, code), g.ints(1))
    carried = [g.op("Identity", "going"), following, *new]
    kinds = [TensorProto.BOOL] + [TensorProto.FLOAT] * (len(new) + 1)
    body = g.end_body(
        outside,
        [("turn", TensorProto.INT64), *zip(["going", "x", *names], kinds, strict=True)],
        [*zip(carried, kinds, strict=True), (code, TensorProto.INT64)],
    )
    turns, going = g.const(config.num_codebooks - 1, np.int64), g.const(True, np.bool_)
    return g.ops("Loop", len(new) + 2, turns, going, start, *[empty] * len(names), body=body)[-1]
