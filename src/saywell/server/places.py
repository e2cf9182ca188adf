"""Answers on their way to listeners: how many there may be, how many for one client, and who goes when they are many.

Speech is made many times faster than it is heard, so most answers under way need no work. They cost a connection and
some memory, and a listener may pause for as long as nobody needs his place.
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
    """Who asks: the number of an API key, if the server has any, and the address of the connection."""

    key: int | None
    address: str


class Place:
    """One answer's, from the request to the last byte that was taken."""

    def __init__(self, client: Client, hang_up: Callable[[float], None], clock: Callable[[], float]) -> None:
        """`hang_up(grace_s)` ends the connection."""
        self.client = client
        self.stream: Stream | None = None
        """What is spoken for it; None until it is submitted."""
        self.lost = False
        """It was given to another, and the connection is gone."""
        self._hang_up = hang_up
        self._clock = clock
        self._taken_s = 0.0
        self._blocked_s = 0.0
        self._blocked_since: float | None = None

    @property
    def due(self) -> bool:
        """Whether the engine has work to do for it."""
        return self.stream is not None and not self.stream.ended and self.stream.window.wants_more()

    @property
    def blocked(self) -> bool:
        """Whether the listener does not take what is there for him."""
        return self._blocked_since is not None

    @property
    def behind_s(self) -> float:
        """How far the listener is behind the pace of speech: what he made us wait, less what he has taken meanwhile."""
        waiting = self._clock() - self._blocked_since if self._blocked_since is not None else 0.0
        return self._blocked_s + waiting - self._taken_s

    async def put(self, send: Send, message: MutableMapping[str, Any], audio_s: float) -> None:
        """Send a message that brings so much audio; waits for the listener to take what came before it."""
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
        """`most`: answers under way. `patience_s`: how far a listener may be behind before he may lose his place.
        `each_key`, `each_address`: answers in the making for one of them; None: no limit."""
        self._most = most
        self._patience_s = patience_s
        self._each_key = each_key
        self._each_address = each_address
        self._clock = clock
        self._there: set[Place] = set()

    def __len__(self) -> int:
        return len(self._there)

    def enter(self, client: Client, hang_up: Callable[[float], None]) -> Place:
        """A place for one more answer. Raises TooManyRequests."""
        due = [place.client for place in self._there if place.due]
        if self._each_key and client.key is not None and sum(each.key == client.key for each in due) >= self._each_key:
            raise TooManyRequests(
                f"{self._each_key} requests with this API key are being spoken, which is the limit",
                retry_after=_RETRY_S,
            )
        if self._each_address and sum(each.address == client.address for each in due) >= self._each_address:
            raise TooManyRequests(
                f"{self._each_address} requests of this address are being spoken, which is the limit",
                retry_after=_RETRY_S,
            )
        if len(self._there) >= self._most and not self.give_way():
            raise TooManyRequests(
                f"{self._most} answers are being read, which is the limit; try again in a moment", retry_after=_RETRY_S
            )
        place = Place(client, hang_up, self._clock)
        self._there.add(place)
        return place

    def close(self) -> None:
        """Hang up on everybody who does not take what is there: the server ends."""
        for place in [place for place in self._there if place.blocked]:
            self._there.remove(place)
            place.lose()

    def leave(self, place: Place) -> None:
        self._there.discard(place)

    def give_way(self) -> bool:
        """Take the slowest listener's place away, if he is far behind. Whether somebody was."""
        slowest = max(self._there, key=lambda place: place.behind_s, default=None)
        if slowest is None or slowest.behind_s <= self._patience_s:
            return False
        _log.warning("places are short: a listener %.0f s behind the pace of speech is hung up on", slowest.behind_s)
        self._there.remove(slowest)
        slowest.lose()
        return True
