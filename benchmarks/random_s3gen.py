"""A stand-in for S3Gen's decoder: random tensors in the published layout, with a voice in the range of speech."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.random_tensors import filled, tensor
from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.s3gen.config import S3GenConfig, VocoderConfig
from saywell.models.chatterbox.s3gen.layout import tensors

TINY = S3GenConfig(
    vocab=50, width=32, heads=2, ffn=48, blocks=1, up_blocks=1, channels=32, flow_heads=2, head_dim=16, flow_blocks=1,
    mid_stages=1, vocoder=VocoderConfig(base=64, f0_channels=16),
)  # fmt: skip
TINY_MEANFLOW = replace(TINY, meanflow=True)
_F0 = "mel2wav.f0_predictor.classifier."


def weights(config: S3GenConfig, seed: int = 0) -> dict[str, Floats]:
    """All tensors of the decoder. The fundamental is around 40 Hz and often crosses the threshold of voicing."""
    found = filled(tensors(config), seed)
    found[f"{_F0}weight"] *= np.float32(150)
    found[f"{_F0}bias"] += np.float32(40)
    return found


def voice(config: S3GenConfig, tokens: int, seed: int = 0) -> tuple[np.ndarray, Floats, Floats]:
    """Prompt tokens [P], prompt mel [2P, 80], x-vector [192]."""
    mel = tensor("prompt.mel", (config.frames * tokens, config.mel), seed)
    return speech(config, tokens, seed + 1), mel, tensor("speaker", (config.speaker,), seed)


def speech(config: S3GenConfig, tokens: int, seed: int = 0) -> np.ndarray:
    """Speech tokens."""
    return np.random.Generator(np.random.Philox(key=seed)).integers(0, config.vocab, tokens)
