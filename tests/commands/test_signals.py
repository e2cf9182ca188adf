"""Signals at any moment, to one process or to its whole group."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
LONG = " ".join(["The harbour was quiet that morning, and nobody had slept well."] * 30)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "saywell", *arguments]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def ready(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2).status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server was not ready after 30 s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_signal_to_the_process_group_lets_running_requests_finish(number: signal.Signals) -> None:
    port = free_port()
    with started("serve", "--port", str(port)) as server:
        ready(port)
        body = json.dumps({"input": LONG, "response_format": "pcm"}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/audio/speech", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            first = response.read(4800)
            os.killpg(server.pid, number)
            rest = response.read()
        assert len(first + rest) > 24000 * 2 * 60
        assert server.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("after_s", [0.2, 0.4])  # imports, and the model
def test_signal_during_start_exits_without_a_traceback(tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    with started("say", LONG, "-o", str(tmp_path / "out.wav")) as process:
        time.sleep(after_s)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode in (128 + number, -number)  # the latter before the handler is installed
    assert "internal error" not in errors
    assert "Traceback" not in errors or process.returncode == -number
    assert list(tmp_path.iterdir()) == []
