"""The published transformers, as they are trained: whole sequences at once, over the modules that speak.

Semantic entries are pairs of symbols. While training, the vector of an entry is a sum: one of its first symbol, one of
its second, one of its own; so rare pairs learn from common ones. `published` adds them up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from saywell.models.dual_ar.nets import Attention, Block, DualAR
from saywell.models.wren.phones import SYMBOLS
from training.dual_ar.books import ENTRIES
from training.dual_ar.sequences import NONE
from training.dual_ar.sizes import BEGIN, BOOKS, SPECIALS, config

SPREAD = 0.02
GUIDED_LAYER, GUIDED_HEADS = 2, 2
WIDE = 2.0
"""Letters beside the one that is guessed."""
HUGE = 1e4


class Pairs(nn.Module):
    """A vector for each semantic entry [ENTRIES, dim]."""

    def __init__(self, pairs: Tensor, dim: int, spread: float) -> None:
        super().__init__()
        self.register_buffer("pairs", pairs)
        self.first = nn.Parameter(torch.randn(len(SYMBOLS), dim) * spread)
        self.second = nn.Parameter(torch.randn(len(SYMBOLS), dim) * spread)
        self.own = nn.Parameter(torch.randn(ENTRIES, dim) * spread * 0.1)
        self.pairs: Tensor

    def forward(self) -> Tensor:
        rows = self.first[self.pairs[:, 0]] + self.second[self.pairs[:, 1]]
        return self.own + fn.pad(rows, (0, 0, 0, ENTRIES - len(rows)))


@dataclass
class Outputs:
    """semantic [B, T, ENTRIES + 1]; hidden [B, T, dim]; guided: share of the attention that is where it should be."""

    semantic: Tensor
    hidden: Tensor
    guided: Tensor


class Training(nn.Module):
    """DualAR with summed vectors of the pairs."""

    def __init__(self, pairs: Tensor) -> None:
        super().__init__()
        c = config()
        self.net = DualAR(c, BEGIN, SPECIALS["<|im_end|>"])
        for name, weight in self.net.named_parameters():
            if weight.ndim == 2:
                deep = c.n_fast_layer if name.startswith("fast") else c.n_layer
                last = name.endswith(("wo.weight", "w2.weight"))
                nn.init.normal_(weight, 0, (weight.shape[1] ** -0.5) * (0.5 / deep**0.5 if last else 0.7))
        for each in (self.net.embeddings, self.net.codebook_embeddings, self.net.fast_embeddings):
            nn.init.normal_(each.weight, 0, 0.3)
        self.heard, self.said = Pairs(pairs, c.dim, 0.4), Pairs(pairs, c.dim, SPREAD * 2)
        self.fast_heard = Pairs(pairs, c.fast_dim, 0.4)
        self.end = nn.Parameter(torch.zeros(1, c.dim))

    def embed(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """tokens [B, T], codes [B, T, books], NONE where there is none → [B, T, dim]."""
        text = self.net.embeddings(tokens.clamp(max=BEGIN - 1)) * (tokens < BEGIN)[..., None]
        rows = torch.cat([self.heard(), self.net.codebook_embeddings.weight[ENTRIES:]])
        offset = torch.arange(BOOKS) * ENTRIES
        known = codes != NONE
        found = fn.embedding((codes.clamp(min=0) + offset), rows) * known[..., None]
        return text + found.sum(2)

    def slow(self, tokens: Tensor, codes: Tensor, letters: Tensor) -> Outputs:
        x = self.embed(tokens, codes)
        table = self.net.table[None, : x.shape[1]]
        guided = x.new_zeros(())
        for number, layer in enumerate(self.net.layers):
            x, q, k = through(layer, x, table)
            if number == GUIDED_LAYER:
                guided = pointing(q[:, :GUIDED_HEADS], k[:, : max(1, GUIDED_HEADS // 2)], letters)
        head = torch.cat([self.said(), self.end])
        return Outputs(self.net.norm(x) @ head.T, x, guided)

    def fast(self, hidden: Tensor, semantic: Tensor, residual: Tensor) -> Tensor:
        """Logits of the residual books of some blocks [N, books - 1, ENTRIES]; hidden [N, dim], semantic [N]."""
        codes = torch.cat([semantic[:, None], residual[:, :-1]], 1)
        x = torch.cat([self.net.fast_input(hidden)[:, None], fn.embedding(codes, self._fast_rows())], 1)
        for layer in self.net.fast_layers:
            x, _, _ = through(layer, x, self.net.fast_table[None])
        return self.net.fast_output(self.net.fast_norm(x[:, 1:]))

    def _fast_rows(self) -> Tensor:
        """One table serves all books."""
        return self.net.fast_embeddings.weight + self.fast_heard()

    def published(self) -> dict[str, Tensor]:
        """The state dict of the layout, fp32. Book 0 of the frame's embedding is left to the token's."""
        state = {name: each.detach().clone() for name, each in self.net.state_dict().items()}
        begin, end = BEGIN, SPECIALS["<|im_end|>"]
        head = torch.zeros_like(state["embeddings.weight"])
        head[begin : begin + ENTRIES], head[end] = self.said().detach(), self.end.detach()[0]
        state["output.weight"] = head
        state["embeddings.weight"][begin : begin + ENTRIES] = self.heard().detach()
        state["codebook_embeddings.weight"][:ENTRIES] = 0
        state["fast_embeddings.weight"] = self._fast_rows().detach()
        return state


def through(layer: Block, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A block over whole sequences; also its queries and keys."""
    attention: Attention = layer.attention
    q, k, v = attention.project(layer.attention_norm(x), table)
    group = attention.stack.n_head // attention.stack.n_local_heads
    out = fn.scaled_dot_product_attention(
        q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), is_causal=True
    )
    h = x + attention.wo(out.transpose(1, 2).flatten(-2))
    return h + layer.feed_forward(layer.ffn_norm(h)), q, k


def pointing(q: Tensor, k: Tensor, letters: Tensor) -> Tensor:
    """Mean negative logarithm of the attention near the letters where they are known."""
    length = q.shape[2]
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -HUGE)
    known = letters != NONE
    away = (torch.arange(length) - letters[..., None]).abs()[known]
    rows = scores.transpose(1, 2)[known].log_softmax(-1)
    return (
        -torch.logsumexp(rows.masked_fill((away > WIDE)[:, None], -HUGE), -1).mean() if known.any() else q.new_zeros(())
    )
