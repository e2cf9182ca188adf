"""Which sequences share the next step: queues and slots, and not one tensor."""

from __future__ import annotations

from saywell.engine.request_state import RequestState
from saywell.types import Sequence

_MANY = 4
"""Slots from which on one of them is worth keeping free: a fifth of the work at most."""


class Scheduler:
    """Gives `slots` slots to the sequences of the requests it holds; at most `lookahead` to one request."""

    def __init__(self, slots: int, lookahead: int) -> None:
        self.slots = slots
        self.hold = False
        """Only requests that have started get slots."""
        self._lookahead = lookahead
        self._free = list(range(slots - 1, -1, -1))
        self._requests: dict[str, RequestState] = {}
        self._running: dict[Sequence, RequestState] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to say: a request that waits for the next piece of its text has nothing."""
        return any(not state.starved for state in self._requests.values())

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        # A copy, taken in one step: this is read from other threads while the engine's adds and removes.
        return sum(1 for state in self.requests() if state.more and not state.running)

    @property
    def starved(self) -> int:
        return sum(1 for state in self.requests() if state.starved)

    def requests(self) -> list[RequestState]:
        return list(self._requests.values())

    def request(self, request_id: str) -> RequestState | None:
        return self._requests.get(request_id)

    @property
    def started(self) -> bool:
        """Whether a request is under way, between its first sequence and its last."""
        return any(state.started for state in self._requests.values())

    def resize(self, slots: int, lookahead: int) -> None:
        """Use fewer slots than there are, or all of them again. Who holds one keeps it to the end."""
        self.slots, self._lookahead = slots, lookahead

    def add(self, state: RequestState) -> None:
        self._requests[state.request.id] = state

    def next_request(self) -> RequestState | None:
        """Who gets the next free slot: higher priority first, then who has not started, so that no first word waits
        behind a long text; then whose listener would be the first to hear nothing more; then who came first."""
        if not self._free:
            return None
        able = [
            state
            for state in self._requests.values()
            if len(self._running) < self._limit(state)
            and state.running < self._lookahead
            and state.wants_slot
            and (state.started or not self.hold)
        ]
        # min() keeps the first of equals, and a dict keeps the order of arrival.
        return min(able, key=lambda state: (-state.request.priority, state.started, state.heard_until), default=None)

    def _limit(self, state: RequestState) -> int:
        """Sequences beside which a request may start another: of many slots the last one is for those who have not
        started, and of the slots that pressure has taken away they may have one."""
        if not state.started:
            return self.slots + 1
        return self.slots - 1 if self.slots >= _MANY else self.slots

    def schedule(self, state: RequestState) -> Sequence:
        """The next sequence, in a free slot. Raises what preparing its text raises; the slot stays free then."""
        sequence = state.next_sequence(self._free[-1])
        self._free.pop()
        self._running[sequence] = state
        return sequence

    def batch(self) -> list[Sequence]:
        """The running sequences, by slot."""
        return sorted(self._running, key=lambda sequence: sequence.slot)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence's slot back."""
        if self._running.pop(sequence, None) is not None:
            self._free.append(sequence.slot)

    def remove(self, state: RequestState) -> list[Sequence]:
        """Forget a request; its sequences that still hold slots, which are now free."""
        self._requests.pop(state.request.id, None)
        held = [sequence for sequence, owner in self._running.items() if owner is state]
        for sequence in held:
            self.finish(sequence)
        return held
