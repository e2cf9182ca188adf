"""A server on a real socket."""

from __future__ import annotations

import json
import socket
import threading

from asking import until
from fake_engine import FakeEngine, decision
from saywell.server.app import create_app, url_of
from saywell.server.process import Server
from saywell.server.service import listen

SPEECH = "/v1/audio/speech"


class Live:
    """A server in a thread of this process."""

    def __init__(self, engine: FakeEngine, **overrides) -> None:
        self.engine = engine
        self._socks: list[socket.socket] = []
        sock = listen("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        self.url = url_of(sock)
        self.server = Server(create_app(engine, decision(engine, **overrides)))
        self.service = self.server.config.app.state.service
        self._thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
        self._thread.start()
        until(lambda: self.server.started)

    def _run(self, sock: socket.socket) -> None:
        import asyncio

        asyncio.run(self.server.serve(sockets=[sock]))

    def connect(self) -> socket.socket:
        self._socks.append(socket.create_connection(("127.0.0.1", self.port), timeout=10))
        return self._socks[-1]

    def ask(self, path: str = SPEECH, **fields) -> socket.socket:
        """A connection on which a request has been sent."""
        body = json.dumps({"input": "Hello there.", "response_format": "pcm", **fields}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        sock = self.connect()
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return sock

    def close(self) -> None:
        for sock in self._socks:
            sock.close()
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
