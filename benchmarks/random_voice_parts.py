"""Random tensors for the networks that listen to a reference clip, and a clip that is much like speech."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.random_tensors import filled
from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.kinds import Kind
from saywell.models.chatterbox.voice.config import SpeakerConfig, TokenizerConfig, VoiceConfig, XVectorConfig
from saywell.models.chatterbox.voice.features import FFT, RATE, mel_filters
from saywell.models.chatterbox.voice.layout import COUNTER, TOKENIZER, s3gen_tensors, ve_tensors
from saywell.types import Samples

TINY = VoiceConfig(
    tokenizer=TokenizerConfig(dim=128, layers=2),
    xvector=XVectorConfig(channels=16, growth=4, bottleneck=2),
    speaker=SpeakerConfig(hidden=32),
)
"""Sizes that the published classes can be made with: the layers of their x-vector cannot be fewer."""
CLIPS: dict[str, tuple[Kind, float, int]] = {
    "long": ("english", 3.1234, 22050),
    "short": ("english", 1.1, 24000),
    "turbo": ("turbo", 15.7, 16000),
}
"""Name → kind of model, seconds and rate of a `clip` for which the published package's results are recorded."""
MEL_EVERY = 8
"""Frames of a mel between two that are recorded."""


def s3gen(config: VoiceConfig, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """All tensors of the tokeniser and of CAM++ in the file of S3Gen, tables and counters included."""
    found: dict[str, npt.NDArray[Any]] = dict(filled(s3gen_tensors(config), seed))
    counters = {name: np.zeros((), np.int64) for name in found if name.endswith(COUNTER)}
    mel, window = mel_filters(RATE, FFT, config.tokenizer.bins), np.hanning(FFT + 1)[:-1].astype(np.float32)
    return {**found, **counters, f"{TOKENIZER}_mel_filters": mel, f"{TOKENIZER}window": window}


def ve(config: VoiceConfig, seed: int = 0) -> dict[str, Floats]:
    """All tensors of the speaker encoder."""
    found = filled(ve_tensors(config), seed)
    for name in (each for each in found if each.startswith("lstm.weight")):
        found[name] *= np.float32(2)
    found["lstm.weight_ih_l0"] *= np.float32(100)  # mean power of speech in a mel band is about a hundredth
    return found


def clip(seconds: float, rate: int, seed: int = 0) -> Samples:
    """Syllables of gliding harmonics and hiss, between half a second of near silence on each side."""
    time = np.arange(round(seconds * rate)) / rate
    random = np.random.Generator(np.random.Philox(key=seed))
    pitch = (
        2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time) + 15 * np.sin(2 * np.pi * 2.3 * time)) / rate
    )
    voiced = sum(np.sin(k * pitch) / k * (1 + np.sin(2 * np.pi * (0.9 + 0.13 * k) * time + k)) for k in range(1, 24))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.4, 0, 1)
    hiss = random.standard_normal(len(time)) * np.clip(np.sin(2 * np.pi * 1.7 * time) - 0.6, 0, 1)
    loud = (time > 0.5) & (time < seconds - 0.5) if seconds > 2 else np.ones(len(time), bool)
    sound = (0.06 * voiced * syllables + 0.2 * hiss) * loud + 1e-4 * random.standard_normal(len(time))
    return np.asarray(sound, np.float32)
