"""The eSpeak NG Model: each utterance is spoken by a process of its own."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from saywell.errors import InvalidText, MissingDependency, ModelFailure, by_code
from saywell.models.espeak import NOT_INSTALLED
from saywell.models.espeak.children import Child, ChildDiedError, Children
from saywell.models.espeak.messages import Answer, End, Piece, Speak
from saywell.models.single_shot import SingleShot
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Request, Samples, Sequence, Voice

_CHECK_S = 0.1
"""How often a thread that waits for a process checks whether the sequence was released."""


class EspeakModel(SingleShot):
    """Implements Model. Seeds and `request.language` have no effect: the voice determines both."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        """Raises MissingDependency, ModelFailure."""
        self._hang_s = plan.hang_s
        self._children = Children(plan.max_batch_size)
        first = self._children.take()
        self._children.release(first, ended=True)
        self._known = {voice.id: voice for voice in first.voices}
        if not self._known:
            self._children.close()
            raise MissingDependency(NOT_INSTALLED)
        default = next(iter(self._known.values()))
        self.spec = replace(spec, default_voice=default.id, sample_rate=default.sample_rate)
        # The threads only wait for processes.
        super().__init__(self._speak_sequence, plan, threads=lambda plan: plan.max_batch_size)

    def voices(self) -> tuple[Voice, ...]:
        return tuple(
            Voice(id=v.id, name=v.name, language=v.language, sample_rate=v.sample_rate, description="eSpeak NG")
            for v in self._known.values()
        )

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def adapt(self, plan: Plan) -> None:
        self._children.resize(plan.max_batch_size)
        super().adapt(plan)

    def close(self) -> None:
        self._children.close()
        super().close()

    def _speak_sequence(self, sequence: Sequence) -> Generator[Samples, None, None]:
        """Raises InvalidText, ModelFailure and the errors that the process reports."""
        if any("\ud800" <= char <= "\udfff" for char in sequence.text):
            raise InvalidText("the text contains an unpaired surrogate", param="text")
        voice = self._known[sequence.voice.id]
        child = self._children.take()
        end: End | None = None
        try:
            child.send(Speak(sequence.text, voice.source, voice.sample_rate, sequence.request.speed))
            while end is None:
                message = self._next(child, sequence)
                if isinstance(message, Piece):
                    yield np.frombuffer(message.pcm, np.int16).astype(np.float32) / np.float32(32768)
                elif isinstance(message, End):
                    end = message
                else:
                    return  # the sequence was released
        except ChildDiedError as death:
            raise ModelFailure(f"voice {sequence.voice.id} failed: {death}; other texts are not affected") from death
        finally:
            self._children.release(child, ended=end is not None)
        if end.error:
            raise by_code()[end.error](end.message)

    def _next(self, child: Child, sequence: Sequence) -> Answer | None:
        """The next message of a process; None once the sequence is released. Raises ChildDiedError."""
        deadline = time.monotonic() + self._hang_s
        while sequence.state is not None:
            if (message := child.receive(_CHECK_S)) is not None:
                return message
            if time.monotonic() > deadline:
                raise ChildDiedError(f"no sound for {self._hang_s:g} s, so its process was ended")
        return None
