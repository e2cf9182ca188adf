"""Turns a synthesiser that speaks a whole sequence at once into a Model: pieces of samples from a pool of threads.

A family gives a function `speak(sequence) -> Iterator[Samples]`, which may be called for several sequences at the same
time, each from one thread after the other. What it raises ends the request of that sequence alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from saywell.errors import ModelFailure, SaywellError
from saywell.executors.pinning import pin
from saywell.models.base import DecodeJob, SequenceError
from saywell.plan import Plan
from saywell.types import Frame, Samples, Sequence

_log = logging.getLogger(__name__)

STEP_S = 0.05
"""How long a step waits when no piece is ready, so that others can join and leave."""

Speak = Callable[[Sequence], Iterator[Samples]]


@dataclass(slots=True, eq=False)
class _State:
    """A sequence being spoken: its pieces, and the one under way."""

    pieces: Iterator[Samples]
    next: Future[Samples | None] | None = field(default=None)
    """None as a result: there are no more."""


class SingleShot:
    """The part of Model that is the same for every such family, which inherits it and adds `spec` and `voices`."""

    def __init__(self, speak: Speak, plan: Plan) -> None:
        self._speak = speak
        self._plan = plan
        self._pool = _pool(plan)

    def prefill(self, started: list[Sequence]) -> None:
        """Begin the first piece of each."""
        for sequence in started:
            sequence.state = _State(self._speak(sequence))
            self._continue(sequence)

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """The pieces that are ready, at most one a sequence; the next of each is begun at once."""
        waited = {sequence.state.next: sequence for sequence in batch}
        done, _ = wait(waited, STEP_S, FIRST_COMPLETED)
        failed = next((future for future in waited if future in done and future.exception() is not None), None)
        if failed is not None:  # before any frame of another is taken
            raise _failure(waited[failed], failed.exception()) from failed.exception()
        return [self._frame(sequence) for future, sequence in waited.items() if future in done]

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        """Concatenates: the frames are samples already."""
        return [_joined([frame.data for frame in job.frames if frame.data is not None]) for job in jobs]

    def adapt(self, plan: Plan) -> None:
        """As many pieces at once as there are threads; no memory is set aside for slots."""
        before, self._plan = self._plan, plan
        if (plan.threads, plan.affinity) != (before.threads, before.affinity):
            self._pool.shutdown(wait=False)  # pieces under way are still finished there
            self._pool = _pool(plan)

    def empty_caches(self) -> None:
        """Nothing: no such voice keeps anything to be quicker next time."""

    def release(self, sequence: Sequence) -> None:
        """Forget a sequence; the piece under way is finished and dropped."""
        state: _State | None = sequence.state
        if state is not None and state.next is not None:
            state.next.cancel()
        sequence.state = None

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _continue(self, sequence: Sequence) -> None:
        state: _State = sequence.state
        state.next = self._pool.submit(next, state.pieces, None)

    def _frame(self, sequence: Sequence) -> Frame:
        state: _State = sequence.state
        assert state.next is not None
        samples = state.next.result()
        if samples is None:
            return Frame(sequence, None, "stop")
        self._continue(sequence)
        return Frame(sequence, samples)


def _failure(sequence: Sequence, error: BaseException | None) -> SequenceError:
    if isinstance(error, SaywellError):
        return SequenceError(sequence, error)
    cause = ModelFailure(f"the voice failed at this text ({type(error).__name__}); other texts are not affected")
    cause.__cause__ = error  # a lack of memory is known by it
    _log.error("a voice failed", exc_info=error)
    return SequenceError(sequence, cause)


def _pool(plan: Plan) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(plan.threads, "saywell-voice", initializer=pin, initargs=(plan.affinity,))


def _joined(pieces: list[Samples]) -> Samples:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
