"""Voices made from recordings: codes and transcript."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from saywell.audio.recording import VERSION, Prepared, beginning, prepare
from saywell.errors import BadCheckpoint, ModelFailure, OutOfMemory
from saywell.graphs.numerics import Codes
from saywell.machine.monitor import available_memory
from saywell.models.conversion import read_manifest
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert.convert import CODEC, MODEL
from saywell.models.dual_ar.facts import encoder_files
from saywell.models.dual_ar.onnx.codec_files import ENCODER
from saywell.models.dual_ar.onnx.runtime_codec import CodecEncoder, load_encoder
from saywell.models.on_demand import OnDemand
from saywell.models.verified import check_files
from saywell.plan.memory import mb
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.types import ModelSpec, Reference, VoiceState
from saywell.voices.store import VoiceStore

_log = logging.getLogger(__name__)


def voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """Raises BadCheckpoint, BadConfig."""
    if spec.path is None:
        raise ModelFailure("this model needs the directory of a converted checkpoint")
    path, config, directory = spec.path, Config.read(spec.path), plan.data_dir / "voices"

    def load() -> CodecEncoder:
        if plan.check_memory:
            _check_room(path)
        check_files(path, encoder_files(), directory)
        # Without spinning, so that an idle encoder leaves the cores to the engine.
        threading = Threading(threads=plan.threads, affinity=plan.affinity, spin=False)
        return load_encoder(path, config.codec, threading)

    return VoiceStore(
        directory,
        ReferenceEncoder(config, load),
        family=spec.family,
        model=model_digest(path),
        recipe=f"fp32, recording {VERSION}, {config.reference_seconds:g} s",
        memory_bytes=states_bytes(plan),
        memory_entries=plan.cache_entries,
    )


def state_of(codes: Codes, transcript: str) -> VoiceState:
    return VoiceState.of({"codes": codes}, {"transcript": transcript})


def spoken_in(state: VoiceState) -> tuple[str, Codes]:
    """Transcript and codes of a voice."""
    return state.meta["transcript"], state.arrays["codes"]


def states_bytes(plan: Plan) -> int:
    """The share of the plan's cache for codes: those of a voice take tens of KB, its keys and values megabytes."""
    return plan.cache_bytes // 16


class ReferenceEncoder:
    """Makes voice states with the codec's encoder, which takes 0.8 GB at full size."""

    def __init__(self, config: Config, load: Callable[[], CodecEncoder]) -> None:
        self._config = config
        self._encoder = OnDemand(load)

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


def _check_room(directory: Path) -> None:
    """Raise OutOfMemory if the encoder's weights, most of what encoding takes, exceed the available memory."""
    need = sum(file.stat().st_size for file in directory.glob(f"{ENCODER}*"))
    free = available_memory()
    if need > free:
        raise OutOfMemory(
            f"encoding a new reference needs {mb(need)} temporarily and {mb(free)} is available; close other programs "
            "or raise the memory limit",
            retry_after=5.0,
        )


def model_digest(directory: Path) -> str:
    """Digest of the weights of a converted model, from its manifest. Raises BadCheckpoint."""
    try:
        return read_manifest(directory).digest((MODEL, CODEC))
    except KeyError as error:
        raise BadCheckpoint(f"{directory} was not converted completely, it lacks {error}; convert it again") from None
