"""Both transformers in plain PyTorch: the reference every faster executor is held against, and the torch path.

State lives outside the modules: a `Cache` is passed in, and each row of a batch is at its own position. Names of
parameters are those of the published file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as fn

from reference.sampling import Sampler
from saywell.errors import TooLarge
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.numerics import rotary
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.dual_ar.tokenizer import Tokenizer


@dataclass(slots=True, eq=False)
class Cache:
    """Keys and values of one transformer, each [layer, row, kv head, position, head_dim]."""

    k: Tensor
    v: Tensor

    def row(self, index: int) -> Cache:
        """One row as a view: filling it fills this cache."""
        return Cache(self.k[:, index : index + 1], self.v[:, index : index + 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Sizes of one transformer."""

    dim: int
    n_layer: int
    n_head: int
    n_local_heads: int
    head_dim: int
    intermediate_size: int
    rope_base: float
    norm_eps: float
    qk_norm: bool
    qkv_bias: bool
    o_bias: bool

    @classmethod
    def of(cls, config: Config, prefix: str = "") -> Stack:
        """The slow transformer's (prefix "") or the fast one's (prefix "fast_")."""
        same = ("dim", "n_head", "n_local_heads", "head_dim", "intermediate_size", "rope_base", "norm_eps")
        flags = ("qk_norm", "qkv_bias", "o_bias")
        return cls(
            n_layer=config.n_fast_layer if prefix else config.n_layer,
            **{name: getattr(config, prefix + name) for name in same},
            **{name: getattr(config, f"{prefix}attention_{name}") for name in flags},
        )


class RMSNorm(nn.Module):
    """In fp32, cast back, then times weight."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


def rotary_table(positions: int, head_dim: int, base: float) -> Tensor:
    """cos and sin of position · base^(-2i/head_dim), [positions, head_dim / 2, 2], rounded to bf16 as in training."""
    return torch.from_numpy(np.stack(rotary(positions, head_dim, base), axis=-1)).bfloat16()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotary embedding of interleaved pairs (2i, 2i+1), in fp32. x [B, head, T, d], table [B, T, d / 2, 2]."""
    even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = table.float().unsqueeze(1).unbind(-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2).type_as(x)


class Attention(nn.Module):
    """Grouped-query attention; q | k | v packed in one matrix."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack
        q, kv = stack.n_head * stack.head_dim, stack.n_local_heads * stack.head_dim
        self.split = (q, kv, kv)
        self.wqkv = nn.Linear(stack.dim, q + 2 * kv, bias=stack.qkv_bias)
        self.wo = nn.Linear(q, stack.dim, bias=stack.o_bias)
        if stack.qk_norm:
            self.q_norm = RMSNorm(stack.head_dim, stack.norm_eps)
            self.k_norm = RMSNorm(stack.head_dim, stack.norm_eps)

    def project(self, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v as [B, head, T, head_dim], normalised and rotated."""
        q, k, v = (
            part.reshape(*x.shape[:2], -1, self.stack.head_dim).transpose(1, 2)
            for part in self.wqkv(x).split(self.split, dim=-1)
        )
        if self.stack.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        return rotate(q, table), rotate(k, table), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Softmax over the keys `mask` [B, T, keys] admits; output [B, T, dim]."""
        group = self.stack.n_head // self.stack.n_local_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = fn.scaled_dot_product_attention(q, k, v, attn_mask=mask.unsqueeze(1))
        return self.wo(out.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, wide, bias=False)
        self.w3 = nn.Linear(dim, wide, bias=False)
        self.w2 = nn.Linear(wide, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(fn.silu(self.w1(x)) * self.w3(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to its input."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.attention = Attention(stack)
        self.feed_forward = FeedForward(stack.dim, stack.intermediate_size)
        self.attention_norm = RMSNorm(stack.dim, stack.norm_eps)
        self.ffn_norm = RMSNorm(stack.dim, stack.norm_eps)

    def forward(self, x: Tensor, table: Tensor, positions: Tensor, k_cache: Tensor, v_cache: Tensor) -> Tensor:
        """x [B, T, dim] at `positions` [B, T]; this layer's cache [B, kv head, P, head_dim] is written in place."""
        q, k, v = self.attention.project(self.attention_norm(x), table[positions])
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        k_cache[rows, :, positions] = k.transpose(1, 2)
        v_cache[rows, :, positions] = v.transpose(1, 2)
        keys = int(positions.max()) + 1
        mask = torch.arange(keys, device=x.device) <= positions[..., None]
        h = x + self.attention.attend(q, k_cache[:, :, :keys], v_cache[:, :, :keys], mask)
        return h + self.feed_forward(self.ffn_norm(h))  # type: ignore[no-any-return]


