"""Inputs of each linear layer for the calibration sentences: both transformers in NumPy, fp32. Build time only.

All sentences run together, layer by layer, so that each weight is read once and none is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from saywell.graphs.numerics import Codes, Floats, Weights, rotary
from saywell.models.dual_ar.config import Config


def activations(config: Config, weights: Weights, prompts: Sequence[Codes], begin: int) -> dict[str, Floats]:
    """Layer → its inputs [rows, inputs]. `prompts`: texts, each [1 + num_codebooks, T]; `begin`: the first semantic
    token. The fast transformer reads the frame after each prompt, decoded greedily."""
    seen: dict[str, Floats] = {}
    tokens = [prompt[0] for prompt in prompts]
    slow = _Transformer(config, weights, "", seen)
    hidden = slow.run(weights["embeddings.weight"][np.concatenate(tokens)], [len(row) for row in tokens])
    last = hidden[np.cumsum([len(row) for row in tokens]) - 1]
    normed = seen["output"] = slow.norm(last, "norm.weight")
    head = weights["embeddings.weight" if config.tie_word_embeddings else "output.weight"]
    codes = (normed @ head[begin : begin + config.codebook_size].T).argmax(axis=1)
    _fast(config, weights, normed if config.norm_fast_input else last, codes, seen)
    return seen


def _fast(config: Config, weights: Weights, x: Floats, codes: Codes, seen: dict[str, Floats]) -> None:
    if config.projects_fast_input:
        x = x @ weights["fast_project_in.weight"].T + weights["fast_project_in.bias"]
    fast, table, head = _Transformer(config, weights, "fast_", seen), weights["fast_embeddings.weight"], None
    frame = [x, table[codes]]
    for _ in range(config.num_codebooks - 1):
        count, length = len(x), len(frame)
        rows = fast.run(np.stack(frame, axis=1).reshape(count * length, -1), [length] * count)
        seen["fast_output"] = fast.norm(rows, "fast_norm.weight")
        head = weights["fast_output.weight"][: config.residual_logits] if head is None else head
        logits = seen["fast_output"].reshape(count, length, -1)[:, -1] @ head.T
        frame.append(table[logits.argmax(axis=1)])


class _Transformer:
    """One of the two transformers; `run` stores the inputs of its linear layers in `seen`."""

    def __init__(self, config: Config, weights: Weights, prefix: str, seen: dict[str, Floats]) -> None:
        self.weights, self.prefix, self.seen = weights, prefix, seen
        names = ("n_head", "n_local_heads", "head_dim", "norm_eps", "rope_base")
        self.heads, self.kv, self.size, self.eps, self.base = (getattr(config, prefix + name) for name in names)
        self.layers = config.n_fast_layer if prefix else config.n_layer

    def run(self, x: Floats, lengths: Sequence[int]) -> Floats:
        """x [rows, dim], sequences of these `lengths` one after the other → the output of the last block."""
        for layer in range(self.layers):
            at = f"{self.prefix}layers.{layer}."
            qkv = self._linear(f"{at}attention.wqkv", self.norm(x, f"{at}attention_norm.weight"))
            parts = np.split(qkv, np.cumsum(lengths)[:-1])
            x = x + self._linear(f"{at}attention.wo", np.concatenate([self._attend(part, at) for part in parts]))
            n = self.seen[f"{at}feed_forward.w13"] = self.norm(x, f"{at}ffn_norm.weight")
            gate, up = (n @ self.weights[f"{at}feed_forward.{name}.weight"].T for name in ("w1", "w3"))
            x = x + self._linear(f"{at}feed_forward.w2", gate / (1 + np.exp(-gate)) * up)
        return x

    def norm(self, x: Floats, name: str) -> Floats:
        scale = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(self.eps))
        return np.asarray(x / scale * self.weights[name], np.float32)

    def _linear(self, name: str, x: Floats) -> Floats:
        self.seen[name] = x
        y = x @ self.weights[f"{name}.weight"].T
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _attend(self, qkv: Floats, at: str) -> Floats:
        """Causal attention of one sequence, [T, (heads + 2 kv) · size] → [T, heads · size]."""
        length = len(qkv)
        by_head = qkv.reshape(length, self.heads + 2 * self.kv, self.size)
        q, k, v = np.split(by_head, [self.heads, self.heads + self.kv], axis=1)
        if f"{at}attention.q_norm.weight" in self.weights:
            q, k = (self.norm(part, f"{at}attention.{name}_norm.weight") for name, part in (("q", q), ("k", k)))
        q, k = self._rotated(q), self._rotated(k)
        k, v = (np.repeat(part, self.heads // self.kv, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.float32(math.sqrt(self.size))
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = shares / shares.sum(axis=-1, keepdims=True)
        return np.asarray(np.einsum("hqk,khd->qhd", shares, v).reshape(length, -1), np.float32)

    def _rotated(self, x: Floats) -> Floats:
        """Rotary embedding of x [T, head, size], interleaved pairs."""
        cos, sin = (part[:, None] for part in rotary(len(x), self.size, self.base))
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1).reshape(x.shape)
