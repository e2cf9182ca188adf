"""The server under difficult loads: `python -m benchmarks.load [NAME …]`; prints tables and a JSON line.

    first      first byte of a short request, alone and with 8 concurrent texts of 5 000 characters
    listeners  new short requests with 24 concurrent clients that read at the pace of speech
    trickle    new short requests with 24 concurrent clients that read one byte a second
    idle       /livez with 1 300 idle connections and 1 024 file descriptors
    killed     complete answers while the engine's worker is killed every 5 s for a minute

Each measurement starts its own server on a free port. Latencies depend on the machine and its load: compare them within
a run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from saywell.bench import report
from saywell.bench.service import SPEECH

SHORT = "The kettle is on, and the door is open."
LONG = ("The road runs along the river for a mile, then it climbs between old walls to the village on the hill. " * 60)[
    :5000
]
WITHIN_S = 3.0


@dataclass(frozen=True)
class Answer:
    """The outcome of one request. Seconds from sending it; None: nothing was received."""

    status: int
    first_s: float | None
    total_s: float
    body: bytes
    complete: bool


class Server:
    """`saywell serve` in a child process, its log in a file."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self.log = port, process, log

    async def open(self, receive: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`receive`: size of the socket's receive buffer."""
        sock = socket.socket()
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=sock, limit=1 << 16)

    async def ask(
        self, text: str, path: str = SPEECH, *, pace: float | None = None, timeout_s: float = 180.0
    ) -> Answer:
        """Request PCM and read it as fast as possible, or at `pace` times the speed of speech."""
        began = time.monotonic()
        try:
            return await asyncio.wait_for(self._ask(text, path, pace, began), timeout_s)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            return Answer(0, None, time.monotonic() - began, b"", complete=False)

    async def _ask(self, text: str, path: str, pace: float | None, began: float) -> Answer:
        reader, writer = await self.open(32 << 10 if pace else None)
        try:
            writer.write(request(text, path))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            status, first, body = int(head.split()[1]), None, bytearray()
            complete = True
            try:
                async for part in _parts(reader, head):
                    first = first or time.monotonic() - began
                    body += part
                    if pace and (late := len(body) / 48_000 / pace - (time.monotonic() - began - first)) > 0:
                        await asyncio.sleep(late)
            except (OSError, asyncio.IncompleteReadError):
                complete = False
            return Answer(status, first if status == 200 else None, time.monotonic() - began, bytes(body), complete)
        finally:
            writer.close()

    async def livez(self) -> float:
        """Seconds until the answer; 20 if there was none."""
        began = time.monotonic()
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.wait_for(self.open(), 20)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            if b" 200 " in answer[:20]:
                return time.monotonic() - began
        return 20.0


async def _parts(reader: asyncio.StreamReader, head: str) -> AsyncIterator[bytes]:
    if "content-length:" in head:
        left = int(head.split("content-length:")[1].split()[0])
        while left:
            if not (part := await reader.read(min(left, 1 << 16))):
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(part)
            yield part
        return
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


