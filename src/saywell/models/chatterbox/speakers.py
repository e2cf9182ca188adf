"""Voices made from recordings: what the transformer and the decoder know of a speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from saywell.audio.recording import prepare
from saywell.errors import BadCheckpoint, ModelFailure
from saywell.graphs.numerics import Floats
from saywell.models import cloning
from saywell.models.chatterbox.config import RATE, Config
from saywell.models.chatterbox.facts import encoder_files
from saywell.models.chatterbox.s3gen.runtime import Voice
from saywell.models.chatterbox.voice.runtime import VoiceEncoder
from saywell.models.on_demand import OnDemand
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Reference, VoiceState
from saywell.voices.store import LONGEST_S, VoiceStore

BUILT_IN = "voice-default.npz"
"""The checkpoint's own voice, if it has one."""
_ARRAYS = ("speaker_emb", "t3_prompt_tokens", "x_vector", "prompt_tokens", "prompt_mel")


def voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """Raises BadCheckpoint."""
    if spec.path is None:
        raise ModelFailure("this model needs the directory of a converted checkpoint")
    path, config = spec.path, Config.read(spec.path)
    encoder = cloning.encoder(path, encoder_files(), plan, lambda threading: VoiceEncoder(path, threading))
    model, recipe = cloning.digest(path, encoder_files()), f"fp32, {config.kind}"
    return cloning.store(spec, plan, ReferenceEncoder(config, encoder), model=model, recipe=recipe)


def t3_voice(state: VoiceState) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Speaker embedding and prompt tokens."""
    return state.arrays["speaker_emb"], state.arrays["t3_prompt_tokens"].astype(np.int64)


def decoder_voice(state: VoiceState) -> Voice:
    arrays = state.arrays
    return Voice(arrays["prompt_tokens"].astype(np.int64), arrays["prompt_mel"], arrays["x_vector"])


def built_in(path: Path) -> VoiceState | None:
    """The checkpoint's own voice. Raises BadCheckpoint."""
    if not (path / BUILT_IN).is_file():
        return None
    try:
        with np.load(path / BUILT_IN) as file:
            return VoiceState.of({name: file[name] for name in _ARRAYS})
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BadCheckpoint(f"{BUILT_IN} is damaged; run `saywell convert` again") from error


class ReferenceEncoder:
    """Makes voice states with the encoders, which take 0.6 GB at full size."""

    def __init__(self, config: Config, encoder: OnDemand[VoiceEncoder]) -> None:
        self._config, self._encoder = config, encoder

    def __call__(self, reference: Reference) -> VoiceState:
        """Raises InvalidRequest if the recording holds no speech or too little of it, OutOfMemory, GraphError."""
        samples, rate = np.frombuffer(reference.pcm, np.float32), reference.sample_rate
        prepare(samples, rate, RATE, LONGEST_S)  # refuses what is no speech; the networks hear the clip as it is
        with self._encoder.get() as encode:
            arrays = encode(samples, rate, self._config.kind)
        return VoiceState.of({name: arrays[name] for name in _ARRAYS}, {"transcript": reference.transcript})
