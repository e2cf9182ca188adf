"""The eSpeak NG Model: each utterance is spoken by a process of its own."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from saywell.errors import InvalidText, MissingDependency, ModelFailure, by_code
from saywell.models.espeak.children import START_S, Child, ChildDiedError, Children
from saywell.models.espeak.messages import Answer, Failed, KnownVoice, ListVoices, Piece, Voices
from saywell.models.single_shot import SingleShot
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Request, Samples, Sequence, Voice

_LOOK_S = 0.1
"""How often a thread that waits for a process looks whether anybody still wants to hear it."""
NOT_INSTALLED = (
    "eSpeak NG is not installed: run `pip install 'saywell[espeak]'`, or install the package espeak-ng of your system"
)


class EspeakModel(SingleShot):
    """Implements Model. Seeds and `request.language` change nothing: the voice decides."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        """Raises MissingDependency, ModelFailure."""
        self._hang_s = plan.hang_s
        self._children = Children(plan.max_batch_size)
        self._known = {voice.id: voice for voice in self._list_voices()}
        if not self._known:
            self._children.close()
            raise MissingDependency(NOT_INSTALLED)
        default = next(iter(self._known.values()))
        self.spec = replace(spec, default_voice=default.id, sample_rate=default.sample_rate)
        super().__init__(
            self._speak_sequence, plan, threads=lambda plan: plan.max_batch_size
        )  # they only wait for processes

    def voices(self) -> tuple[Voice, ...]:
        return tuple(
            Voice(id=v.id, name=v.name, language=v.language, sample_rate=v.sample_rate, description=v.description)
            for v in self._known.values()
        )

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def adapt(self, plan: Plan) -> None:
        """Fewer slots need fewer processes."""
        self._children.resize(plan.max_batch_size)
        super().adapt(plan)

    def close(self) -> None:
        self._children.close()
        super().close()

    def _list_voices(self) -> list[KnownVoice]:
        """Start the first process and ask it for its voices."""
        child = self._children.take()
        try:
            child.send(ListVoices())
            answer = child.receive(START_S)
        except ChildDiedError as death:
            self._children.drop(child)
            raise ModelFailure(f"the speech process cannot list its voices: {death}") from death
        if not isinstance(answer, Voices):
            self._children.drop(child)
            raise ModelFailure(f"the speech process did not list its voices within {START_S:g} s")
        self._children.give_back(child)
        return answer.voices

    def _speak_sequence(self, sequence: Sequence) -> Generator[Samples, None, None]:
        """Raises InvalidText, ModelFailure and what the process tells."""
        if any("\ud800" <= char <= "\udfff" for char in sequence.text):
            raise InvalidText("the text holds half a surrogate pair", param="text")
        child = self._begin(sequence)
        speaking = True
        try:
            while speaking:
                message = self._next(child, sequence)
                speaking = not (isinstance(message, Failed) or (isinstance(message, Piece) and message.last))
                if not speaking:
                    self._children.give_back(child)
                if message is None:
                    return  # nobody listens any more
                if isinstance(message, Failed):
                    raise by_code()[message.code](message.message)
                if isinstance(message, Piece) and message.pcm:
                    yield np.frombuffer(message.pcm, np.int16).astype(np.float32) / np.float32(32768)
        except ChildDiedError as death:
            raise ModelFailure(f"voice {sequence.voice.id} failed: {death}; other texts are not affected") from death
        finally:
            if speaking:
                self._children.stop(child)

    def _next(self, child: Child, sequence: Sequence) -> Answer | None:
        """What a process says next; None once the sequence is released. Raises ChildDiedError."""
        until = time.monotonic() + self._hang_s
        while sequence.state is not None:
            if (message := child.receive(_LOOK_S)) is not None:
                return message
            if time.monotonic() > until:
                raise ChildDiedError(f"no sound for {self._hang_s:g} s, so its process was ended")
        return None

    def _begin(self, sequence: Sequence) -> Child:
        """A process that has begun to speak."""
        voice = self._known[sequence.voice.id]
        while True:
            child = self._children.take()
            fresh = child.number == 0
            try:
                child.speak(sequence.text, voice.source, voice.sample_rate, sequence.request.speed)
            except ChildDiedError as death:  # while idle: no fault of this text
                self._children.drop(child)
                if fresh:
                    raise ModelFailure(f"the speech process could not be started: {death}") from death
            else:
                return child
