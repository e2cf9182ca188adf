"""Inputs of each linear layer for calibration prompts: the transformer in NumPy, fp32. Build time only.

All prompts run together, layer by layer, so that each weight is read once and none is kept.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from saywell.graphs.numerics import Floats, Weights
from saywell.models.chatterbox.t3.config import HEAD_DIM, T3Config
from saywell.models.chatterbox.t3.rope import rotary

ROWS = 128
"""Most rows that are kept of a layer's inputs: the first of all, whose values are often the largest, and every n-th."""


def activations(config: T3Config, weights: Weights, inputs: Sequence[Floats]) -> dict[str, Floats]:
    """Layer → its inputs [rows, size]. `inputs`: rows of embeddings [T, hidden] of each prompt."""
    backbone = (_Llama if config.kind == "llama" else _Gpt2)(config, weights, [len(each) for each in inputs])
    backbone.run(np.concatenate(inputs))
    return backbone.seen


class _Backbone(ABC):
    def __init__(self, config: T3Config, weights: Weights, lengths: Sequence[int]) -> None:
        self.config, self.weights, self.lengths = config, weights, lengths
        self.seen: dict[str, Floats] = {}

    @abstractmethod
    def run(self, x: Floats) -> None:
        """All layers."""

    def linear(self, x: Floats, name: str, weight: Floats) -> Floats:
        """x times weight [outputs, inputs] transposed."""
        self.seen[name] = x[:: max(1, math.ceil(len(x) / ROWS))]
        return np.asarray(x @ weight.T)

    def attend(self, qkv: Floats) -> Floats:
        """Causal attention within each prompt, [rows, 3 · hidden] → [rows, hidden]."""
        parts = np.split(qkv, np.cumsum(self.lengths)[:-1])
        return np.concatenate([self._attend(part) for part in parts])

    def _attend(self, qkv: Floats) -> Floats:
        length = len(qkv)
        q, k, v = qkv.reshape(length, 3, self.config.heads, HEAD_DIM).transpose(1, 2, 0, 3)
        q, k = self.placed(q), self.placed(k)
        scores = np.where(np.tri(length, dtype=bool), q @ k.transpose(0, 2, 1) / math.sqrt(HEAD_DIM), -np.inf)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads = (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32) @ v
        return np.asarray(heads.transpose(1, 0, 2).reshape(length, -1))

    def placed(self, x: Floats) -> Floats:
        """Queries or keys [head, T, head_dim] with what depends on their position."""
        return x


class _Llama(_Backbone):
    def run(self, x: Floats) -> None:
        w = self.weights
        for layer in range(self.config.layers):
            at = f"tfmr.layers.{layer}."
            n = self._normed(x, f"{at}input_layernorm.weight")
            qkv = np.concatenate([w[f"{at}self_attn.{part}_proj.weight"] for part in "qkv"])
            attended = self.attend(self.linear(n, f"{at}self_attn.qkv_proj", qkv))
            x = x + self.linear(attended, f"{at}self_attn.o_proj", w[f"{at}self_attn.o_proj.weight"])
            n = self._normed(x, f"{at}post_attention_layernorm.weight")
            both = np.concatenate([w[f"{at}mlp.{part}_proj.weight"] for part in ("gate", "up")])
            gate, up = np.split(self.linear(n, f"{at}mlp.gate_up_proj", both), 2, axis=1)
            inner = gate / (1 + np.exp(-gate)) * up
            x = x + self.linear(inner, f"{at}mlp.down_proj", w[f"{at}mlp.down_proj.weight"])
        self.linear(self._normed(x, "tfmr.norm.weight"), "speech_head", w["speech_head.weight"])

    def _normed(self, x: Floats, name: str) -> Floats:
        scale = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(self.config.norm_eps))
        return np.asarray(x / scale * self.weights[name])

    def placed(self, x: Floats) -> Floats:
        cos, sin = rotary(self.config.rope, x.shape[1])
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class _Gpt2(_Backbone):
    def run(self, x: Floats) -> None:
        for layer in range(self.config.layers):
            at = f"tfmr.h.{layer}."
            qkv = self._product(self._normed(x, f"{at}ln_1"), f"{at}attn.c_attn")
            x = x + self._product(self.attend(qkv), f"{at}attn.c_proj")
            inner = self._product(self._normed(x, f"{at}ln_2"), f"{at}mlp.c_fc")
            curve = np.tanh(math.sqrt(2 / math.pi) * (inner + np.float32(0.044715) * inner**3))
            x = x + self._product(np.float32(0.5) * inner * (1 + curve), f"{at}mlp.c_proj")
        self.linear(self._normed(x, "tfmr.ln_f"), "speech_head", self.weights["speech_head.weight"])

    def _product(self, x: Floats, name: str) -> Floats:
        return self.linear(x, name, self.weights[f"{name}.weight"].T) + self.weights[f"{name}.bias"]

    def _normed(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(self.config.norm_eps))
        return np.asarray(centred / scale * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])
