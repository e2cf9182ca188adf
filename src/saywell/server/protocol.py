"""HTTP/1.1 as uvicorn speaks it, without its patience: who does not send or take bytes is hung up on.

By subclassing uvicorn's protocol, since none of this can be had from outside: its settings bound neither the time nor
the size of a request's head (with httptools) nor how long a response lies unread, and an ASGI app never sees the
connection. `tests/server/test_door.py` notices if a release of uvicorn changes what is used here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_log = logging.getLogger(__name__)

HEAD_S = 10.0
"""Seconds a request's head may take, from the connection or from its first byte."""
HEAD_BYTES = 64 << 10
SEND_BYTES = 64 << 10
"""Asked of the kernel for what is sent and not yet taken (it doubles that): about three seconds of WAV. Left to itself
it takes megabytes, and a reader who does not read looks like one who does."""
LINGER_S = 30.0
"""Seconds a client may take to fetch the end of a finished response."""
_AT_ONCE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
HANG_UP = "saywell.hang_up"
"""Extension of the ASGI scope: `hang_up(grace_s)` closes the connection, dropping what is unsent after the grace."""


class Protocol(HttpToolsProtocol):
    """One connection, of at most `most` at a time. `give_way()` ends the slowest one that is answered, if it may."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def __init__(self, *args: Any, most: int, give_way: Callable[[], bool], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most = most
        self._give_way = give_way

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self._expect_head()
        there = [each for each in self.connections if isinstance(each, Protocol) and not each.transport.is_closing()]
        if len(there) > self._most:
            self._make_room(there)

    def _make_room(self, there: list[Protocol]) -> None:
        """Hang up on who has waited longest without asking for anything; else on the slowest listener; else on this."""
        idle = [each for each in there if each is not self and each._deadline is not None]
        longest = min(idle, key=lambda each: each._deadline.when() if each._deadline else 0.0, default=self)
        _log.warning("%d connections are open, which is the limit: hanging up on idle ones", self._most)
        if longest is not self or not self._give_way():
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            return  # the connection has become a WebSocket
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()  # of the next request on this connection
        if self._deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("the head of the request is too long")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # a TypedDict that knows no extension of ours
        scope["extensions"] = {**(scope.get("extensions") or {}), HANG_UP: self.hang_up}

    def on_headers_complete(self) -> None:
        self._forget_deadline()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._abort_later(LINGER_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def hang_up(self, grace_s: float) -> None:
        """Close when what is unsent has been fetched, or the grace is over; without grace reset the connection."""
        if grace_s:
            self.transport.close()
            self._abort_later(grace_s)
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:  # or the kernel would keep what nobody fetches, and a late reader find an orderly end
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _abort_later(self, seconds: float) -> None:
        transport = self.transport

        def abort() -> None:
            if transport.is_closing() and transport.get_write_buffer_size():
                transport.abort()

        self.loop.call_later(seconds, abort)

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_S, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
