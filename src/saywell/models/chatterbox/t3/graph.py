"""T3's graphs, node by node. Build time only: needs onnx.

A graph reads rows of embeddings after the keys and values of a cache, which it updates in place, and gives the logits
of the last position: speech codes, then the end. All graphs of a precision share one file of weights. Except at fp32
each is also written with an int8 KV cache; the graphs of int8 are also written with 7-bit activations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from safetensors.numpy import save_file

from saywell.graphs import linears
from saywell.graphs.int8_cache import with_int8_cache
from saywell.graphs.linears import Format, Judge, Linears, with_activation_bits
from saywell.graphs.numerics import Floats, Weights
from saywell.graphs.writer import FUSED, TRANSFORMER, External, GraphWriter
from saywell.models.chatterbox.t3 import layout
from saywell.models.chatterbox.t3.config import HEAD_DIM, T3Config
from saywell.models.chatterbox.t3.files import TABLES_FILE, activation_bits, data_file, graph_file, write_config
from saywell.models.chatterbox.t3.rope import rotary
from saywell.models.conversion import write_layers

FORMATS: dict[str, tuple[Format, Format]] = {"fp32": ("fp32", "fp32"), "int8": ("w8a8", "w8a8"), "int4": ("w4", "w8")}
"""Precision → number formats of the layers and of the head."""


def build(config: T3Config, weights: Weights, out: Path, precision: str, judge: Judge) -> list[Path]:
    """Write the graphs of one precision into `out`; returns the files. `judge` may raise the precision of layers."""
    external = External(out / data_file(precision))
    plain = _graph(config, weights, precision, judge, external)
    external.close()
    graphs = {}
    for bits in activation_bits(precision):
        graphs[graph_file(precision, "fp32", bits)] = model = with_activation_bits(plain, bits)
        if precision != "fp32":
            graphs[graph_file(precision, "int8", bits)] = with_int8_cache(model)
    for name, model in graphs.items():
        (out / name).write_bytes(model.SerializeToString())
    return [external.path, *(out / name for name in graphs)]


def build_judged(
    config: T3Config, weights: Weights, out: Path, precision: str, seen: Mapping[str, Floats], sentences: int
) -> list[Path]:
    """`build`, and a report of what the inputs `seen` in so many sentences decided."""
    judge = Judge(seen)
    files = build(config, weights, out, precision, judge)
    return [*files, write_layers(out, precision, sentences, linears.BOUND, judge.errors, judge.kept)] if seen else files


def build_tables(config: T3Config, weights: Weights, out: Path) -> list[Path]:
    """Write what all precisions share: configuration, embeddings and the encoder of voices. Returns the files."""
    kept = replace(config, speech_vocab=config.stop_speech + 1)  # rows after the end cannot occur
    tensors = {name: weights[name] for name in {**layout.tables(kept), **layout.conditioning(kept)}}
    tensors["speech_emb.weight"] = np.ascontiguousarray(tensors["speech_emb.weight"][: kept.speech_vocab])
    save_file(tensors, out / TABLES_FILE)
    return [write_config(kept, out), out / TABLES_FILE]


def _graph(config: T3Config, weights: Weights, precision: str, judge: Judge, external: External) -> onnx.ModelProto:
    layers, head = FORMATS[precision]
    g = GraphWriter("t3", TRANSFORMER, external)
    x = g.input("x", ["B", "S", config.hidden])
    lens, total = g.input("lens", ["B"], TensorProto.INT32), g.input("total", [], TensorProto.INT32)
    shape: list[int | str] = ["B", config.heads, "P", HEAD_DIM]
    caches = [_Cache(g.input(f"past.k.{n}", shape), g.input(f"past.v.{n}", shape)) for n in range(config.layers)]
    backbone = (_Llama if config.kind == "llama" else _Gpt2)(g, config, weights, lens, total)
    normed = backbone.run(x, caches, layers, judge)
    matrix, bias = weights["speech_head.weight"][config.emitted], None
    if config.kind == "gpt2":
        bias = weights["speech_head.bias"][config.emitted]
    logits = Linears(g, head, normed, judge)(normed, "speech_head", matrix, bias)
    g.output("logits", logits, ["B", config.logits])
    for n, cache in enumerate(caches):
        g.output(f"present.k.{n}", cache.new_k, shape)
        g.output(f"present.v.{n}", cache.new_v, shape)
    return g.model()


@dataclass(slots=True)
class _Cache:
    """Of one layer: the names of its inputs and, once written, of its outputs."""

    k: str
    v: str
    new_k: str = ""
    new_v: str = ""


class _Backbone(ABC):
    """A transformer inside a graph. Rows of all sequences and positions are flat, [M, hidden]."""

    def __init__(self, g: GraphWriter, config: T3Config, weights: Weights, lens: str, total: str) -> None:
        self.g, self.config, self.weights = g, config, weights
        self.lens, self.total = lens, total

    def run(self, x: str, caches: list[_Cache], fmt: Format, judge: Judge) -> str:
        """x [B, S, hidden] → the last position after the final norm, [B, hidden]."""
        g = self.g
        self.by_row = g.op("Concat", g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(2)), g.ints(-1), axis=0)
        h = g.op("Reshape", x, g.ints(-1, self.config.hidden))
        self.linear = Linears(g, fmt, h, judge)
        return self.blocks(h, caches)

    @abstractmethod
    def blocks(self, h: str, caches: list[_Cache]) -> str:
        """h [M, hidden] → the last position after the final norm, [B, hidden]."""

    def attend(self, qkv: str, cache: _Cache, *rotary: str) -> str:
        """q, k and v side by side [M, 3 · hidden] → [M, hidden]. `rotary`: cos and sin, or nothing."""
        g, heads = self.g, self.config.heads
        attributes = {"num_heads": heads, "kv_num_heads": heads, "do_rotary": int(bool(rotary))}
        inputs = (g.op("Reshape", qkv, self.by_row), "", "", cache.k, cache.v, self.lens, self.total, *rotary)
        out, cache.new_k, cache.new_v = g.ops("GroupQueryAttention", 3, *inputs, domain=FUSED, **attributes)
        return g.op("Reshape", out, g.ints(-1, self.config.hidden))

    def last(self, flat: str) -> str:
        """Rows [M, hidden] → those of the last position, [B, hidden]."""
        return self.g.op("Gather", self.g.op("Reshape", flat, self.by_row), self.g.const(-1, np.int64), axis=1)


class _Llama(_Backbone):
    def blocks(self, h: str, caches: list[_Cache]) -> str:
        g, delta, config = self.g, "", self.config
        tables = rotary(config.rope, config.max_seq_len)
        turn = [g.weight(name, table) for name, table in zip(("cos", "sin"), tables, strict=True)]
        for layer, cache in enumerate(caches):
            at = f"tfmr.layers.{layer}."
            n, h = self._norm(h, delta, f"{at}input_layernorm.weight")
            qkv = np.concatenate([self.weights[f"{at}self_attn.{part}_proj.weight"] for part in "qkv"])
            attended = self.attend(self.linear(n, f"{at}self_attn.qkv_proj", qkv), cache, *turn)
            delta = self._linear(attended, f"{at}self_attn.o_proj")
            n, h = self._norm(h, delta, f"{at}post_attention_layernorm.weight")
            delta = self._feed_forward(n, f"{at}mlp.")
        return self._norm(self.last(h), self.last(delta), "tfmr.norm.weight")[0]

    def _norm(self, h: str, delta: str, name: str) -> tuple[str, str]:
        """norm(h + delta), and h + delta."""
        g, gamma, eps = self.g, self.g.const(self.weights[name]), self.config.norm_eps
        if not delta:
            return g.op("SimplifiedLayerNormalization", h, gamma, axis=-1, epsilon=eps, stash_type=1), h
        out = g.ops("SkipSimplifiedLayerNormalization", 4, h, delta, gamma, domain=FUSED, epsilon=eps)
        return out[0], out[3]

    def _linear(self, x: str, name: str) -> str:
        return self.linear(x, name, self.weights[f"{name}.weight"])

    def _feed_forward(self, n: str, at: str) -> str:
        g = self.g
        both = np.concatenate([self.weights[f"{at}{part}_proj.weight"] for part in ("gate", "up")])
        gate, up = g.ops("Split", 2, self.linear(n, f"{at}gate_up_proj", both), axis=-1, num_outputs=2)
        # QuickGelu with alpha 1 is SiLU.
        return self._linear(g.op("Mul", g.op("QuickGelu", gate, domain=FUSED, alpha=1.0), up), f"{at}down_proj")


class _Gpt2(_Backbone):
    def blocks(self, h: str, caches: list[_Cache]) -> str:
        g = self.g
        delta = bias = ""
        for layer, cache in enumerate(caches):
            at = f"tfmr.h.{layer}."
            n, h = self._norm(h, delta, bias, f"{at}ln_1")
            qkv = g.op("Add", self._linear(n, f"{at}attn.c_attn"), self._bias(f"{at}attn.c_attn"))
            delta, bias = self._linear(self.attend(qkv, cache), f"{at}attn.c_proj"), self._bias(f"{at}attn.c_proj")
            n, h = self._norm(h, delta, bias, f"{at}ln_2")
            inner = g.op("FastGelu", self._linear(n, f"{at}mlp.c_fc"), self._bias(f"{at}mlp.c_fc"), domain=FUSED)
            delta, bias = self._linear(inner, f"{at}mlp.c_proj"), self._bias(f"{at}mlp.c_proj")
        return self._norm(self.last(h), self.last(delta), bias, "tfmr.ln_f")[0]

    def _norm(self, h: str, delta: str, bias: str, name: str) -> tuple[str, str]:
        """norm(h + delta + bias), and the sum."""
        g, eps = self.g, self.config.norm_eps
        scale, shift = g.const(self.weights[f"{name}.weight"]), self._bias(name)
        if not delta:
            return g.op("LayerNormalization", h, scale, shift, axis=-1, epsilon=eps), h
        out = g.ops("SkipLayerNormalization", 4, h, delta, scale, shift, bias, domain=FUSED, epsilon=eps)
        return out[0], out[3]

    def _bias(self, name: str) -> str:
        return self.g.const(self.weights[f"{name}.bias"])

    def _linear(self, x: str, name: str) -> str:
        """Without the bias; the matrix is stored as [inputs, outputs]."""
        return self.linear(x, name, np.ascontiguousarray(self.weights[f"{name}.weight"].T))
