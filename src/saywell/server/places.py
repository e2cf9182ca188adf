"""Limits on concurrent responses, in total and per client, and which response is dropped when the limit is reached.

Synthesis is much faster than playback, so most open responses need no work. They cost a connection and some memory,
and a listener may pause for as long as no new request needs the place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from saywell.engine.stream import Stream
from saywell.errors import TooManyRequests

_log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Client:
    """A client: the index of its API key, if the server has any, and its network address."""

    key: int | None
    address: str


class Place:
    """The place of one response, from the request until its last byte is sent."""

    def __init__(self, client: Client, hang_up: Callable[[float], None], clock: Callable[[], float]) -> None:
        """`hang_up(grace_s)` closes the connection."""
        self.client = client
        self.stream: Stream | None = None
        """The synthesis; None until it is submitted."""
        self.lost = False
        """The place was given to another response and the connection was closed."""
        self._hang_up = hang_up
        self._clock = clock
        self._taken_s = 0.0
        self._blocked_s = 0.0
        self._blocked_since: float | None = None

    @property
    def due(self) -> bool:
        """Whether the engine still has work to do for this response."""
        return self.stream is not None and not self.stream.ended and self.stream.window.wants_more()

    @property
    def blocked(self) -> bool:
        """Whether a send is waiting for the listener to read."""
        return self._blocked_since is not None

    @property
    def behind_s(self) -> float:
        """Seconds the listener is behind real-time playback: time spent waiting for it minus audio it has taken."""
        waiting = self._clock() - self._blocked_since if self._blocked_since is not None else 0.0
        return self._blocked_s + waiting - self._taken_s

    async def put(self, send: Send, message: MutableMapping[str, Any], audio_s: float) -> None:
        """Send a message with `audio_s` seconds of audio; waits until the listener has taken earlier data."""
        began = self._blocked_since = self._clock()
        try:
            await send(message)
        finally:
            self._blocked_since = None
        self._blocked_s += self._clock() - began
        self._taken_s += audio_s

    def lose(self) -> None:
        self.lost = True
        self._hang_up(0.0)


class Places:
    """Used from the event loop only."""

    def __init__(
        self,
        most: int,
        patience_s: float,
        *,
        each_key: int | None = None,
        each_address: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most`: open responses. `patience_s`: how far a listener may be behind before its place may be taken.
        `each_key`, `each_address`: responses in synthesis per key or address; None: no limit."""
        self._most = most
        self._patience_s = patience_s
        self._each_key = each_key
        self._each_address = each_address
        self._clock = clock
        self.open: set[Place] = set()
        """The places in use."""

    def enter(self, client: Client, hang_up: Callable[[float], None]) -> Place:
        """Reserve a place for a response. Raises TooManyRequests."""
        due = [place.client for place in self.open if place.due]
        same_key = sum(other.key == client.key for other in due) if client.key is not None else 0
        same_address = sum(other.address == client.address for other in due)
        refusal = None
        if self._each_key and same_key >= self._each_key:
            refusal = f"the limit of {self._each_key} concurrent requests per API key is reached"
        elif self._each_address and same_address >= self._each_address:
            refusal = f"the limit of {self._each_address} concurrent requests per address is reached"
        elif len(self.open) >= self._most and not self.give_way():
            refusal = f"the limit of {self._most} open responses is reached"
        if refusal is not None:
            raise TooManyRequests(f"{refusal}; try again in a moment", retry_after=_RETRY_S)
        place = Place(client, hang_up, self._clock)
        self.open.add(place)
        return place

    def close(self) -> None:
        """Close the connections of all blocked listeners, for shutdown."""
        for place in [place for place in self.open if place.blocked]:
            self.open.remove(place)
            place.lose()

    def leave(self, place: Place) -> None:
        self.open.discard(place)

    def give_way(self) -> bool:
        """Drop the slowest listener if it is too far behind. Returns True if one was dropped."""
        slowest = max(self.open, key=lambda place: place.behind_s, default=None)
        if slowest is None or slowest.behind_s <= self._patience_s:
            return False
        _log.warning("too many open responses: closing the connection of a listener %.0f s behind", slowest.behind_s)
        self.open.remove(slowest)
        slowest.lose()
        return True
