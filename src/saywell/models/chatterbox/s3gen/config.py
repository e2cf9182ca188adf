"""Sizes of S3Gen's decoder. The defaults are those of the published checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class VocoderConfig:
    """HiFT: mel frames → samples, by a harmonic source and an inverse STFT."""

    base: int = 512
    """Channels after the first convolution; each level has half of those before it."""
    rates: tuple[int, ...] = (8, 5, 3)
    kernels: tuple[int, ...] = (16, 11, 7)
    """Of the transposed convolutions."""
    block_kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)
    source_kernels: tuple[int, ...] = (7, 7, 11)
    n_fft: int = 16
    hop: int = 4
    edge: int = 7
    """Taps of the first and the last convolution."""
    f0_channels: int = 512
    f0_layers: int = 5
    harmonics: int = 8
    """Above the fundamental."""
    sine_amplitude: float = 0.1
    noise_std: float = 0.003
    voiced_hz: float = 10.0
    slope: float = 0.1
    limit: float = 0.99

    def channels(self, level: int) -> int:
        """Of the blocks at a level."""
        return self.base >> (level + 1)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    def source_stride(self, level: int) -> int:
        """STFT frames of the source for a row of a level."""
        return math.prod(self.rates[level + 1 :])

    def _block_reach(self, kernel: int) -> int:
        return (kernel - 1) // 2 * (sum(self.dilations) + len(self.dilations))

    @property
    def reach(self) -> int:
        """Mel frames on each side of a frame that its samples depend on, directly or through the source."""
        rows = self.n_fft // self.hop // 2 + self.edge // 2
        per_frame, source = math.prod(self.rates), 0.0
        for level in reversed(range(len(self.rates))):
            rows += max(map(self._block_reach, self.block_kernels))
            spectra = self.n_fft // self.hop // 2 + 2 * self.source_stride(level)
            own = rows + self._block_reach(self.source_kernels[level])
            source = max(source, own / per_frame + spectra / math.prod(self.rates))
            per_frame //= self.rates[level]
            crop = (self.kernels[level] - self.rates[level]) // 2
            rows = math.ceil((rows + self.kernels[level] - 1 - crop) / self.rates[level])
        return math.ceil(max(rows + self.edge // 2, source))


@dataclass(frozen=True, slots=True, kw_only=True)
class S3GenConfig:
    """Flow encoder, flow-matching estimator and vocoder."""

    vocab: int = 6561
    mel: int = 80
    speaker: int = 192
    """Size of the x-vector."""
    width: int = 512
    """Of the encoder."""
    heads: int = 8
    ffn: int = 2048
    blocks: int = 6
    up_blocks: int = 4
    look_ahead: int = 3
    """Tokens that the encoder reads beyond a token."""
    channels: int = 256
    """Of the estimator."""
    flow_heads: int = 8
    head_dim: int = 64
    flow_blocks: int = 4
    """Transformer blocks of a stage."""
    mid_stages: int = 12
    expansion: int = 4
    meanflow: bool = False
    """A distilled model: two steps without guidance, told where a step ends."""
    guidance: float = 0.7
    sample_rate: int = 24_000
    token_rate: int = 25
    frames: int = 2
    """Mel frames of a token."""
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)

    @property
    def steps(self) -> int:
        """Steps of the flow that the model was made for."""
        return 2 if self.meanflow else 10

    @property
    def frame(self) -> int:
        """Samples of a mel frame."""
        return math.prod(self.vocoder.rates) * self.vocoder.hop

    @property
    def estimator_inputs(self) -> int:
        """Channels of x, mu, speaker and condition together."""
        return 4 * self.mel

    @property
    def time_width(self) -> int:
        return 4 * self.channels


STANDARD = S3GenConfig()
"""Chatterbox English and multilingual."""
MEANFLOW = S3GenConfig(meanflow=True)
"""Chatterbox Turbo and Nano."""
