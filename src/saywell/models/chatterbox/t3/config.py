"""Sizes of T3, derived from the tensors of a published file. No other module knows a size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["llama", "gpt2"]
HEAD_DIM = 64
"""Of every published model; it cannot be derived from shapes."""
PERCEIVER_HEADS = 4
"""Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Scaled rotary frequencies: long waves are slowed down by `factor`, those in between by a part of it."""

    base: float = 500000.0
    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192
    """Positions that the unscaled frequencies were made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class T3Config:
    """`llama`: learned positions of text and speech are added to the inputs, the prompt passes a perceiver, and a
    second row without text guides the first. `gpt2`: one table of positions, prompt tokens as they are, no guidance."""

    kind: Kind
    layers: int
    hidden: int
    ffn: int
    text_vocab: int
    speech_vocab: int
    text_positions: int = 0
    speech_positions: int = 0
    positions: int = 0
    """Rows of GPT-2's table of positions."""
    queries: int = 0
    """Rows that the perceiver makes of the prompt."""
    speaker: int = 256
    """Size of a speaker embedding."""
    prompt_tokens: int
    """Most speech tokens of a recording that condition the model."""
    norm_eps: float = 1e-5
    rope: RopeScaling = RopeScaling()
    start_text: int = 255
    stop_text: int = 0
    start_speech: int = 6561
    stop_speech: int = 6562
    max_frames: int = 1000
    """Most speech tokens of one text, as upstream."""

    @property
    def heads(self) -> int:
        return self.hidden // HEAD_DIM

    @property
    def guided(self) -> bool:
        """Whether the model was trained for classifier-free guidance."""
        return self.kind == "llama"

    @property
    def multilingual(self) -> bool:
        return self.guided and self.text_vocab != ENGLISH.text_vocab

    @property
    def max_seq_len(self) -> int:
        """Positions of a sequence: of the voice, the text and the speech."""
        voice = 1 + self.queries + 1
        return voice + self.text_positions + self.speech_positions if self.guided else self.positions

    @property
    def logits(self) -> int:
        """Speech codes, then the end. No other id can be sampled."""
        return self.start_speech + 1

    @property
    def emitted(self) -> list[int]:
        """The speech token of each logit."""
        return [*range(self.start_speech), self.stop_speech]


ENGLISH = T3Config(
    kind="llama",
    layers=30,
    hidden=1024,
    ffn=4096,
    text_vocab=704,
    speech_vocab=8194,
    text_positions=2050,
    speech_positions=4100,
    queries=32,
    prompt_tokens=150,
)
MULTILINGUAL = replace(ENGLISH, text_vocab=2454)
TURBO = T3Config(
    kind="gpt2",
    layers=24,
    hidden=1024,
    ffn=4096,
    text_vocab=50276,
    speech_vocab=6563,
    positions=8196,
    prompt_tokens=375,
)
NANO = replace(TURBO, layers=12, hidden=768, ffn=3072)
