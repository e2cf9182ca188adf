"""Voices made from recordings: codes and transcript."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from saywell.audio.recording import VERSION, Prepared, beginning, prepare
from saywell.errors import ModelFailure
from saywell.graphs.numerics import Codes
from saywell.models import cloning
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert.convert import CODEC, MODEL
from saywell.models.dual_ar.facts import encoder_files
from saywell.models.dual_ar.onnx.runtime_codec import CodecEncoder, load_encoder
from saywell.models.on_demand import OnDemand
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Reference, VoiceState
from saywell.voices.store import VoiceStore

_log = logging.getLogger(__name__)


def voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """Raises BadCheckpoint, BadConfig."""
    if spec.path is None:
        raise ModelFailure("this model needs the directory of a converted checkpoint")
    path, config = spec.path, Config.read(spec.path)
    encoder = cloning.encoder(
        path, encoder_files(), plan, lambda threading: load_encoder(path, config.codec, threading)
    )
    recipe = f"fp32, recording {VERSION}, {config.reference_seconds:g} s"
    return cloning.store(spec, plan, ReferenceEncoder(config, encoder), model=model_digest(path), recipe=recipe)


def model_digest(directory: Path) -> str:
    """Digest of the weights of a converted model. Raises BadCheckpoint."""
    return cloning.digest(directory, (MODEL, CODEC))


def state_of(codes: Codes, transcript: str) -> VoiceState:
    return VoiceState.of({"codes": codes}, {"transcript": transcript})


def spoken_in(state: VoiceState) -> tuple[str, Codes]:
    """Transcript and codes of a voice."""
    return state.meta["transcript"], state.arrays["codes"]


class ReferenceEncoder:
    """Makes voice states with the codec's encoder, which takes 0.8 GB at full size."""

    def __init__(self, config: Config, encoder: OnDemand[CodecEncoder]) -> None:
        self._config, self._encoder = config, encoder

    def __call__(self, reference: Reference) -> VoiceState:
        """Raises InvalidRequest if the recording holds no speech, OutOfMemory, GraphError."""
        config = self._config
        samples = np.frombuffer(reference.pcm, np.float32)
        prepared = prepare(samples, reference.sample_rate, config.codec.sample_rate, config.reference_seconds)
        with self._encoder.get() as encoder:
            codes = encoder.encode(prepared.samples)
        if not codes.size:
            raise ModelFailure("the codec gave no codes for the reference")
        return state_of(codes, self._transcript(reference, prepared))

    def _transcript(self, reference: Reference, prepared: Prepared) -> str:
        """The transcript of the part that was encoded: the model would speak the rest of it before the text."""
        if not prepared.cut:
            return reference.transcript
        kept_s = len(prepared.samples) / self._config.codec.sample_rate
        _log.warning(
            "the reference has %.0f s of speech, the model was made for %g s at most: using the first %.1f s, up to a "
            "pause, and that part of the transcript",
            prepared.speech_s, self._config.reference_seconds, kept_s,
        )  # fmt: skip
        return beginning(reference.transcript, kept_s / prepared.speech_s)