class DualAR(nn.Module):
    """The slow transformer, one step a frame, and the fast one, one step a codebook."""

    def __init__(self, config: Config, semantic_begin_id: int, im_end_id: int) -> None:
        super().__init__()
        self.config, self.begin, self.im_end = config, semantic_begin_id, im_end_id
        slow, fast = Stack.of(config), Stack.of(config, "fast_")
        self.stacks = (slow, fast)
        self.embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.codebook_embeddings = nn.Embedding(config.codebook_size * config.num_codebooks, config.dim)
        self.layers = nn.ModuleList(Block(slow) for _ in range(slow.n_layer))
        self.norm = RMSNorm(slow.dim, slow.norm_eps)
        # Only semantic ids and the end can follow, so no other row of the head is kept.
        self.output = nn.Linear(config.dim, config.codebook_size + 1, bias=False)
        self.fast_project_in = nn.Linear(config.dim, config.fast_dim) if config.projects_fast_input else nn.Identity()
        self.fast_embeddings = nn.Embedding(config.codebook_size, config.fast_dim)
        self.fast_layers = nn.ModuleList(Block(fast) for _ in range(fast.n_layer))
        self.fast_norm = RMSNorm(fast.dim, fast.norm_eps)
        self.fast_output = nn.Linear(config.fast_dim, config.codebook_size, bias=False)
        self.table: Tensor
        self.fast_table: Tensor
        slow_table = rotary_table(config.max_seq_len, slow.head_dim, slow.rope_base)
        self.register_buffer("table", slow_table, persistent=False)
        fast_table = rotary_table(config.num_codebooks, fast.head_dim, fast.rope_base)
        self.register_buffer("fast_table", fast_table, persistent=False)

    @classmethod
    def load(
        cls,
        config: Config,
        tokenizer: Tokenizer,
        state: Mapping[str, Tensor],
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> DualAR:
        """From tensors of `layout.model_tensors`. Every one of them is used, none is missing."""
        begin, im_end = tokenizer.semantic_begin_id, tokenizer.im_end_id
        head = state["embeddings.weight" if config.tie_word_embeddings else "output.weight"]
        rows = [*range(begin, begin + config.codebook_size), im_end]
        with torch.device("meta"):
            net = cls(config, begin, im_end)
        ready = {name: each.to(device=device, dtype=dtype) for name, each in state.items() if name != "output.weight"}
        ready["output.weight"] = head[rows].to(device=device, dtype=dtype)
        net.load_state_dict(ready, strict=True, assign=True)
        for name, stack, positions in (
            ("table", net.stacks[0], config.max_seq_len),
            ("fast_table", net.stacks[1], config.num_codebooks),
        ):
            setattr(net, name, rotary_table(positions, stack.head_dim, stack.rope_base).to(device))
        return net.eval().requires_grad_(False)

    @classmethod
    def read(cls, directory: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> DualAR:
        """From a converted model's directory."""
        config = Config.read(directory)
        tokenizer = Tokenizer.read(directory, config)
        return cls.load(config, tokenizer, load_file(directory / "model.safetensors"), dtype, device)

    def new_cache(self, rows: int, positions: int, fast: bool = False) -> Cache:
        """Room for `rows` sequences of `positions` steps."""
        stack, like = self.stacks[fast], self.embeddings.weight
        shape = (stack.n_layer, rows, stack.n_local_heads, positions, stack.head_dim)
        return Cache(like.new_zeros(shape), like.new_zeros(shape))

    def embed(self, columns: Tensor) -> Tensor:
        """Columns [B, 1 + num_codebooks, T] → [B, T, dim]; codes count at semantic positions only."""
        tokens, codes = columns[:, 0], columns[:, 1:]
        semantic = ((tokens >= self.begin) & (tokens < self.begin + self.config.codebook_size)).unsqueeze(-1)
        books = torch.arange(self.config.num_codebooks, device=columns.device) * self.config.codebook_size
        x = self.embeddings(tokens)
        x = x + self.codebook_embeddings(codes + books[:, None]).sum(dim=1) * semantic
        if self.config.scale_codebook_embeddings:
            x = torch.where(semantic, x / (self.config.num_codebooks + 1) ** 0.5, x)
        return x  # type: ignore[no-any-return]

    def forward(self, columns: Tensor, start: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        """A prompt or one frame: columns [B, 1 + num_codebooks, T] at positions start[b], start[b] + 1, ….

        Returns logits [B, codebook_size + 1] of the last position (the last one is the end) and the hidden state
        [B, dim] the fast transformer starts from.
        """
        x = self.embed(columns)
        positions = start[:, None] + torch.arange(x.shape[1], device=x.device)
        for layer, k, v in zip(self.layers, cache.k, cache.v, strict=True):
            x = layer(x, self.table, positions, k, v)
        last = x[:, -1]
        normed = self.norm(last)
        return self.output(normed), normed if self.config.norm_fast_input else last

    def fast_input(self, hidden: Tensor) -> Tensor:
        """Hidden [B, dim] → what position 0 of the fast transformer gets, [B, fast_dim]."""
        return self.fast_project_in(hidden)  # type: ignore[no-any-return]

    def fast_step(self, x: Tensor, position: int, cache: Cache) -> Tensor:
        """One position for every row: x [B, fast_dim] → the logits that count, [B, residual_logits]."""
        x = x.unsqueeze(1)
        positions = torch.full((x.shape[0], 1), position, device=x.device)
        for layer, k, v in zip(self.fast_layers, cache.k, cache.v, strict=True):
            x = layer(x, self.fast_table, positions, k, v)
        return self.fast_output(self.fast_norm(x[:, 0]))[:, : self.config.residual_logits]  # type: ignore[no-any-return]


def residual_codes(net: DualAR, hidden: Tensor, semantic: list[int], samplers: list[Sampler]) -> None:
    """The other codebooks of one frame for rows with semantic code `semantic`; each sampler holds what it drew."""
    cache = net.new_cache(len(semantic), net.config.num_codebooks, fast=True)
    net.fast_step(net.fast_input(hidden), 0, cache)
    codes = semantic
    for book in range(1, net.config.num_codebooks):
        x = net.fast_embeddings(torch.tensor(codes, device=hidden.device))
        logits = net.fast_step(x, book, cache).float().cpu().numpy()
        codes = [sampler.residual(row) for sampler, row in zip(samplers, logits, strict=True)]


@torch.inference_mode()
def generate(net: DualAR, prompt: npt.NDArray[np.int64], sampling: Sampling, max_frames: int) -> npt.NDArray[np.int64]:
    """Frames [1 + num_codebooks, T] that follow the prompt, token row first, without the end column."""
    device, room = net.embeddings.weight.device, net.config.max_seq_len - prompt.shape[1]
    if room < 1:
        raise TooLarge(f"the prompt takes all of the model's {net.config.max_seq_len} positions", param="text")
    max_frames = min(max_frames, room)
    cache = net.new_cache(1, prompt.shape[1] + max_frames)
    sampler = Sampler(sampling, net.config.num_codebooks)
    frames: list[list[int]] = []
    columns, position = torch.from_numpy(prompt).to(device)[None], 0
    while len(frames) < max_frames:
        logits, hidden = net(columns, torch.tensor([position], device=device), cache)
        position += columns.shape[2]
        semantic = sampler.semantic(logits[0].float().cpu().numpy())
        if semantic == net.config.codebook_size:
            break
        residual_codes(net, hidden, [semantic], [sampler])
        frames.append([net.begin + semantic, *sampler.end_frame()])
        columns = torch.tensor(frames[-1], device=device)[None, :, None]
    return np.array(frames, dtype=np.int64).reshape(-1, 1 + net.config.num_codebooks).T
