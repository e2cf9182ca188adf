"""The wren Model: a sequence is read and timed when it begins, and each step speaks one tile of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from saywell.errors import ModelFailure, SaywellError
from saywell.executors.base import Threading
from saywell.executors.pinning import pin
from saywell.models.base import DecodeJob, SequenceError
from saywell.models.wren import VOICES, WEIGHTS
from saywell.models.wren.lexicon import lexicon
from saywell.models.wren.phones import encode
from saywell.models.wren.reader import Utterance, read
from saywell.models.wren.source import HOP, RATE
from saywell.models.wren.synth import Prosody, Speech, Synthesiser
from saywell.plan import Plan
from saywell.types import Frame, ModelSpec, Request, Samples, Sequence, Timestamp, Voice


@dataclass(slots=True, eq=False)
class _State:
    speech: Speech


class WrenModel:
    """Implements Model. Sequences share nothing, not even a matrix product, so a batch cannot change a sound."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        self.spec = spec
        place = spec.path or WEIGHTS
        try:
            self._synthesiser = Synthesiser(place, Threading(threads=1))
        except (OSError, ValueError, KeyError) as error:
            raise ModelFailure(f"the weights of {spec.name} cannot be read ({type(error).__name__})") from error
        self._plan = plan
        self._tiles = _pool(plan)
        lexicon()  # now, not while the first listener waits

    def voices(self) -> tuple[Voice, ...]:
        return tuple(
            Voice(
                id=voice,
                name=name,
                language="en-US" if voice != "awb" else "en-GB",
                sample_rate=RATE,
                description=description,
            )
            for voice, (name, description) in VOICES.items()
        )

    def prepare(self, request: Request) -> None:
        """Nothing: these voices take no reference."""

    def prefill(self, started: list[Sequence]) -> None:
        for sequence in started:
            try:
                sequence.state = self._begin(sequence)
            except SaywellError as error:
                raise SequenceError(sequence, error) from error

    def _begin(self, sequence: Sequence) -> _State:
        """Read the text and decide how long everything lasts. Raises InvalidText."""
        utterance = read(sequence.text)
        speaker = self._synthesiser.speakers.index(sequence.voice.id)
        prosody = self._synthesiser.prosody(encode(utterance.symbols), speaker, sequence.request.speed)
        if sequence.request.timestamps:
            sequence.timestamps = timestamps(utterance, prosody)
        return _State(self._synthesiser.begin(prosody, sequence.seed))

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """The next tile of each sequence: a third of a second first, then about a second, a few milliseconds' work.

        One arithmetic thread a tile: the products are too small to be shared out, and sequences are not.
        """
        return [self._frame(batch[0])] if len(batch) == 1 else list(self._tiles.map(self._frame, batch))

    def _frame(self, sequence: Sequence) -> Frame:
        speech: Speech = sequence.state.speech
        samples = self._synthesiser.speak(speech)
        return Frame(sequence, samples, "stop" if speech.over else None)

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        """Concatenates: the frames are samples already."""
        return [_joined([frame.data for frame in job.frames if frame.data is not None]) for job in jobs]

    def adapt(self, plan: Plan) -> None:
        """As many tiles at once as there are threads; no memory is set aside for slots."""
        before, self._plan = self._plan, plan
        if (plan.threads, plan.affinity) != (before.threads, before.affinity):
            self._tiles.shutdown()
            self._tiles = _pool(plan)

    def release(self, sequence: Sequence) -> None:
        sequence.state = None

    def close(self) -> None:
        self._tiles.shutdown()


def _pool(plan: Plan) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(plan.threads, "saywell-wren", initializer=pin, initargs=(plan.affinity,))


def timestamps(utterance: Utterance, prosody: Prosody) -> tuple[Timestamp, ...]:
    """When each word and phone sounds, in seconds from the first sample."""
    ends = [float(end) * HOP / RATE for end in prosody.ends]
    starts = [0.0, *ends[:-1]]
    return tuple(
        Timestamp(
            text=word.text,
            start_s=starts[word.start],
            end_s=ends[word.end - 1],
            phones=tuple((utterance.symbols[at], starts[at], ends[at]) for at in range(word.start, word.end)),
        )
        for word in utterance.words
    )


def _joined(pieces: list[Samples]) -> Samples:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
