"""The uvicorn server as it runs here: how it answers signals, when it stops, and with which exit code."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from types import FrameType

import anyio.to_thread
import uvicorn
from fastapi import FastAPI

from saywell.server.log import not_broken_on_purpose
from saywell.server.protocol import Protocol
from saywell.server.service import Service

_log = logging.getLogger(__name__)

_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    _SIGNALS.append(signal.SIGBREAK)
elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
    _SIGNALS.append(signal.SIGHUP)  # the terminal was closed
WAITING_CONNECTIONS, ACCEPTED_AT_ONCE = 1024, 8
"""In the kernel's queue, and taken from it before the event loop does anything else, such as closing some."""
MOST_CONNECTIONS, RESERVE = 4096, 64
"""Connections at most, and descriptors kept for everything else: files, pipes, probes that come when all are taken."""
CUT_OFF = 3
"""Exit code of a server that was told to stop and did not finish every answer."""
_LAST_WORDS_S = 1
"""Seconds connections get to close once everything on them is over."""


def most_connections() -> int:
    """How many connections there may be: what the process may open, as far as it can be raised, less a reserve."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVE
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    return max(RESERVE, min(MOST_CONNECTIONS, soft - RESERVE)) if soft != resource.RLIM_INFINITY else MOST_CONNECTIONS


class Server(uvicorn.Server):
    """Serves one application. Keeps listening while it drains, so that whoever comes is told to go elsewhere."""

    def __init__(self, app: FastAPI) -> None:
        self._service: Service = app.state.service
        config = uvicorn.Config(
            app,
            http=partial(Protocol, most=most_connections(), give_way=self._service.places.give_way),  # type: ignore[arg-type]  # called like the class
            ws="none",  # no WebSocket routes yet: an upgrade is answered as a plain request
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=ACCEPTED_AT_ONCE,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_LAST_WORDS_S,
        )
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(not_broken_on_purpose)  # the same one twice counts once
        self.exit_code = 0
        self._told = False
        self._until: float | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving. Unlike uvicorn, does not raise them again: an orderly end is exit code 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a handler
        """First: refuse newcomers, let the others finish. Second: go."""
        if self._service.draining:
            self.exit_code = 128 + sig
            self.should_exit = self.force_exit = True
            return
        self._service.draining = True
        self._until = time.monotonic() + self._service.drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or []:
            sock.listen(WAITING_CONNECTIONS)

    async def on_tick(self, counter: int) -> bool:
        if await super().on_tick(counter):
            return True
        if self._service.failure is not None:
            self.exit_code = 1
            return True
        if self._until is None or (self._service.active and time.monotonic() < self._until):
            return False
        if self._service.active:
            self._own_up()
            # Ends their streams with an error, which breaks their connections: nobody takes a part for the whole.
            await anyio.to_thread.run_sync(self._service.fleet.close)
        return True

    def _own_up(self) -> None:
        """Somebody was promised more than they get: whoever runs the server is told, once, by log and exit code."""
        lost = self._service.active + self._service.cut
        if lost and not self._told:
            self._told = True
            self.exit_code = self.exit_code or CUT_OFF
            drain_s = self._service.drain_s
            _log.error("%d answers are cut off; drain_s, now %g, is how long they may take after a stop", lost, drain_s)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._own_up()
        self._service.places.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]
        if self.force_exit:
            self._close_briefly()

    def _close_briefly(self) -> None:
        """uvicorn skips the lifespan's end when forced. The engine gets a second; its worker ends with us anyway."""
        closing = threading.Thread(target=self._service.fleet.close, daemon=True)
        closing.start()
        closing.join(1.0)
