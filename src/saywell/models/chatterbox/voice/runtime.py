"""A reference clip → what the models are told of its voice, with the published cuts and lengths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.audio.resample import resample
from saywell.errors import InvalidRequest
from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.kinds import Kind
from saywell.models.chatterbox.voice import features
from saywell.models.chatterbox.voice.features import HIGH_RATE, RATE
from saywell.models.chatterbox.voice.files import SPEAKER, TOKENIZER, XVECTOR
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.types import Samples

Voice = dict[str, npt.NDArray[Any]]
"""speaker_emb [size]; t3_prompt_tokens [≤ 25 a second of PROMPT_S]; x_vector [size]; prompt_tokens [P], prompt_mel
[2 · P, 80] of the decoder. Tokens are int64, the rest float32."""

DECODER_S = 10
"""Seconds of a clip that the decoder hears."""
PROMPT_S: dict[Kind, int] = {"english": 6, "multilingual": 6, "turbo": 15, "nano": 15}
"""Seconds of a clip that the speech tokens for the language model come from."""
SHORTEST_S: dict[Kind, float] = {"english": 0.1, "multilingual": 0.1, "turbo": 5.0, "nano": 5.0}
"""A clip must be longer."""
LEVELLED: frozenset[Kind] = frozenset(("turbo", "nano"))
"""Models whose clips are brought to one loudness first."""


class VoiceEncoder:
    """The networks that listen to a clip: 0.53 GB of weights at full size, so load them for a clip and drop them."""

    def __init__(self, directory: Path, threading: Threading) -> None:
        """Raises GraphError naming the file, MissingDependency."""
        # Without an arena, which would keep 130 MB more for a next clip.
        self._tokenizer, self._xvector, self._speaker = (
            Graph(directory / file, threading, arena=False) for file in (TOKENIZER, XVECTOR, SPEAKER)
        )

    def __call__(self, samples: Samples, rate: int, kind: Kind) -> Voice:
        """Mono samples [n] at `rate` Hz. Raises InvalidRequest for a clip that is too short, GraphError."""
        seconds = len(samples) / rate
        if seconds <= SHORTEST_S[kind]:
            raise InvalidRequest(
                f"the reference has {seconds:.1f} s, this model needs more than {SHORTEST_S[kind]:g} s; give 6 to 15 s "
                "of one person speaking",
                param="reference",
            )
        high = resampled(samples, rate, HIGH_RATE)
        if kind in LEVELLED:
            high = features.levelled(high, HIGH_RATE)
        low = resampled(high, HIGH_RATE, RATE)
        return {
            "speaker_emb": self._speaker_embedding(low),
            "t3_prompt_tokens": self._tokens(low[: PROMPT_S[kind] * RATE]),
            **self._for_decoder(high[: DECODER_S * HIGH_RATE]),
        }

    def _for_decoder(self, high: Samples) -> Voice:
        mel, low = features.prompt_mel(high), features.downsampled(high)
        tokens = self._tokens(low)[: len(mel) // 2]
        # The published code keeps an odd last frame, which shifts what follows the prompt against its tokens.
        mel = mel[: 2 * len(tokens)]
        x_vector = self._xvector.run({"fbank": features.fbank(low)})[0]
        return {"x_vector": x_vector, "prompt_tokens": tokens, "prompt_mel": mel}

    def _tokens(self, low: Samples) -> npt.NDArray[np.int64]:
        return self._tokenizer.run({"mel": features.token_mel(low)})[0]

    def _speaker_embedding(self, low: Samples) -> Floats:
        mels = features.windows(features.speaker_mel(features.trimmed(low)))
        mean = self._speaker.run({"mels": mels})[0].mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def resampled(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """[n] → [⌈n · to / from⌉]."""
    length = math.ceil(len(samples) * (float(to_hz) / from_hz))
    found = resample(samples, from_hz, to_hz)[:length]
    return np.pad(found, (0, length - len(found)))
