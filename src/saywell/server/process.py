"""The uvicorn server: signals, draining, connection limits and exit codes."""

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

from saywell.server.log import drop_broken_responses
from saywell.server.protocol import Protocol
from saywell.server.service import Service

_log = logging.getLogger(__name__)

_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    _SIGNALS.append(signal.SIGBREAK)
elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup
    _SIGNALS.append(signal.SIGHUP)  # sent when the terminal closes
WAITING_CONNECTIONS, ACCEPTED_AT_ONCE = 1024, 8
"""Length of the kernel's accept queue; connections accepted per turn of the event loop, so that closing keeps up."""
MOST_CONNECTIONS, RESERVE = 4096, 64
"""Maximum connections; file descriptors reserved for everything else (files, pipes, probes at the limit)."""
CUT_OFF = 3
"""Exit code of a shutdown that cut off responses."""
_CLOSE_S = 1
"""Seconds connections get to close after their last response."""


def most_connections() -> int:
    """The connection limit: the file descriptor limit (raised as far as allowed) minus a reserve."""
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
    """Serves one application. Keeps listening while it drains, to answer new requests with 503."""

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
            timeout_graceful_shutdown=_CLOSE_S,
        )
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(drop_broken_responses)  # adding it again has no effect
        self.exit_code = 0
        self._reported = False
        self._until: float | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving. Unlike uvicorn, does not re-raise them: a clean shutdown exits with 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signature of a handler
        """First signal: refuse new requests and drain. Second: exit now."""
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
            self._report_cut_off()
            # Ends the streams with an error, which breaks their connections, so that no client takes a part for all.
            await anyio.to_thread.run_sync(self._service.fleet.close)
        return True

    def _report_cut_off(self) -> None:
        """Report responses cut off by the shutdown, once, in the log and by the exit code."""
        lost = self._service.active + self._service.cut
        if lost and not self._reported:
            self._reported = True
            self.exit_code = self.exit_code or CUT_OFF
            drain_s = self._service.drain_s
            _log.error("%d answers are cut off; raise drain_s, now %g s, to give them longer", lost, drain_s)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._report_cut_off()
        self._service.places.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]
        if self.force_exit:
            self._close_briefly()

    def _close_briefly(self) -> None:
        """Close the engine within a second: a forced uvicorn skips the end of the lifespan. Workers exit with us."""
        closing = threading.Thread(target=self._service.fleet.close, daemon=True)
        closing.start()
        closing.join(1.0)
