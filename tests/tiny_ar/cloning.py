"""The tiny family with cloned voices: three arrays of different dtypes, all of which change the sound."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Reference, Request, Sequence, Voice, VoiceState
from saywell.voices.store import VoiceStore
from tiny_ar import family
from tiny_ar.graphs import HIDDEN


def spec(name: str, path: Path | None) -> ModelSpec:
    facts = family.spec(name, path)
    return replace(facts, family="tiny_ar.cloning", clones=True)


def load(spec: ModelSpec, plan: Plan) -> CloningModel:
    return CloningModel(spec, plan)


def voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore:
    return VoiceStore(plan.data_dir / "voices", encode, family=spec.family, model="tiny", recipe="1")


def encode(reference: Reference) -> VoiceState:
    samples = np.frombuffer(reference.pcm, np.float32)
    bands = np.abs(np.fft.rfft(samples, 2 * HIDDEN))[:HIDDEN]
    arrays = {
        "speaker": (bands / bands.max()).astype(np.float32),
        "prompt": samples[: 4 * HIDDEN].reshape(4, HIDDEN).astype(np.float16),
        "loudness": np.array(np.sqrt(np.mean(samples**2, dtype=np.float64))),
    }
    return VoiceState.of(arrays, {"transcript": reference.transcript, "thread": threading.current_thread().name})


class CloningModel(family.TinyModel):
    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        super().__init__(spec, plan)
        self.seen: list[VoiceState | None] = []
        self._saved = voice_store(spec, plan)

    def voices(self) -> tuple[Voice, ...]:
        return (*family.VOICES, *(replace(family.VOICES[0], id=each, name=each) for each in self._saved.named()))

    def prepare(self, request: Request) -> VoiceState | None:
        if request.reference is not None:
            return self._saved.encode(request.reference)
        built_in = {voice.id for voice in family.VOICES}
        return None if request.voice is None or request.voice in built_in else self._saved.load(request.voice)

    def clear_caches(self) -> None:
        self._saved.clear_memory()

    def _read(self, sequence: Sequence) -> np.ndarray:
        state = sequence.voice_state
        self.seen.append(state)
        if state is None:
            return super()._read(sequence)
        hidden = super()._read(replace(sequence, voice=family.VOICES[0]))
        prompt = state.arrays["prompt"].astype(np.float32).mean(axis=0)
        return hidden + state.arrays["speaker"] + prompt + np.float32(state.arrays["loudness"])
