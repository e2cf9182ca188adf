"""Which sequences share the next step: queues and slots. Touches no tensor."""

from __future__ import annotations

from saywell.engine.request_state import RequestState
from saywell.types import Sequence

_MANY = 4
"""With at least this many slots one is kept free for new requests."""


class Scheduler:
    """Assigns `slots` slots to the sequences of its requests, at most `per_request` to one request."""

    def __init__(self, slots: int, per_request: int) -> None:
        self.slots = slots
        self.hold = False
        """If set, only requests that have started get slots."""
        self._per_request = per_request
        self._free = list(range(slots - 1, -1, -1))
        self._requests: dict[str, RequestState] = {}
        self._running: dict[Sequence, RequestState] = {}

    def __bool__(self) -> bool:
        """Whether any request has text to be spoken, other than those that wait for more text."""
        return any(not state.starved for state in self._requests.values())

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        # `requests` copies in one step: other threads call this while the engine's thread adds and removes.
        return sum(state.more and not state.running for state in self.requests())

    @property
    def starved(self) -> int:
        return sum(state.starved for state in self.requests())

    def requests(self) -> list[RequestState]:
        return list(self._requests.values())

    def request(self, request_id: str) -> RequestState | None:
        return self._requests.get(request_id)

    @property
    def started(self) -> bool:
        """Whether any request has been given its first slot and is not over."""
        return any(state.started for state in self._requests.values())

    def resize(self, slots: int, per_request: int) -> None:
        """Change the limits, up to the original number of slots. Running sequences keep their slots to the end."""
        self.slots, self._per_request = slots, per_request

    def add(self, state: RequestState) -> None:
        self._requests[state.request.id] = state

    def next_request(self) -> RequestState | None:
        """The request that gets the next free slot: higher priority first; then requests that have not started, so that
        no first audio waits behind a long text; then the one whose audio runs out first; then in order of arrival."""
        if not self._free:
            return None
        eligible = [
            state
            for state in self._requests.values()
            if len(self._running) < self._limit(state)
            and state.running < self._per_request
            and state.wants_slot
            and (state.started or not self.hold)
        ]
        # min() keeps the first of equals, and a dict keeps the order of arrival.
        return min(
            eligible, key=lambda state: (-state.request.priority, state.started, state.heard_until), default=None
        )

    def _limit(self, state: RequestState) -> int:
        """The most running sequences for a request to start another. One slot is reserved for requests that have not
        started: the last of many slots, or one of those that a degraded plan no longer uses."""
        if not state.started:
            return self.slots + 1
        return self.slots - 1 if self.slots >= _MANY else self.slots

    def schedule(self, state: RequestState) -> Sequence:
        """Put the request's next sequence in a free slot. If preparing its text raises, the slot stays free."""
        sequence = state.next_sequence(self._free[-1])
        self._free.pop()
        self._running[sequence] = state
        return sequence

    def batch(self) -> list[Sequence]:
        """The running sequences, by slot."""
        return sorted(self._running, key=lambda sequence: sequence.slot)

    def finish(self, sequence: Sequence) -> None:
        """Free a sequence's slot."""
        if self._running.pop(sequence, None) is not None:
            self._free.append(sequence.slot)

    def remove(self, state: RequestState) -> list[Sequence]:
        """Remove a request and free its slots; returns the sequences that held them."""
        self._requests.pop(state.request.id, None)
        held = [sequence for sequence, owner in self._running.items() if owner is state]
        for sequence in held:
            self.finish(sequence)
        return held
