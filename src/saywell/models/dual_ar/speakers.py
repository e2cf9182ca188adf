"""Who a model can speak as: the voice without a reference, saved voices, and any recording sent with a request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np

from saywell.audio.recording import VERSION, Prepared, beginning, prepare
from saywell.errors import ModelFailure, OutOfMemory
from saywell.machine.monitor import available_memory
from saywell.models.dual_ar.config import DEFAULT, Config
from saywell.models.dual_ar.convert.convert import CODEC, MODEL, read_manifest
from saywell.models.dual_ar.convert.verified import check_files, encoder_files
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.onnx.codec_files import ENCODE
from saywell.models.dual_ar.onnx.runtime_codec import CodecEncoder, load_encoder
from saywell.plan.memory import mb
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.settings import default_data_dir
from saywell.types import ModelSpec, Reference, Samples, Voice
from saywell.voices.store import Codes, VoiceStore

_log = logging.getLogger(__name__)

LANGUAGE = "und"
"""The model speaks any of its languages with any voice, so a voice has none of its own."""
PRECISION = "fp32"
"""Of the codec's encoder."""


class Speakers:
    """Safe from any thread. Encoding a recording takes seconds; call it beside the engine's thread."""

    def __init__(
        self,
        spec: ModelSpec,
        config: Config,
        threading: Threading,
        directory: Path | None = None,
        *,
        memory_bytes: int = 16 << 20,
        memory_entries: int | None = None,
        check_memory: bool = True,
    ) -> None:
        """`directory`: where codes and saved voices are kept; None: with the user's data. `memory_…` bound the codes
        in memory. `check_memory`: refuse to load an encoder that does not fit. Raises BadCheckpoint."""
        if spec.path is None:
            raise ModelFailure("this model needs the directory of a converted checkpoint")
        path, digest = spec.path, model_digest(spec.path)
        self._config = config
        self.store = VoiceStore(
            directory or default_directory(digest),
            digest,
            f"{PRECISION}, recording {VERSION}, {config.reference_seconds:g} s",
            memory_bytes=memory_bytes,
            memory_entries=memory_entries,
        )

        def load() -> CodecEncoder:
            if check_memory:
                _check_room(path)
            check_files(path, encoder_files(), directory or default_directory(digest))
            # Between its runs the encoder must leave the cores to the engine.
            return load_encoder(path, config.codec, replace(threading, spin=False))

        self._encoder = _Encoder(load)

    def voices(self) -> tuple[Voice, ...]:
        """The default first, then the saved ones by id."""
        default = self._voice(DEFAULT, "as the model speaks without a reference")
        return (default, *(self._voice(each.id, "made of a recording") for each in self.store.named()))

    def _voice(self, voice: str, description: str) -> Voice:
        rate = self._config.codec.sample_rate
        return Voice(id=voice, name=voice, language=LANGUAGE, sample_rate=rate, description=description)

    def encode(self, reference: Reference) -> Codes:
        """Codes [num_codebooks, T] of a recording, kept for the next time.

        Raises InvalidRequest and TooLarge for what is no recording of speech, OutOfMemory, GraphError.
        """
        return self.store.codes(reference, self._encode)

    def _encode(self, reference: Reference) -> Codes:
        return self._encoder(self._prepared(reference).samples)

    def _prepared(self, reference: Reference) -> Prepared:
        config, samples = self._config, np.frombuffer(reference.pcm, np.float32)
        return prepare(samples, reference.sample_rate, config.codec.sample_rate, config.reference_seconds)

    def references(self, voice: str, reference: Reference | None = None) -> tuple[tuple[str, Codes], ...]:
        """Transcript and codes of what to speak like, `reference` before `voice`; () for the default voice.

        Raises UnknownVoice, and what `encode` raises.
        """
        if reference is not None:
            codes = self.encode(reference)
            return ((self._said(reference), codes),)
        return () if voice == DEFAULT else (self.store.load(voice),)

    def _said(self, reference: Reference) -> str:
        """What is said in the part that was encoded: words nobody has spoken yet would be spoken before the text."""
        if len(reference.pcm) // 4 <= self._config.reference_seconds * reference.sample_rate:
            return reference.transcript
        prepared = self._prepared(reference)
        if not prepared.cut:
            return reference.transcript
        kept_s = len(prepared.samples) / self._config.codec.sample_rate
        _log.warning(
            "the reference has %.0f s of speech, the model was made for %g s at most: the first %.1f s, up to a pause, "
            "and that part of the transcript are taken",
            prepared.speech_s, self._config.reference_seconds, kept_s,
        )  # fmt: skip
        return beginning(reference.transcript, kept_s / prepared.speech_s)

    def key(self, voice: str, reference: Reference | None = None) -> str:
        """Tells apart whatever `references` gives: a voice saved anew has another key. Raises UnknownVoice."""
        if reference is not None:
            return self.store.key(reference)
        return DEFAULT if voice == DEFAULT else self.store.find(voice).digest


def open_speakers(spec: ModelSpec, plan: Plan) -> Speakers:
    """The speakers of a model under a plan."""
    if spec.path is None:
        raise ModelFailure("this model needs the directory of a converted checkpoint")
    threading = Threading(threads=plan.threads, affinity=plan.affinity)
    return Speakers(
        spec,
        Config.read(spec.path),
        threading,
        plan.data_dir / "voices",
        memory_bytes=codes_bytes(plan),
        memory_entries=plan.cache_entries,
        check_memory=plan.check_memory,
    )


def codes_bytes(plan: Plan) -> int:
    """The part of the plan's caches for recordings' codes: tens of kilobytes each, a prompt's KV takes megabytes."""
    return plan.cache_bytes // 16


def _check_room(directory: Path) -> None:
    """Raise OutOfMemory unless there is room for the encoder's weights: most of what encoding a reference takes."""
    need = sum(file.stat().st_size for file in directory.glob(f"{ENCODE}*"))
    free = available_memory()
    if need > free:
        raise OutOfMemory(
            f"encoding a new reference needs {mb(need)} for a moment and {mb(free)} is available; close other programs "
            "or raise the memory limit",
            retry_after=5.0,
        )


class _Encoder:
    """The codec's encoder, 0.8 GB at full size: there while somebody uses it or waits for it, one at a time."""

    def __init__(self, load: Callable[[], CodecEncoder]) -> None:
        self._load = load
        self._turn, self._counting = Lock(), Lock()
        self._wanted = 0
        self._loaded: CodecEncoder | None = None

    def __call__(self, samples: Samples) -> Codes:
        with self._counting:
            self._wanted += 1
        try:
            with self._turn:
                if self._loaded is None:
                    self._loaded = self._load()
                return self._loaded.encode(samples)
        finally:
            with self._counting:
                self._wanted -= 1
                if not self._wanted:
                    self._loaded = None


def model_digest(directory: Path) -> str:
    """SHA-256 of all weights of a converted model, as its manifest names them. Raises BadCheckpoint."""
    try:
        return read_manifest(directory).digest((MODEL, CODEC))
    except KeyError as error:
        raise BadCheckpoint(f"{directory} was not converted to the end, it lacks {error}; convert it again") from None


def default_directory(digest: str) -> Path:
    """Where the voices of one model are kept if nothing else is asked for."""
    return default_data_dir() / "voices" / digest[:16]