def request(text: str, path: str) -> bytes:
    fields = {"input": text, "response_format": "pcm"} if path == SPEECH else {"text": text, "format": "pcm"}
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.contextmanager
def serving(command: list[str], descriptors: int | None = None, **env: str) -> Iterator[Server]:
    """`descriptors`: limit of the server's file descriptors."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = int(sock.getsockname()[1])
    limit = ["prlimit", f"--nofile={descriptors}:{descriptors}"] if descriptors else []
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*limit, *command, "serve", "--port", str(port)],
                stdout=output,
                stderr=output,
                env={**os.environ, **env},
            )
        try:
            asyncio.run(_ready(port))
            yield Server(port, process, log)
        finally:
            process.kill()
            process.wait()


async def _ready(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer[:20]:
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("the server was not ready after 60 s")


# -- measurements


async def first(server: Server) -> dict[str, Any]:
    async def firsts(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            answer = await server.ask(SHORT, timeout_s=30)
            seconds.append(answer.first_s if answer.first_s is not None else 30.0)
            await asyncio.sleep(0.3)
        return seconds

    await server.ask(SHORT)
    alone = await firsts(9)
    long = [asyncio.create_task(server.ask(LONG)) for _ in range(8)]
    await asyncio.sleep(4)
    loaded = await firsts(15)
    for task in long:
        task.cancel()
    one, many = statistics.median(alone), statistics.median(loaded)
    return {
        "alone_s": round(one, 3), "loaded_s": round(many, 3), "loaded_max_s": round(max(loaded), 3),
        "ratio": round(many / one, 2),
    }  # fmt: skip


async def listeners(server: Server) -> dict[str, Any]:
    held = [asyncio.create_task(server.ask(LONG[:4500], pace=1.0)) for _ in range(24)]
    await asyncio.sleep(8)
    figures = await _newcomers(server)
    running = sum(not task.done() for task in held)
    for task in held:
        task.cancel()
    return {**figures, "listeners_left": running}


async def trickle(server: Server) -> dict[str, Any]:
    async def read() -> None:
        reader, writer = await server.open(4096)
        writer.write(request(LONG[:4500], SPEECH))
        with contextlib.suppress(OSError):
            while await reader.read(1):  # noqa: ASYNC110 - one byte a second is the point
                await asyncio.sleep(1)

    held = [asyncio.create_task(read()) for _ in range(24)]
    await asyncio.sleep(8)
    figures = await _newcomers(server)
    for task in held:
        task.cancel()
    return figures


async def _newcomers(server: Server, count: int = 40) -> dict[str, Any]:
    """Short requests, one a second, without waiting for earlier ones."""

    async def one(after_s: float) -> Answer:
        await asyncio.sleep(after_s)
        return await server.ask(SHORT, timeout_s=20)

    answers = await asyncio.gather(*(one(n) for n in range(count)))
    times = sorted(answer.first_s if answer.first_s is not None else 20.0 for answer in answers)
    return {
        "within_3s": round(sum(took <= WITHIN_S for took in times) / count, 3),
        "median_s": round(statistics.median(times), 3),
        "max_s": round(times[-1], 3),
        "refused": sum(answer.status == 429 for answer in answers),
    }


async def idle(server: Server) -> dict[str, Any]:
    held = []
    for _ in range(1300):
        with contextlib.suppress(OSError):
            held.append(await asyncio.wait_for(server.open(), 2))
    times = []
    until = time.monotonic() + 12
    while time.monotonic() < until:
        times.append(await server.livez())
        await asyncio.sleep(0.05)
    return {"livez_max_s": round(max(times), 3), "probes": len(times), "log_kb": server.log.stat().st_size >> 10}


async def killed(server: Server) -> dict[str, Any]:
    texts = [
        (SHORT, "/v1/tts"),
        (LONG[:600], "/v1/tts"),
        (SHORT, SPEECH),
        (LONG[:600], SPEECH),
        (LONG[:2400], "/v1/tts"),
    ]
    golden = {(text, path): (await server.ask(text, path)).body for text, path in texts}
    over = time.monotonic() + 60
    answers: list[tuple[tuple[str, str], Answer]] = []

    async def client(turn: int) -> None:
        while time.monotonic() < over:
            what = texts[turn % len(texts)]
            answers.append((what, await server.ask(*what, timeout_s=130)))
            turn += 1

    async def kill() -> int:
        count = 0
        while time.monotonic() < over:
            await asyncio.sleep(5)
            for child in psutil.Process(server.process.pid).children():
                child.kill()
                count += 1
        return count

    *_, kills = await asyncio.gather(*(client(n) for n in range(8)), kill())

    def share(good: Callable[[tuple[str, str], Answer], bool], paths: tuple[str, ...]) -> str:
        chosen = [pair for pair in answers if pair[0][1] in paths]
        return f"{sum(good(*pair) for pair in chosen)}/{len(chosen)}"

    def whole(what: tuple[str, str], answer: Answer) -> bool:
        return answer.status == 200 and answer.complete and answer.body == golden[what]

    cut = sum(answer.status == 200 and answer.complete and answer.body != golden[what] for what, answer in answers)
    return {
        "kills": kills,
        "whole_answers_equal": share(whole, ("/v1/tts",)),
        "streams_equal": share(whole, (SPEECH,)),
        "complete_but_different": cut,
    }


MEASURES: dict[str, tuple[Callable[[Server], Coroutine[Any, Any, dict[str, Any]]], int | None]] = {
    "first": (first, None),
    "listeners": (listeners, None),
    "trickle": (trickle, None),
    "idle": (idle, 1024),
    "killed": (killed, None),
}


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("names", nargs="*", choices=[[], *MEASURES], metavar="NAME", help=", ".join(MEASURES))
    options.add_argument("--python", default=sys.executable, help="Python whose saywell is measured")
    options.add_argument("--path", default="", help="PYTHONPATH of the server")
    chosen = options.parse_args()
    results: dict[str, Any] = {}
    console, here = Console(stderr=True), report.machine()
    console.print(report.about(here))
    for name in chosen.names or MEASURES:
        measure, descriptors = MEASURES[name]
        path = {"PYTHONPATH": chosen.path} if chosen.path else {}
        with console.status(name), serving([chosen.python, "-m", "saywell"], descriptors, **path) as server:
            results[name] = {**asyncio.run(measure(server)), "load": report.load()[0]}
    for name, figures in results.items():
        report.show(console, [figures], name)
    print(json.dumps({"bench": "load", "machine": here, **results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
