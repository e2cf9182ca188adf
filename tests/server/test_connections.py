"""Many connections that ask for nothing, and readers who do not read: the server sees them, and goes on for others."""

from __future__ import annotations

import http.client
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from asking import until
from fake_engine import FakeEngine
from live import Live
from paths import TESTS

SERVER = TESTS / "fake_engine.py"
DESCRIPTORS = 160


def few() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


@contextmanager
def server(log: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = int(sock.getsockname()[1])
    with log.open("w") as told:
        process = subprocess.Popen([sys.executable, str(SERVER), str(port)], stderr=told, stdout=told, preexec_fn=few)
        try:
            until(lambda: livez(port) < 5, 30.0)
            yield port
        finally:
            process.kill()
            process.wait()


def idle(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def livez(port: int) -> float:
    """Seconds until the answer; 99: there is none."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/livez")
        return time.monotonic() - began if connection.getresponse().status == 200 else 99.0
    except OSError:
        return 99.0
    finally:
        connection.close()


def test_idle_connections_beyond_the_descriptors_keep_no_probe_waiting(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server(log) as port, ExitStack() as stack:
        for _ in range(2 * DESCRIPTORS):
            stack.enter_context(idle(port))
        assert max(livez(port) for _ in range(10)) < 1.0
        told = log.read_text()
    assert told.count("is reached: closing idle ones") == 1
    assert len(told) < 10_000


def test_a_connection_with_a_request_is_not_closed_as_idle(tmp_path: Path) -> None:
    with server(tmp_path / "log") as port, ExitStack() as stack:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        stack.callback(asking.close)
        body = '{"input": "Hello there.", "response_format": "pcm"}'
        asking.request("POST", "/v1/audio/speech", body, {"Content-Type": "application/json"})
        answer = asking.getresponse()
        for _ in range(2 * DESCRIPTORS):
            stack.enter_context(idle(port))
        assert len(answer.read()) > 0


def test_the_engine_pauses_for_a_client_that_does_not_read() -> None:
    """Forty seconds of sound for a reader who takes nothing: most of it is still here, not in the kernel."""
    engine = FakeEngine(chunks=400, chunk_s=0.1)
    live = Live(engine)
    try:
        live.ask()
        until(lambda: bool(engine._running) and next(iter(engine._running.values())).window.unread_s > 8.0, 20.0)
    finally:
        live.close()
