"""Adapts a synthesiser that speaks a whole sequence in one run to the contract of Model, with a pool of threads.

A family provides a generator `speak(sequence)` of pieces of samples. Generators of several sequences run concurrently;
one generator may be resumed by different threads, but never by two at once. An exception ends the request of its
sequence alone. Every generator is closed in the end.
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
"""Pieces of a sequence that are made ahead of the engine."""
STEP_S = 0.05
"""How long a step waits for a piece; between steps sequences join and leave."""

Speak = Callable[[Sequence], Generator[Samples, None, None]]


@dataclass(slots=True, eq=False)
class _State:
    """A sequence being spoken."""

    pieces: Generator[Samples, None, None]
    made: deque[Future[Samples | None]] = field(default_factory=deque)
    """Pieces made, in progress or queued, in order. None as a result: the end."""
    pending: bool = False
    """The last of them is queued or in progress."""
    over: bool = False
    """No further piece will be queued."""


class SingleShot:
    """Base class of single-shot models. The subclass adds `spec`, `voices` and `prepare`."""

    live = frozenset({"threads"})

    def __init__(self, speak: Speak, plan: Plan, *, threads: Callable[[Plan], int] = lambda plan: plan.threads) -> None:
        """`threads`: how many generators may run at the same time."""
        self._speak = speak
        self._plan = plan
        self._threads = threads
        self._pool = self._make_pool(plan)
        self._waiting: list[tuple[int, bool, int, Sequence, _State]] = []
        """Queued pieces, a heap ordered by urgency; each task of the pool takes one."""
        self._live: set[_State] = set()
        """Those whose generators are not closed yet."""
        self._count = count()
        self._lock = Lock()

    def prefill(self, started: list[Sequence]) -> None:
        """Queue the first piece of each."""
        for sequence in started:
            sequence.state = _State(self._speak(sequence))
            with self._lock:
                self._live.add(sequence.state)
                self._enqueue(sequence)

    def step(self, batch: list[Sequence]) -> list[Frame]:
        """The pieces that are ready, at most one per sequence. The next ones are queued."""
        waited = {sequence.state.made[0]: sequence for sequence in batch}
        done, _ = wait(waited, STEP_S, FIRST_COMPLETED)
        failed = next((future for future in waited if future in done and future.exception() is not None), None)
        if failed is not None:  # before a frame of another sequence is consumed
            raise _failure(waited[failed], failed.exception()) from failed.exception()
        return [self._frame(sequence) for future, sequence in waited.items() if future in done]

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        """Concatenates: the frames are samples already."""
        return [_joined([frame.data for frame in job.frames if frame.data is not None]) for job in jobs]

    def adapt(self, plan: Plan) -> None:
        """Replace the pool if the number of threads or their CPUs change."""
        before, self._plan = self._plan, plan
        if (self._threads(plan), plan.affinity) != (self._threads(before), before.affinity):
            with self._lock:  # a piece must not be submitted to the old pool after its shutdown
                old, self._pool = self._pool, self._make_pool(plan)
            old.shutdown(wait=False)  # it finishes its queued pieces

    def clear_caches(self) -> None:
        """Nothing: there are none."""

    def release(self, sequence: Sequence) -> None:
        """Cancel the queued pieces; a piece in progress is finished and dropped."""
        state: _State | None = sequence.state
        sequence.state = None
        if state is not None:
            with self._lock:
                state.over = True
                for piece in state.made:
                    piece.cancel()
                if not state.pending:  # else the thread that makes the piece closes the generator
                    self._pool.submit(self._end, state)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for state in list(self._live):
            self._end(state)

    def _make_pool(self, plan: Plan) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads(plan), "saywell-voice", initializer=pin, initargs=(plan.affinity,))

    def _enqueue(self, sequence: Sequence) -> None:
        """Queue the next piece, unless one is pending or AHEAD are made. The caller holds the lock.

        At equal priority, pieces of a request's first sequence come first: its listener has heard nothing yet.
        """
        state: _State | None = sequence.state
        if state is None or state.pending or state.over or len(state.made) >= AHEAD:
            return
        state.pending = True
        state.made.append(Future())
        heappush(self._waiting, (-sequence.request.priority, sequence.index > 0, next(self._count), sequence, state))
        self._pool.submit(self._make)

    def _make(self) -> None:
        with self._lock:
            *_, sequence, state = heappop(self._waiting)
            future = state.made[-1]
            wanted = not state.over and future.set_running_or_notify_cancel()
        if not wanted:
            self._end(state)
            return
        piece: Samples | None = None
        failed: BaseException | None = None
        try:
            piece = next(state.pieces, None)
        except BaseException as error:  # noqa: BLE001 - `step` reports it
            failed = error
        with self._lock:
            state.pending = False
            state.over = state.over or piece is None
            released = sequence.state is not state
            if not released:
                self._enqueue(sequence)
        if released:
            self._end(state)
        if failed is not None:
            future.set_exception(failed)
        else:
            future.set_result(piece)

    def _end(self, state: _State) -> None:
        state.pieces.close()
        self._live.discard(state)

    def _frame(self, sequence: Sequence) -> Frame:
        state: _State = sequence.state
        samples = state.made[0].result()
        if samples is None:
            return Frame(sequence, None, "stop")
        with self._lock:
            state.made.popleft()
            self._enqueue(sequence)
        return Frame(sequence, samples)


def _failure(sequence: Sequence, error: BaseException | None) -> SequenceError:
    if isinstance(error, SaywellError):
        return SequenceError(sequence, error)
    cause = ModelFailure(f"the voice failed at this text ({type(error).__name__}); other texts are not affected")
    cause.__cause__ = error  # `ran_out` looks for a lack of memory there
    _log.error("a voice failed", exc_info=error)
    return SequenceError(sequence, cause)


def _joined(pieces: list[Samples]) -> Samples:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
