"""Turns a synthesiser that speaks a whole sequence at once into a Model: pieces of samples from a pool of threads.

A family gives a generator `speak(sequence)` of samples, which may run for several sequences at the same time, each from
one thread after the other. What it raises ends the request of that sequence alone; it is closed when that is over.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from threading import Lock

import numpy as np

from saywell.errors import ModelFailure, SaywellError
from saywell.models.base import DecodeJob, SequenceError
from saywell.plan.plan import Plan
from saywell.runtimes.pinning import pin
from saywell.types import Frame, Samples, Sequence

_log = logging.getLogger(__name__)

AHEAD = 2
"""Pieces of a sequence that are made before the engine takes the first of them."""
STEP_S = 0.05
"""How long a step waits when no piece is ready, so that others can join and leave."""

Speak = Callable[[Sequence], Generator[Samples, None, None]]


@dataclass(slots=True, eq=False)
class _State:
    """A sequence being spoken."""

    pieces: Generator[Samples, None, None]
    made: deque[Future[Samples | None]] = field(default_factory=deque)
    """Pieces that are made, being made or asked for, in order. None as a result: there are no more."""
    asked: bool = False
    """The last of them is not made yet: a sequence is spoken by one thread after the other."""
    over: bool = False
    """Nothing more is asked for."""


class SingleShot:
    """The part of Model that is the same for every such family, which inherits it and adds `spec` and `voices`."""

    live = frozenset({"threads"})

    def __init__(self, speak: Speak, plan: Plan, *, threads: Callable[[Plan], int] = lambda plan: plan.threads) -> None:
        """`threads`: how many sequences may be spoken at the same moment."""
        self._speak = speak
        self._plan = plan
        self._threads = threads
        self._pool = self._make_pool(plan)
        self._waiting: list[tuple[int, bool, int, Sequence, _State]] = []
        """Pieces no thread has begun, the most urgent first: a heap, of which each task of the pool takes one."""
        self._live: set[_State] = set()
        """Whose generators are not closed yet."""
        self._count = count()
        self._turn = Lock()

    def prefill(self, started: list[Sequence]) -> None:
        """Begin the first piece of each."""
        for sequence in started:
            sequence.state = _State(self._speak(sequence))
            with self._turn:
                self._live.add(sequence.state)
                self._ask(sequence)

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """The pieces that are ready, at most one a sequence; the next of each is begun at once."""
        waited = {sequence.state.made[0]: sequence for sequence in batch}
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
        if (self._threads(plan), plan.affinity) != (self._threads(before), before.affinity):
            with self._turn:  # or a piece could be asked of a pool that takes none
                old, self._pool = self._pool, self._make_pool(plan)
            old.shutdown(wait=False)  # pieces under way are still finished there

    def clear_caches(self) -> None:
        """Nothing: no such voice keeps anything to be quicker next time."""

    def release(self, sequence: Sequence) -> None:
        """Forget a sequence; the piece under way is finished and dropped."""
        state: _State | None = sequence.state
        sequence.state = None
        if state is not None:
            with self._turn:
                state.over = True
                for piece in state.made:
                    piece.cancel()
                if not state.asked:  # else whoever makes the piece closes it
                    self._pool.submit(self._end, state)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for state in list(self._live):
            self._end(state)

    def _make_pool(self, plan: Plan) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads(plan), "saywell-voice", initializer=pin, initargs=(plan.affinity,))

    def _ask(self, sequence: Sequence) -> None:
        """Let a thread make the next piece, unless one does or enough are there. Under the lock.

        Those of a text's first sequence come before all others: somebody waits for his first sound, while the others
        have something to hear.
        """
        state: _State | None = sequence.state
        if state is None or state.asked or state.over or len(state.made) >= AHEAD:
            return
        state.asked = True
        state.made.append(Future())
        heappush(self._waiting, (-sequence.request.priority, sequence.index > 0, next(self._count), sequence, state))
        self._pool.submit(self._make)

    def _make(self) -> None:
        with self._turn:
            *_, sequence, state = heappop(self._waiting)
            future = state.made[-1]
            wanted = not state.over and future.set_running_or_notify_cancel()
        if not wanted:
            self._end(state)
            return
        found: Samples | None = None
        failed: BaseException | None = None
        try:
            found = next(state.pieces, None)
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
            failed = error
        with self._turn:
            state.asked = False
            state.over = state.over or found is None
            released = sequence.state is not state
            if not released:
                self._ask(sequence)
        if released:
            self._end(state)
        if failed is not None:
            future.set_exception(failed)
        else:
            future.set_result(found)

    def _end(self, state: _State) -> None:
        state.pieces.close()
        self._live.discard(state)

    def _frame(self, sequence: Sequence) -> Frame:
        state: _State = sequence.state
        samples = state.made[0].result()
        if samples is None:
            return Frame(sequence, None, "stop")
        with self._turn:
            state.made.popleft()
            self._ask(sequence)
        return Frame(sequence, samples)


def _failure(sequence: Sequence, error: BaseException | None) -> SequenceError:
    if isinstance(error, SaywellError):
        return SequenceError(sequence, error)
    cause = ModelFailure(f"the voice failed at this text ({type(error).__name__}); other texts are not affected")
    cause.__cause__ = error  # a lack of memory is known by it
    _log.error("a voice failed", exc_info=error)
    return SequenceError(sequence, cause)


def _joined(pieces: list[Samples]) -> Samples:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
