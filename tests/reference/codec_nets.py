"""The causal codec in plain PyTorch, whole utterances at once: the reference for the streaming graphs.

Names of parameters are those of the published file with weight norm folded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as fn

from reference.nets import Attention, FeedForward, RMSNorm, Stack, rotary_table
from saywell.models.dual_ar.config import CodecConfig


class Snake(nn.Module):
    """x + sin²(αx) / α, α per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha * x).sin().square() / (self.alpha + 1e-9)


class CausalConv(nn.Module):
    """Looks back only: zeros on the left, and on the right what completes the last stride."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation, groups=groups)
        self.span, self.stride = (kernel - 1) * dilation + 1, stride

    def forward(self, x: Tensor) -> Tensor:
        right = -x.shape[-1] % self.stride
        return self.conv(fn.pad(x, (self.span - self.stride, right)))  # type: ignore[no-any-return]


class CausalTransConv(nn.Module):
    """Transposed; the outputs that would need the next input are dropped."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, kernel, stride=stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., : x.shape[-1] * self.stride]  # type: ignore[no-any-return]


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            CausalConv(channels, channels, 7, dilation=dilation),
            Snake(channels),
            CausalConv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Layer(nn.Module):
    """A pre-norm block whose branches are scaled per channel."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.attention = Attention(stack)
        self.feed_forward = FeedForward(stack.dim, stack.intermediate_size)
        self.attention_norm = RMSNorm(stack.dim, stack.norm_eps)
        self.ffn_norm = RMSNorm(stack.dim, stack.norm_eps)
        self.attention_layer_scale = LayerScale(stack.dim)
        self.ffn_layer_scale = LayerScale(stack.dim)

    def forward(self, x: Tensor, table: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.attention.project(self.attention_norm(x), table)
        h = x + self.attention_layer_scale(self.attention.attend(q, k, v, mask))
        return h + self.ffn_layer_scale(self.feed_forward(self.ffn_norm(h)))  # type: ignore[no-any-return]


class WindowTransformer(nn.Module):
    """Causal attention over the last `window` positions, own one included. [B, channels, T] in and out."""

    def __init__(self, codec: CodecConfig, dim: int, layers: int, window: int) -> None:
        super().__init__()
        heads = dim // codec.head_dim
        self.stack = Stack(
            dim=dim,
            n_layer=layers,
            n_head=heads,
            n_local_heads=heads,
            head_dim=codec.head_dim,
            intermediate_size=dim * codec.intermediate_factor,
            rope_base=codec.rope_base,
            norm_eps=codec.norm_eps,
            qk_norm=False,
            qkv_bias=False,
            o_bias=False,
        )
        self.window = window
        self.layers = nn.ModuleList(Layer(self.stack) for _ in range(layers))
        self.norm = RMSNorm(dim, codec.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        table = rotary_table(x.shape[1], self.stack.head_dim, self.stack.rope_base).to(x.device)[None]
        at = torch.arange(x.shape[1], device=x.device)
        back = at[:, None] - at
        mask = ((back >= 0) & (back < self.window))[None]
        for layer in self.layers:
            x = layer(x, table, mask)
        return self.norm(x).transpose(1, 2)  # type: ignore[no-any-return]


class ConvNeXt(nn.Module):
    """Depthwise convolution, layer norm, a GELU layer four times as wide, scaled, added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = CausalConv(dim, dim, 7, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.dwconv(x).transpose(1, 2))
        branch = self.gamma * self.pwconv2(fn.gelu(self.pwconv1(branch)))
        return x + branch.transpose(1, 2)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """[B, 1, samples] → [B, latent_dim, steps]."""

    def __init__(self, codec: CodecConfig) -> None:
        super().__init__()
        blocks: list[nn.Module] = [CausalConv(1, codec.encoder_dim, 7)]
        for number, rate in enumerate(codec.encoder_rates):
            blocks.append(
                EncoderBlock(codec, codec.encoder_dim << number, rate, number + 1 == len(codec.encoder_rates))
            )
        self.block = nn.Sequential(
            *blocks, Snake(codec.encoder_out), CausalConv(codec.encoder_out, codec.latent_dim, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Residual units, then fewer steps of twice the channels; the last block ends in a transformer."""

    def __init__(self, codec: CodecConfig, channels: int, rate: int, last: bool) -> None:
        super().__init__()
        blocks: list[nn.Module] = [ResidualUnit(channels, dilation) for dilation in codec.dilations]
        blocks += [Snake(channels), CausalConv(channels, channels * 2, 2 * rate, stride=rate)]
        if last:
            blocks.append(WindowTransformer(codec, channels * 2, codec.encoder_layers, codec.encoder_window))
        self.block = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """More steps of half the channels, then residual units."""

    def __init__(self, codec: CodecConfig, channels: int, rate: int) -> None:
        super().__init__()
        up = CausalTransConv(channels * 2, channels, 2 * rate, rate)
        self.block = nn.Sequential(Snake(channels * 2), up, *(ResidualUnit(channels, each) for each in codec.dilations))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """[B, latent_dim, steps] → [B, 1, samples] within (-1, 1)."""

    def __init__(self, codec: CodecConfig) -> None:
        super().__init__()
        blocks: list[nn.Module] = [CausalConv(codec.latent_dim, codec.decoder_dim, 7)]
        for number, rate in enumerate(codec.decoder_rates, start=1):
            blocks.append(DecoderBlock(codec, codec.decoder_dim >> number, rate))
        channels = codec.decoder_dim >> len(codec.decoder_rates)
        self.model = nn.Sequential(*blocks, Snake(channels), CausalConv(channels, 1, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


class Book(nn.Module):
    """One vector quantiser: nearest entry by angle in a small space."""

    def __init__(self, codec: CodecConfig, entries: int) -> None:
        super().__init__()
        self.in_proj = nn.Conv1d(codec.latent_dim, codec.codebook_dim, 1)
        self.out_proj = nn.Conv1d(codec.codebook_dim, codec.latent_dim, 1)
        self.codebook = nn.Embedding(entries, codec.codebook_dim)

    def encode(self, x: Tensor) -> Tensor:
        """[B, latent_dim, T] → indices [B, T]."""
        wanted = fn.normalize(self.in_proj(x), dim=1)
        entries = fn.normalize(self.codebook.weight, dim=1)
        return torch.einsum("bct,nc->btn", wanted, entries).argmax(dim=-1)

    def decode(self, indices: Tensor) -> Tensor:
        """Indices [B, T], clamped to the book → [B, latent_dim, T]."""
        found = self.codebook(indices.clamp(0, self.codebook.num_embeddings - 1))
        return self.out_proj(found.transpose(1, 2))  # type: ignore[no-any-return]


class Books(nn.Module):
    """Residual quantisers, each on what the ones before it left over."""

    def __init__(self, codec: CodecConfig, count: int, entries: int) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(Book(codec, entries) for _ in range(count))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, latent_dim, T] → indices [B, books, T] and what is left over."""
        indices = []
        for book in self.quantizers:
            indices.append(book.encode(x))  # type: ignore[operator]
            x = x - book.decode(indices[-1])  # type: ignore[operator]
        return torch.stack(indices, dim=1), x

    def decode(self, indices: Tensor) -> Tensor:
        """Indices [B, books, T] → [B, latent_dim, T]."""
        parts = [book.decode(row) for book, row in zip(self.quantizers, indices.unbind(1), strict=True)]  # type: ignore[operator]
        return torch.stack(parts).sum(dim=0)


class Quantizer(nn.Module):
    """Latents ↔ codes: a semantic book, then residual ones."""

    def __init__(self, codec: CodecConfig) -> None:
        super().__init__()
        dim = codec.latent_dim
        self.semantic_quantizer = Books(codec, 1, codec.semantic_codebook_size)
        self.quantizer = Books(codec, codec.n_residual, codec.residual_codebook_size)
        self.downsample = nn.Sequential(
            *(nn.Sequential(CausalConv(dim, dim, rate, stride=rate), ConvNeXt(dim)) for rate in codec.downsample)
        )
        self.upsample = nn.Sequential(
            *(nn.Sequential(CausalTransConv(dim, dim, rate, rate), ConvNeXt(dim)) for rate in codec.downsample[::-1])
        )
        self.pre_module = WindowTransformer(codec, dim, codec.module_layers, codec.module_window)
        self.post_module = WindowTransformer(codec, dim, codec.module_layers, codec.module_window)

    def encode(self, latent: Tensor) -> Tensor:
        """[B, latent_dim, steps] → codes [B, num_codebooks, frames]."""
        x = self.pre_module(self.downsample(latent))
        semantic, rest = self.semantic_quantizer.encode(x)
        residual, _ = self.quantizer.encode(rest)
        return torch.cat([semantic, residual], dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, num_codebooks, frames] → [B, latent_dim, steps]."""
        x = self.semantic_quantizer.decode(codes[:, :1]) + self.quantizer.decode(codes[:, 1:])
        return self.upsample(self.post_module(x))  # type: ignore[no-any-return]


class Codec(nn.Module):
    """Mono audio at `sample_rate` ↔ codes, `frame` samples each."""

    def __init__(self, codec: CodecConfig) -> None:
        super().__init__()
        self.config = codec
        self.encoder = Encoder(codec)
        self.quantizer = Quantizer(codec)
        self.decoder = Decoder(codec)

    @classmethod
    def load(
        cls, codec: CodecConfig, state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Codec:
        """From tensors of `layout.codec_tensors`. Every one of them is used, none is missing."""
        with torch.device("meta"):
            net = cls(codec)
        ready = {name: each.to(device=device, dtype=dtype) for name, each in state.items()}
        net.load_state_dict(ready, strict=True, assign=True)
        return net.eval().requires_grad_(False)

    @classmethod
    def read(cls, directory: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Codec:
        """From a converted model's directory."""
        return cls.load(CodecConfig.read(directory), load_file(directory / "codec.safetensors"), dtype, device)

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Tensor:
        """Samples [n] → codes [num_codebooks, ⌈n / frame⌉]; zeros complete the last frame."""
        whole = math.ceil(audio.shape[0] / self.config.frame) * self.config.frame
        padded = fn.pad(audio, (0, whole - audio.shape[0]))
        return self.quantizer.encode(self.encoder(padded[None, None]))[0]

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [num_codebooks, T] → samples [T · frame] within (-1, 1). Indices beyond a book are clamped."""
        return self.decoder(self.quantizer.decode(codes[None]))[0, 0]  # type: ignore[no-any-return]
