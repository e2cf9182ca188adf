"""Both transformers and the codec in float64, without caches: everything is recomputed at every step.

Reads published files by itself (weight norm is folded here) and tensors of a converted model alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reference.sampling import Sampler
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.sampling import Sampling

Array = np.ndarray[Any, Any]
State = dict[str, Array]


def doubles(tensors: Mapping[str, torch.Tensor]) -> State:
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


def published(path: Path) -> State:
    return doubles(torch.load(path, weights_only=True))


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def rotary(x: Array, base: float) -> Array:
    """x [T, heads, d]: pair (2i, 2i+1) as a complex number, turned by position · base^(-2i/d)."""
    t, _, d = x.shape
    # The table is computed in fp32, then rounded to bf16, as in training.
    turn = (1.0 / np.float32(base) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))).astype(np.float32)
    angle = np.outer(np.arange(t, dtype=np.float32), turn)
    cos, sin = (torch.from_numpy(f(angle)).bfloat16().double().numpy() for f in (np.cos, np.sin))
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * (cos + 1j * sin)[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = turned.real, turned.imag
    return out


def attention(
    s: State, at: str, x: Array, heads: int, kv: int, d: int, base: float, eps: float, window: int | None
) -> Array:
    """Causal, over the last `window` positions; None: over all."""
    t = len(x)
    packed = (x @ s[f"{at}.wqkv.weight"].T + s.get(f"{at}.wqkv.bias", 0)).reshape(t, heads + 2 * kv, d)
    q, k, v = np.split(packed, [heads, heads + kv], axis=1)
    if f"{at}.q_norm.weight" in s:
        q, k = rms_norm(q, s[f"{at}.q_norm.weight"], eps), rms_norm(k, s[f"{at}.k_norm.weight"], eps)
    q, k = rotary(q, base), rotary(k, base)
    k, v = (np.repeat(part, heads // kv, axis=1) for part in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(d)
    back = np.arange(t)[:, None] - np.arange(t)
    scores = np.where((back >= 0) & (back < (window or t)), scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    out = np.einsum("hqk,khd->qhd", e / e.sum(-1, keepdims=True), v)
    return out.reshape(t, heads * d) @ s[f"{at}.wo.weight"].T + s.get(f"{at}.wo.bias", 0)


def block(
    s: State, at: str, x: Array, heads: int, kv: int, d: int, base: float, eps: float, window: int | None = None
) -> Array:
    a = attention(
        s, f"{at}.attention", rms_norm(x, s[f"{at}.attention_norm.weight"], eps), heads, kv, d, base, eps, window
    )
    h = x + a * s.get(f"{at}.attention_layer_scale.gamma", 1)
    n, w = rms_norm(h, s[f"{at}.ffn_norm.weight"], eps), f"{at}.feed_forward.w"
    gate = n @ s[f"{w}1.weight"].T
    f = (gate / (1 + np.exp(-gate)) * (n @ s[f"{w}3.weight"].T)) @ s[f"{w}2.weight"].T
    return h + f * s.get(f"{at}.ffn_layer_scale.gamma", 1)


# -- transformers


def embed(s: State, c: Config, columns: Array, begin: int) -> Array:
    """Columns [1 + num_codebooks, T] → [T, dim]."""
    x = s["embeddings.weight"][columns[0]].copy()
    for t, token in enumerate(columns[0]):
        if begin <= token < begin + c.codebook_size:
            for book in range(c.num_codebooks):
                x[t] += s["codebook_embeddings.weight"][columns[1 + book, t] + book * c.codebook_size]
            if c.scale_codebook_embeddings:
                x[t] /= np.sqrt(c.num_codebooks + 1)
    return x


def slow(s: State, c: Config, columns: Array, begin: int) -> tuple[Array, Array]:
    """Whole-vocabulary logits of the last position, and the hidden state handed to the fast transformer."""
    x = embed(s, c, columns, begin)
    for layer in range(c.n_layer):
        x = block(s, f"layers.{layer}", x, c.n_head, c.n_local_heads, c.head_dim, c.rope_base, c.norm_eps)
    normed = rms_norm(x[-1], s["norm.weight"], c.norm_eps)
    head = s["embeddings.weight" if c.tie_word_embeddings else "output.weight"]
    return head @ normed, normed if c.norm_fast_input else x[-1]


def fast(s: State, c: Config, hidden: Array, codes: list[int]) -> Array:
    """Logits [residual_logits] of the book after `codes`."""
    if "fast_project_in.weight" in s:
        hidden = s["fast_project_in.weight"] @ hidden + s["fast_project_in.bias"]
    x = np.stack([hidden, *(s["fast_embeddings.weight"][code] for code in codes)])
    for layer in range(c.n_fast_layer):
        sizes = (c.fast_n_head, c.fast_n_local_heads, c.fast_head_dim, c.fast_rope_base, c.fast_norm_eps)
        x = block(s, f"fast_layers.{layer}", x, *sizes)
    return s["fast_output.weight"][: c.residual_logits] @ rms_norm(x[-1], s["fast_norm.weight"], c.fast_norm_eps)


def generate(s: State, c: Config, prompt: Array, sampling: Sampling, frames: int, *, begin: int, im_end: int) -> Array:
    """At most `frames` frames that follow the prompt, [1 + num_codebooks, T], token row first, without the end."""
    sampler, columns = Sampler(sampling, c.num_codebooks), prompt
    allowed = [*range(begin, begin + c.codebook_size), im_end]
    while columns.shape[1] < prompt.shape[1] + frames:
        logits, hidden = slow(s, c, columns, begin)
        codes = [sampler.semantic(logits[allowed])]
        if codes[0] == c.codebook_size:
            break
        while len(codes) < c.num_codebooks:
            codes.append(sampler.residual(fast(s, c, hidden, codes)))
        sampler.end_frame()
        columns = np.concatenate([columns, np.array([[begin + codes[0], *codes]]).T], axis=1)
    return columns[:, prompt.shape[1] :]


# -- codec


def weight(s: State, at: str) -> Array:
    """A convolution's weight, in any of the three forms it is stored in."""
    for g, v in (("parametrizations.weight.original0", "parametrizations.weight.original1"), ("weight_g", "weight_v")):
        if f"{at}.{g}" in s:
            direction = s[f"{at}.{v}"]
            norm = np.sqrt((direction**2).sum(axis=tuple(range(1, direction.ndim)), keepdims=True))
            return s[f"{at}.{g}"] * direction / norm
    return s[f"{at}.weight"]


