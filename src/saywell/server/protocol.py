"""uvicorn's HTTP/1.1 with limits on connections, request heads and unread responses.

A subclass of uvicorn's protocol, because its settings limit neither the time nor the size of a request's head (with
httptools) nor how long a response stays unread, and an ASGI app has no access to the connection.
`tests/server/test_door.py` fails if a release of uvicorn changes what is used here.
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
"""Seconds allowed for a request's head, from the connection or from its first byte."""
HEAD_BYTES = 64 << 10
SEND_BYTES = 64 << 10
"""Size of the kernel's send buffer (Linux doubles it): about three seconds of WAV. The default of several megabytes
would hide a client that has stopped reading."""
LINGER_S = 30.0
"""Seconds a client gets to read the rest of a finished response."""
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
HANG_UP = "saywell.hang_up"
"""Extension of the ASGI scope: `hang_up(grace_s)` closes the connection, dropping unsent data after the grace."""


class Protocol(HttpToolsProtocol):
    """One of at most `most` connections. `give_way()` drops the slowest listener and returns whether there was one."""

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
        active = [
            other for other in self.connections if isinstance(other, Protocol) and not other.transport.is_closing()
        ]
        if len(active) > self._most:
            self._make_room(active)

    def _make_room(self, active: list[Protocol]) -> None:
        """Close the connection that has been idle longest; else the slowest listener's; else this one."""
        idle = [other for other in active if other is not self and other._deadline is not None]
        longest = min(idle, key=lambda other: other._deadline.when() if other._deadline else 0.0, default=self)
        _log.warning("the limit of %d connections is reached: closing idle ones", self._most)
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
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # a TypedDict without our extension
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
        """Close once unsent data has been read or the grace is over; without grace, reset the connection."""
        if grace_s:
            self.transport.close()
            self._abort_later(grace_s)
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:  # else the kernel keeps unread data, and a late reader sees a clean end
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
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
