"""The server's own share: time it adds to the first sound, probes under load, throughput.

Overhead of a request = seconds until its client has the first byte of audio, minus the seconds the engine says it took
from admission to first audio in the worker process (`timing.first_audio_s` of the closing event). What remains is HTTP,
JSON, the way to the worker and back, encoding, and base64: nothing of the server is left out.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from saywell.bench.limits import Cage
from saywell.bench.setting import machine
from saywell.errors import EngineFailure

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Good morning, the train leaves in five minutes.",
    "She sells sea shells by the sea shore.",
    "Please close the window before it rains.",
    "A short answer is often the best one.",
)
LONG = " ".join(SENTENCES * 4)
GOALS = {"overhead_ms": 5.0, "health_ms": 50.0}


def main(args: list[str]) -> int:
    """Run it. 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="saywell bench server", description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="measured for the overhead (default 300)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load (default 4)")
    options = parser.parse_args(args)
    with serving({"queue": 64}) as (port, model, _):
        result = {
            "bench": "server",
            "model": model,
            "machine": machine(),
            "load": [round(each, 2) for each in psutil.getloadavg()],
            "overhead_ms": {
                format: overhead(port, format, options.requests if format == "wav" else options.requests // 3)
                for format in ("wav", "mp3", "opus")
            },
            "health_ms": health_under_load(port, options.seconds),
            "throughput": [throughput(port, clients, options.seconds) for clients in (1, 4, 16)],
        }
    show(result)
    return 0 if met(result) else 1


@contextmanager
def serving(wishes: Mapping[str, Any], cage: Cage | None = None) -> Iterator[tuple[int, str, int]]:
    """A server of its own process on a free loopback port: (port, model, process id). `cage`: limits it."""
    program = "from saywell.cli import main; main()"
    if cage is not None:
        group = f"Path({str(cage.group)!r})" if cage.group else None
        told = f"enter(Cage(kind={cage.kind!r}, bytes={cage.bytes}, group={group}))"
        program = f"from pathlib import Path; from saywell.bench.limits import Cage, enter; {told}; {program}"
    settings = [part for name, value in wishes.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--log-level", "warning", *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield *_ready(process), process.pid
        finally:
            process.terminate()
            process.wait(10)


def _ready(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Port and model, as soon as it says it is ready."""
    assert process.stdout is not None
    port = ""
    for line in process.stdout:
        port = port or "".join(re.findall(r"http://127\.0\.0\.1:(\d+)", line)[:1])
        if ready := re.match(r"Ready: (\S+)", line):
            return int(port), ready[1]
    raise EngineFailure("the server did not start; `saywell serve` shows why")


@dataclass(frozen=True, slots=True)
class Spoken:
    """One request as its client saw it. Seconds."""

    first_s: float
    total_s: float
    engine_first_s: float
    audio_s: float


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def speak(self, text: str, format: str = "wav") -> Spoken:
        body = json.dumps({"input": text, "response_format": format, "stream_format": "sse"})
        began = time.perf_counter()
        self._connection.request("POST", "/v1/audio/speech", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        first = answer.read(1)
        first_s = time.perf_counter() - began
        rest = answer.read()
        total_s = time.perf_counter() - began
        events = (first + rest).decode().strip().split("\n\n")
        done = json.loads(events[-1].removeprefix("data: "))
        if answer.status != 200 or done.get("type") != "speech.audio.done":
            raise EngineFailure(f"the server answered {answer.status}: {done}")
        timing = done["timing"]
        return Spoken(first_s, total_s, timing["first_audio_s"], timing["audio_s"])

    def health(self) -> float:
        """Seconds one look at /health takes."""
        began = time.perf_counter()
        self._connection.request("GET", "/health")
        self._connection.getresponse().read()
        return time.perf_counter() - began

    def close(self) -> None:
        self._connection.close()


def overhead(port: int, format: str, requests: int) -> dict[str, float]:
    """Milliseconds the server adds to the first sound of one request at a time."""
    client = Client(port)
    for text in SENTENCES * 2:
        client.speak(text, format)
    found = [client.speak(SENTENCES[index % len(SENTENCES)], format) for index in range(requests)]
    client.close()
    spread = summary([spoken.first_s - spoken.engine_first_s for spoken in found])
    return {**spread, "engine_ttfa_median": ms(statistics.median(spoken.engine_first_s for spoken in found))}


def health_under_load(port: int, seconds: float) -> dict[str, float]:
    """Milliseconds of /health while more clients want speech than can be served at once."""
    # In a process of its own, so that the clients do not make the one that measures wait.
    load = multiprocessing.get_context("spawn").Process(target=_load, args=(port, 8, seconds + 1.5))
    load.start()
    time.sleep(1.0)
    client, times, until = Client(port), [], time.monotonic() + seconds
    while time.monotonic() < until:
        times.append(client.health())
        time.sleep(0.01)
    client.close()
    load.join()
    return summary(times)


def throughput(port: int, clients: int, seconds: float) -> dict[str, float]:
    """What so many clients get together, each asking again as soon as it has its answer."""
    began = time.perf_counter()
    found = _load(port, clients, seconds)
    took = time.perf_counter() - began
    return {
        "clients": clients,
        "requests_per_s": round(len(found) / took, 1),
        "audio_s_per_s": round(sum(spoken.audio_s for spoken in found) / took, 1),
        "first_ms_median": ms(statistics.median(spoken.first_s for spoken in found)),
        "first_ms_p95": ms(quantile([spoken.first_s for spoken in found], 0.95)),
    }


def _load(port: int, clients: int, seconds: float) -> list[Spoken]:
    until = time.monotonic() + seconds
    found: list[Spoken] = []
    lock = threading.Lock()

    def one() -> None:
        client = Client(port)
        while time.monotonic() < until:
            spoken = client.speak(LONG)
            with lock:
                found.append(spoken)
        client.close()

    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(one) for _ in range(clients)]:
            future.result()
    return found


def ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def summary(seconds: list[float]) -> dict[str, float]:
    spread = {name: ms(quantile(seconds, q)) for name, q in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))}
    return {"n": len(seconds), **spread}


def met(result: dict[str, Any]) -> bool:
    overhead_ms, health_ms = result["overhead_ms"]["wav"]["median"], result["health_ms"]["p99"]
    return bool(overhead_ms <= GOALS["overhead_ms"] and health_ms <= GOALS["health_ms"])


def show(result: dict[str, Any]) -> None:
    console, here = Console(highlight=False), result["machine"]
    console.print(f"{here['cpu']}, {here['cpus']} CPUs, {here['memory_gb']:g} GiB; load before {result['load']}")
    table = Table("milliseconds", "n", "median", "p95", "p99", "goal")
    for format, row in result["overhead_ms"].items():
        goal = f"median {GOALS['overhead_ms']:g}" if format == "wav" else ""
        table.add_row(f"added to the first sound, {format}", *_cells(row), goal)
    table.add_row("/health under load", *_cells(result["health_ms"]), f"p99 {GOALS['health_ms']:g}")
    console.print(table)
    table = Table("clients", "requests/s", "audio s/s", "first byte ms, median", "p95")
    for row in result["throughput"]:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    print(json.dumps(result))  # noqa: T201 - the last line is for programs


def _cells(row: dict[str, float]) -> list[str]:
    return [str(row[name]) for name in ("n", "median", "p95", "p99")]
