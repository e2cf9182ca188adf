"""The default voice of a checkpoint, from the tensors of its `conds.pt`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.errors import BadCheckpoint
from saywell.models.chatterbox.voice.features import PROMPT_BINS
from saywell.models.chatterbox.voice.runtime import Voice

FILE = "conds.pt"
NAMES = {
    "speaker_emb": "t3.speaker_emb",
    "t3_prompt_tokens": "t3.cond_prompt_speech_tokens",
    "x_vector": "gen.embedding",
    "prompt_tokens": "gen.prompt_token",
    "prompt_mel": "gen.prompt_feat",
}
"""Of a voice → in the file, flattened (`torch_reader`). All have a batch of one."""
_TOKENS = ("t3_prompt_tokens", "prompt_tokens")


def voice_of(tensors: Mapping[str, npt.NDArray[Any]]) -> Voice:
    """The same as `VoiceEncoder` makes of a clip. Raises BadCheckpoint."""
    missing = [name for name in NAMES.values() if name not in tensors]
    if missing:
        raise BadCheckpoint(f"{FILE} lacks {', '.join(missing)}")
    voice: Voice = {name: _plain(name, tensors[stored]) for name, stored in NAMES.items()}
    pairs = min(len(voice["prompt_tokens"]), len(voice["prompt_mel"]) // 2)
    voice["prompt_tokens"], voice["prompt_mel"] = voice["prompt_tokens"][:pairs], voice["prompt_mel"][: 2 * pairs]
    return voice


def _plain(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Without the batch, checked."""
    wanted = (1, -1, PROMPT_BINS) if name == "prompt_mel" else (1, -1)
    fits = array.ndim == len(wanted) and all(b in (-1, a) for a, b in zip(array.shape, wanted, strict=True))
    if not fits or not array.size or not np.isfinite(array).all():
        raise BadCheckpoint(f"{FILE}: {NAMES[name]} of shape {array.shape} is not what a voice holds")
    return np.asarray(array[0], np.int64 if name in _TOKENS else np.float32)
