"""Voices made from recordings: what the transformer and the decoder know of a speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from saywell.audio.recording import prepare
from saywell.errors import BadCheckpoint, ModelFailure, OutOfMemory
from saywell.graphs.numerics import Floats
from saywell.machine.monitor import available_memory
from saywell.models.chatterbox.config import RATE, Config
from saywell.models.chatterbox.s3gen.runtime import Voice
from saywell.models.chatterbox.voice.files import GRAPHS
from saywell.models.chatterbox.voice.runtime import VoiceEncoder
from saywell.models.conversion import read_manifest
from saywell.models.on_demand import OnDemand
from saywell.models.verified import check_files
from saywell.plan.memory import mb
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.types import ModelSpec, Reference, VoiceState
from saywell.voices.store import LONGEST_S, VoiceStore

BUILT_IN = "voice-default.npz"
"""The checkpoint's own voice, if it has one."""
_ARRAYS = ("speaker_emb", "t3_prompt_tokens", "x_vector", "prompt_tokens", "prompt_mel")


def voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """Raises BadCheckpoint."""
    if spec.path is None:
        raise ModelFailure("this model needs the directory of a converted checkpoint")
    path, config, directory = spec.path, Config.read(spec.path), plan.data_dir / "voices"
    files = [name for graph in GRAPHS for name in (graph, f"{graph}.data")]

    def load() -> VoiceEncoder:
        if plan.check_memory:
            _check_room(path, files)
        check_files(path, files, directory)
        # Without spinning, so that an idle encoder leaves the cores to the engine.
        return VoiceEncoder(path, Threading(threads=plan.threads, affinity=plan.affinity, spin=False))

    return VoiceStore(
        directory,
        ReferenceEncoder(config, OnDemand(load)),
        family=spec.family,
        model=_digest(path, files),
        recipe=f"fp32, {config.kind}",
        memory_bytes=states_bytes(plan),
        memory_entries=plan.cache_entries,
    )


def states_bytes(plan: Plan) -> int:
    """The share of the plan's cache for voice states: those take half a megabyte, a voice's keys and values tens."""
    return plan.cache_bytes // 16


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


def _check_room(directory: Path, files: list[str]) -> None:
    """Raise OutOfMemory if the encoders' weights, most of what encoding takes, exceed the available memory."""
    need = sum((directory / name).stat().st_size for name in files)
    free = available_memory()
    if need > free:
        raise OutOfMemory(
            f"encoding a new reference needs {mb(need)} temporarily and {mb(free)} is available; close other programs "
            "or raise the memory limit",
            retry_after=5.0,
        )


def _digest(directory: Path, files: list[str]) -> str:
    """Of the encoders. Raises BadCheckpoint."""
    try:
        return read_manifest(directory).digest(files)
    except KeyError as error:
        raise BadCheckpoint(f"{directory} was not converted completely, it lacks {error}; convert it again") from None
