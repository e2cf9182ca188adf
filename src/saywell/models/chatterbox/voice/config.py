"""Sizes of the networks that listen to a reference clip. The defaults are those of every published checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """S3 tokeniser v2: log mel → 25 speech tokens a second, by a transformer with memory and finite scalar
    quantisation."""

    bins: int = 128
    dim: int = 1280
    layers: int = 6
    head_dim: int = 64
    mlp: int = 4
    """Width of the feed-forward layers divided by `dim`."""
    memory: int = 31
    """Taps of the convolution over the values of attention."""
    rope_base: float = 10000.0
    digits: int = 8
    """Of a token, each with three values."""

    @property
    def heads(self) -> int:
        return self.dim // self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class XVectorConfig:
    """CAM++: filter bank → x-vector, by residual convolutions and densely connected layers with context masks."""

    bins: int = 80
    planes: int = 32
    """Channels of the two-dimensional convolutions."""
    channels: int = 128
    """Before the first dense block."""
    growth: int = 32
    """Channels that each dense layer adds."""
    bottleneck: int = 4
    """Channels within a dense layer, divided by `growth`."""
    layers: tuple[int, ...] = (12, 24, 16)
    dilations: tuple[int, ...] = (1, 2, 2)
    """Of each dense block."""
    segment: int = 100
    """Frames that share a context mask."""
    size: int = 192
    """Of the x-vector."""

    @property
    def inner(self) -> int:
        return self.bottleneck * self.growth

    def widths(self) -> list[tuple[int, int]]:
        """Channels before and after each dense block; the layer between two blocks halves them."""
        pairs, width = [], self.channels
        for layers in self.layers:
            pairs.append((width, width + layers * self.growth))
            width = pairs[-1][1] // 2
        return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerConfig:
    """Speaker encoder: power mel → speaker embedding, by an LSTM."""

    bins: int = 40
    hidden: int = 256
    layers: int = 3
    size: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceConfig:
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    xvector: XVectorConfig = field(default_factory=XVectorConfig)
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)