def conv(s: State, at: str, x: Array, stride: int = 1, dilation: int = 1) -> Array:
    """x [channels, T]; output n sees inputs up to n · stride + stride - 1."""
    w = weight(s, at)
    depthwise = w.shape[1] == 1 and x.shape[0] > 1
    span, steps = (w.shape[2] - 1) * dilation + 1, -(-x.shape[1] // stride)
    padded = np.pad(x, ((0, 0), (span - stride, steps * stride - x.shape[1])))
    out = s[f"{at}.bias"][:, None]
    for tap in range(w.shape[2]):
        taken = padded[:, tap * dilation :: stride][:, :steps]
        out = out + (w[:, :, tap] * taken if depthwise else w[:, :, tap] @ taken)
    return out


def transposed(s: State, at: str, x: Array, stride: int) -> Array:
    w, steps = weight(s, at), x.shape[1]
    out = np.zeros((w.shape[1], steps * stride + w.shape[2]))
    for tap in range(w.shape[2]):
        out[:, tap : tap + steps * stride : stride] += w[:, :, tap].T @ x
    return out[:, : steps * stride] + s[f"{at}.bias"][:, None]


def snake(s: State, at: str, x: Array) -> Array:
    alpha = s[f"{at}.alpha"][0]
    return x + np.sin(alpha * x) ** 2 / (alpha + 1e-9)


def residual_unit(s: State, at: str, x: Array, dilation: int) -> Array:
    h = conv(s, f"{at}.block.1.conv", snake(s, f"{at}.block.0", x), dilation=dilation)
    return x + conv(s, f"{at}.block.3.conv", snake(s, f"{at}.block.2", h))


def convnext(s: State, at: str, x: Array) -> Array:
    h = conv(s, f"{at}.dwconv.conv", x).T
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
    h = h * s[f"{at}.norm.weight"] + s[f"{at}.norm.bias"]
    h = h @ s[f"{at}.pwconv1.weight"].T + s[f"{at}.pwconv1.bias"]
    h = torch.nn.functional.gelu(torch.from_numpy(h)).numpy() @ s[f"{at}.pwconv2.weight"].T + s[f"{at}.pwconv2.bias"]
    return x + (s[f"{at}.gamma"] * h).T


def transformer(s: State, at: str, x: Array, head_dim: int, layers: int, window: int) -> Array:
    h = x.T
    heads = h.shape[1] // head_dim
    for layer in range(layers):
        h = block(s, f"{at}.layers.{layer}", h, heads, heads, head_dim, 10000.0, 1e-5, window)
    return rms_norm(h, s[f"{at}.norm.weight"], 1e-5).T


def book(s: State, at: str, indices: Array) -> Array:
    entries = s[f"{at}.codebook.weight"]
    rows = entries[np.clip(indices, 0, len(entries) - 1)]
    return weight(s, f"{at}.out_proj")[:, :, 0] @ rows.T + s[f"{at}.out_proj.bias"][:, None]


def decode(s: State, c: CodecConfig, codes: Array) -> Array:
    """Codes [num_codebooks, T] → samples [T · frame]."""
    x = book(s, "quantizer.semantic_quantizer.quantizers.0", codes[0])
    for number, row in enumerate(codes[1:]):
        x = x + book(s, f"quantizer.quantizer.quantizers.{number}", row)
    x = transformer(s, "quantizer.post_module", x, c.head_dim, c.module_layers, c.module_window)
    for stage in range(2):
        x = transposed(s, f"quantizer.upsample.{stage}.0.conv", x, 2)
        x = convnext(s, f"quantizer.upsample.{stage}.1", x)
    x = conv(s, "decoder.model.0.conv", x)
    for number, rate in enumerate(c.decoder_rates, start=1):
        at = f"decoder.model.{number}.block"
        x = transposed(s, f"{at}.1.conv", snake(s, f"{at}.0", x), rate)
        for unit, dilation in enumerate((1, 3, 9), start=2):
            x = residual_unit(s, f"{at}.{unit}", x, dilation)
    return np.tanh(conv(s, "decoder.model.6.conv", snake(s, "decoder.model.5", x))[0])


def encode(s: State, c: CodecConfig, audio: Array) -> Array:
    """Samples [n] → codes [num_codebooks, ⌈n / frame⌉]."""
    x = np.pad(audio.astype(np.float64), (0, -len(audio) % c.frame))[None]
    x = conv(s, "encoder.block.0.conv", x)
    for number, rate in enumerate(c.encoder_rates, start=1):
        at = f"encoder.block.{number}.block"
        for unit, dilation in enumerate((1, 3, 9)):
            x = residual_unit(s, f"{at}.{unit}", x, dilation)
        x = conv(s, f"{at}.4.conv", snake(s, f"{at}.3", x), stride=rate)
    x = transformer(s, "encoder.block.4.block.5", x, c.head_dim, c.encoder_layers, c.encoder_window)
    x = conv(s, "encoder.block.6.conv", snake(s, "encoder.block.5", x))
    for stage in range(2):
        x = convnext(s, f"quantizer.downsample.{stage}.1", conv(s, f"quantizer.downsample.{stage}.0.conv", x, stride=2))
    rest = transformer(s, "quantizer.pre_module", x, c.head_dim, c.module_layers, c.module_window)
    names = ["quantizer.semantic_quantizer.quantizers.0"]
    names += [f"quantizer.quantizer.quantizers.{number}" for number in range(c.n_residual)]
    rows = []
    for at in names:
        query = weight(s, f"{at}.in_proj")[:, :, 0] @ rest + s[f"{at}.in_proj.bias"][:, None]
        entries = s[f"{at}.codebook.weight"]
        angle = (entries / np.linalg.norm(entries, axis=1, keepdims=True)) @ query
        rows.append(angle.argmax(axis=0))
        rest = rest - book(s, at, rows[-1])
    return np.stack(rows)
