"""The family once more, in numpy and float64 with no caches and no modules: written apart from the networks, to hold
them against. It reads published files, folds weight norm itself and recomputes everything at every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

torch.set_num_threads(1)  # tiny networks: threads would cost more than they give

Array = np.ndarray[Any, Any]
State = dict[str, Array]


def published(path: Path) -> State:
    raw = torch.load(path, weights_only=True)
    return {name: tensor.double().numpy() for name, tensor in raw.items() if tensor.dtype != torch.bool}


def bf16(x: Array) -> Array:
    return torch.from_numpy(x).float().bfloat16().double().numpy()


def rms(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rotary(x: Array, base: float) -> Array:
    """x [T, heads, d]: pair (2i, 2i+1) as a complex number, turned by position · base^(-2i/d)."""
    t, _, d = x.shape
    # The table was made in fp32, then rounded to bf16.
    turn = (1.0 / np.float32(base) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))).astype(np.float32)
    angle = np.outer(np.arange(t, dtype=np.float32), turn).astype(np.float32)
    factor = bf16(np.cos(angle).astype(np.float64)) + 1j * bf16(np.sin(angle).astype(np.float64))
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * factor[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = turned.real, turned.imag
    return out


def attention(s: State, at: str, x: Array, heads: int, kv: int, d: int, base: float, eps: float, window: int) -> Array:
    packed = x @ s[f"{at}.wqkv.weight"].T + s.get(f"{at}.wqkv.bias", 0)
    t = len(x)
    q = packed[:, : heads * d].reshape(t, heads, d)
    k = packed[:, heads * d : (heads + kv) * d].reshape(t, kv, d)
    v = packed[:, (heads + kv) * d :].reshape(t, kv, d)
    if f"{at}.q_norm.weight" in s:
        q, k = rms(q, s[f"{at}.q_norm.weight"], eps), rms(k, s[f"{at}.k_norm.weight"], eps)
    q, k = rotary(q, base), rotary(k, base)
    out = np.zeros((t, heads, d))
    for head in range(heads):
        mine = head // (heads // kv)
        for row in range(t):
            first = max(0, row - window + 1)
            score = softmax(k[first : row + 1, mine] @ q[row, head] / np.sqrt(d))
            out[row, head] = score @ v[first : row + 1, mine]
    return out.reshape(t, heads * d) @ s[f"{at}.wo.weight"].T + s.get(f"{at}.wo.bias", 0)


def block(s: State, at: str, x: Array, heads: int, kv: int, d: int, base: float, eps: float, window: int) -> Array:
    a = attention(s, f"{at}.attention", rms(x, s[f"{at}.attention_norm.weight"], eps), heads, kv, d, base, eps, window)
    h = x + a * s.get(f"{at}.attention_layer_scale.gamma", 1)
    n = rms(h, s[f"{at}.ffn_norm.weight"], eps)
    w = f"{at}.feed_forward.w"
    f = (silu(n @ s[f"{w}1.weight"].T) * (n @ s[f"{w}3.weight"].T)) @ s[f"{w}2.weight"].T
    return h + f * s.get(f"{at}.ffn_layer_scale.gamma", 1)


def slow(s: State, c: dict[str, Any], columns: Array, begin: int) -> tuple[Array, Array]:
    """Whole-vocabulary logits of the last position, and the hidden state handed to the fast transformer."""
    x = s["embeddings.weight"][columns[0]].copy()
    for t, token in enumerate(columns[0]):
        if begin <= token < begin + c["codebook_size"]:
            for book in range(c["num_codebooks"]):
                x[t] += s["codebook_embeddings.weight"][columns[1 + book, t] + book * c["codebook_size"]]
            if c["scale_codebook_embeddings"]:
                x[t] /= np.sqrt(c["num_codebooks"] + 1)
    for layer in range(c["n_layer"]):
        sizes = (c["n_head"], c["n_local_heads"], c["head_dim"], c["rope_base"], c["norm_eps"])
        x = block(s, f"layers.{layer}", x, *sizes, window=1 << 30)
    normed = rms(x[-1], s["norm.weight"], c["norm_eps"])
    head = s["embeddings.weight" if c["tie_word_embeddings"] else "output.weight"]
    return head @ normed, normed if c.get("norm_fast_input") else x[-1]


def fast(s: State, c: dict[str, Any], hidden: Array, codes: list[int]) -> Array:
    """Logits of the book after `codes`."""
    if "fast_project_in.weight" in s:
        hidden = s["fast_project_in.weight"] @ hidden + s["fast_project_in.bias"]
    x = np.stack([hidden, *(s["fast_embeddings.weight"][code] for code in codes)])
    for layer in range(c["n_fast_layer"]):
        sizes = (c["fast_n_head"], c["fast_n_local_heads"], c["fast_head_dim"], c["rope_base"], c["norm_eps"])
        x = block(s, f"fast_layers.{layer}", x, *sizes, window=1 << 30)
    return s["fast_output.weight"] @ rms(x[-1], s["fast_norm.weight"], c["norm_eps"])


def greedy(s: State, c: dict[str, Any], prompt: Array, frames: int, begin: int, im_end: int, residual: int) -> Array:
    columns, made = prompt, []
    for _ in range(frames):
        logits, hidden = slow(s, c, columns, begin)
        allowed = [*range(begin, begin + c["codebook_size"]), im_end]
        token = allowed[int(logits[allowed].argmax())]
        if token == im_end:
            break
        codes = [token - begin]
        while len(codes) < c["num_codebooks"]:
            codes.append(int(fast(s, c, hidden, codes)[:residual].argmax()))
        made.append([token, *codes])
        columns = np.concatenate([columns, np.array(made[-1])[:, None]], axis=1)
    return np.array(made, dtype=np.int64).reshape(-1, prompt.shape[0]).T


def weight(s: State, at: str) -> Array:
    """A convolution's weight, in whichever of three ways it is stored."""
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
    span = (w.shape[2] - 1) * dilation + 1
    steps = -(-x.shape[1] // stride)
    padded = np.pad(x, ((0, 0), (span - stride, steps * stride - x.shape[1])))
    taps = sliding_window_view(padded, span, axis=1)[:, ::stride, ::dilation]
    out = np.einsum("ctk,ck->ct", taps, w[:, 0]) if depthwise else np.einsum("ctk,ock->ot", taps, w)
    return out + s[f"{at}.bias"][:, None]


def transposed(s: State, at: str, x: Array, stride: int) -> Array:
    w = weight(s, at)
    out = np.zeros((w.shape[1], (x.shape[1] - 1) * stride + w.shape[2]))
    for t in range(x.shape[1]):
        out[:, t * stride : t * stride + w.shape[2]] += np.einsum("c,cok->ok", x[:, t], w)
    return out[:, : x.shape[1] * stride] + s[f"{at}.bias"][:, None]


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
    return rms(h, s[f"{at}.norm.weight"], 1e-5).T


def book(s: State, at: str, indices: Array) -> Array:
    entries = s[f"{at}.codebook.weight"]
    found = entries[np.clip(indices, 0, len(entries) - 1)]
    return weight(s, f"{at}.out_proj")[:, :, 0] @ found.T + s[f"{at}.out_proj.bias"][:, None]


def decode(s: State, c: dict[str, Any], codes: Array) -> Array:
    x = book(s, "quantizer.semantic_quantizer.quantizers.0", codes[0])
    for number, row in enumerate(codes[1:]):
        x = x + book(s, f"quantizer.quantizer.quantizers.{number}", row)
    x = transformer(s, "quantizer.post_module", x, c["head_dim"], c["module_layers"], c["module_window"])
    for stage in range(2):
        x = transposed(s, f"quantizer.upsample.{stage}.0.conv", x, 2)
        x = convnext(s, f"quantizer.upsample.{stage}.1", x)
    x = conv(s, "decoder.model.0.conv", x)
    for number, rate in enumerate(c["decoder_rates"], start=1):
        at = f"decoder.model.{number}.block"
        x = transposed(s, f"{at}.1.conv", snake(s, f"{at}.0", x), rate)
        for unit, dilation in enumerate((1, 3, 9), start=2):
            x = residual_unit(s, f"{at}.{unit}", x, dilation)
    x = conv(s, "decoder.model.6.conv", snake(s, "decoder.model.5", x))
    return np.tanh(x[0])


def latent(s: State, c: dict[str, Any], audio: Array) -> Array:
    """What the quantiser is given: [latent_dim, frames]."""
    x = conv(s, "encoder.block.0.conv", audio[None])
    for number, rate in enumerate(c["encoder_rates"], start=1):
        at = f"encoder.block.{number}.block"
        for unit, dilation in enumerate((1, 3, 9)):
            x = residual_unit(s, f"{at}.{unit}", x, dilation)
        x = conv(s, f"{at}.4.conv", snake(s, f"{at}.3", x), stride=rate)
    x = transformer(s, "encoder.block.4.block.5", x, c["head_dim"], c["encoder_layers"], c["encoder_window"])
    x = conv(s, "encoder.block.6.conv", snake(s, "encoder.block.5", x))
    for stage in range(2):
        x = convnext(s, f"quantizer.downsample.{stage}.1", conv(s, f"quantizer.downsample.{stage}.0.conv", x, stride=2))
    return transformer(s, "quantizer.pre_module", x, c["head_dim"], c["module_layers"], c["module_window"])


def encode(s: State, c: dict[str, Any], audio: Array) -> Array:
    frames = -(-len(audio) // 2048)
    rest = latent(s, c, np.pad(audio.astype(np.float64), (0, frames * 2048 - len(audio))))
    names = ["quantizer.semantic_quantizer.quantizers.0"]
    names += [f"quantizer.quantizer.quantizers.{number}" for number in range(c["n_residual"])]
    rows = []
    for at in names:
        wanted = weight(s, f"{at}.in_proj")[:, :, 0] @ rest + s[f"{at}.in_proj.bias"][:, None]
        wanted = wanted / np.linalg.norm(wanted, axis=0)
        entries = s[f"{at}.codebook.weight"]
        entries = entries / np.linalg.norm(entries, axis=1, keepdims=True)
        distance = ((entries[:, :, None] - wanted[None]) ** 2).sum(axis=1)
        rows.append(distance.argmin(axis=0))
        rest = rest - book(s, at, rows[-1])
    return np.stack(rows)
