"""Overhead and memory of the server: `python -m benchmarks.serve [NAME …]`; prints tables and a JSON line.

overhead    time the server adds to the first audio: a client's first byte minus the time reported by the engine
health      latency of /health while more clients ask for speech than can be served at once
throughput  requests and audio per second for 1, 4 and 16 clients
memory      mixed requests under memory limits enforced by the kernel: nothing killed, nothing failed, and the estimate
            between 95 % and 125 % of the service's peak (private memory of its processes, plus mapped files once)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
from rich.console import Console

from benchmarks.mixture import Mixture, ask_all
from benchmarks.random_voice import spoken_overrides
from saywell.bench import report
from saywell.bench.limits import MemoryLimit, OwnPeak, limited
from saywell.bench.service import SENTENCES, Answer, Client, serving, text_of
from saywell.errors import EngineFailure
from saywell.machine import process_memory
from saywell.plan.memory import MIB

LONG = " ".join(SENTENCES)
OVERHEAD_MS, HEALTH_MS = 5.0, 50.0
"""Goals for the median overhead and the 99th percentile of /health."""
LOW, HIGH = 0.95, 1.25
"""Bounds of estimate / peak."""
Rows = list[dict[str, Any]]


def main(args: list[str]) -> int:
    """Exit code 1 if a goal is missed."""
    options = _options(args)
    console, here = Console(width=120), report.machine()
    console.print(report.about(here))
    results: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory(prefix="saywell-bench-") as folder:
        overrides = {"data_dir": folder, "max_queue": 64, **spoken_overrides(options, Path(folder))}
        for name in options.names or MEASURES:
            results[name] = MEASURES[name](overrides, options)
            report.show(console, results[name], name)
    met = {name: GOALS[name](rows) for name, rows in results.items() if name in GOALS}
    report.show(console, [{"goal": name, "met": good} for name, good in met.items()])
    print(json.dumps({"bench": "serve", "machine": here, **results, "met": met}))
    return 0 if all(met.values()) else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", choices=[[], *MEASURES], metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument(
        "--requests", type=int, default=200, help="number of requests, for `overhead` and each limit (default 200)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each load (default 4)")
    parser.add_argument("--limits", type=int, nargs="+", default=[1024, 2048, 4096], metavar="MB")
    parser.add_argument("--clients", type=int, default=8, help="concurrent clients under a limit (default 8)")
    parser.add_argument("--frames", type=int, help="frames per sentence, for random weights, which never stop")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may repeat")
    return parser.parse_args(args)


# -- overhead of the server


def overhead(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """Milliseconds added to the first audio of one request at a time, by format."""
    with serving(overrides) as server, closing(Client(server.port)) as client:
        return [_added(client, format, options.requests) for format in ("wav", "mp3", "opus")]


def _added(client: Client, format: str, requests: int) -> dict[str, Any]:
    for text in SENTENCES[:5]:
        _spoken(client, text, format)
    answers = [_spoken(client, SENTENCES[n % len(SENTENCES)], format) for n in range(requests)]
    engine_ms = _ms(statistics.median(answer.engine_first_s for answer in answers))
    return {"format": format, **spread([answer.first_s - answer.engine_first_s for answer in answers]),
            "engine_first_ms": engine_ms}  # fmt: skip


def _spoken(client: Client, text: str, format: str = "wav") -> Answer:
    answer = client.speak(text, format)
    if answer.error:
        raise EngineFailure(f"the server answered {answer.error}")
    return answer


def health(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """Milliseconds that /health takes under load."""
    with serving(overrides) as server, closing(Client(server.port)) as client:
        # The clients run in another process, so that they do not delay the measurement.
        load = multiprocessing.get_context("spawn").Process(target=_load, args=(server.port, 8, options.seconds + 1.5))
        load.start()
        time.sleep(1.0)
        times, until = [], time.monotonic() + options.seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            client.connection.request("GET", "/health")
            client.connection.getresponse().read()
            times.append(time.perf_counter() - began)
            time.sleep(0.01)
        load.join()
    return [spread(times)]


def throughput(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """Requests and audio per second; each client sends its next request as soon as it has an answer."""
    rows = []
    with serving(overrides) as server:
        for clients in (1, 4, 16):
            began = time.perf_counter()
            answers = _load(server.port, clients, options.seconds)
            seconds = time.perf_counter() - began
            firsts = {f"first_{name}": value for name, value in spread([answer.first_s for answer in answers]).items()}
            rows.append({
                "clients": clients,
                "requests_per_s": round(len(answers) / seconds, 1),
                "audio_s_per_s": round(sum(answer.audio_s for answer in answers) / seconds, 1),
                **firsts,
            })  # fmt: skip
    return rows


def _load(port: int, clients: int, seconds: float) -> list[Answer]:
    until = time.monotonic() + seconds

    def one() -> list[Answer]:
        answers = []
        with closing(Client(port)) as client:
            while time.monotonic() < until:
                answers.append(_spoken(client, LONG))
        return answers

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(one) for _ in range(clients)]
        return [answer for future in futures for answer in future.result()]


def spread(seconds: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    ordered = sorted(seconds)
    quantiles = {"median": 0.5, "p95": 0.95, "p99": 0.99}
    return {"n": len(ordered), **{f"{name}_ms": _ms(ordered[min(len(ordered) - 1, int(q * len(ordered)))])
                                  for name, q in quantiles.items()}}  # fmt: skip


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


# -- under a memory limit


def memory(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """First a server without a limit, so that the estimates are corrected by what it measured on this machine; then one
    in each limit with the same requests."""
    first = Mixture(requests=3 * options.clients, clients=options.clients, frames=options.frames)
    mixture = Mixture(requests=options.requests, clients=options.clients, frames=options.frames)
    rows = [{"limit_mb": None, **held(None, overrides, first)}]
    for megabytes in options.limits:
        with limited(megabytes * MIB, "memory") as limit:
            rows.append({"limit_mb": megabytes, **held(limit, overrides, mixture)})
    return rows


def held(limit: MemoryLimit | None, overrides: Mapping[str, Any], mixture: Mixture) -> dict[str, Any]:
    """Estimated and used memory of one server, and the outcomes of its requests."""
    form = urlencode({"text": text_of(100)})
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        with serving(overrides, limit) as server:
            estimate_mb = int(server.json("POST", "/estimate-memory", form, kind)["estimate"]["busy_mb"])
            with OwnPeak(limit or MemoryLimit(kind="none", bytes=0)) as own, process_memory.Peak(server.pid) as whole:
                outcomes = ask_all(server.port, mixture)
            engine = sum(process_memory.highest_footprint(child.pid) for child in psutil.Process(server.pid).children())
    except EngineFailure as error:
        return {"refused": error.message, "kills": limit.kills() if limit else 0}
    return {
        "estimate_mb": estimate_mb,
        "service_mb": round(whole.bytes / MIB, 1),
        "ratio": round(estimate_mb * MIB / whole.bytes, 3) if whole.bytes else None,
        "engine_mb": round(engine / MIB, 1),
        "own_mb": round(own.bytes / MIB, 1),
        "kills": limit.kills() if limit else 0,
        "outcomes": dict(Counter(outcomes)),
        "refused": "",
    }


def held_well(rows: Rows) -> bool:
    """Whether the goals are met by all servers whose plan did not refuse the limit, and no server was killed."""
    ran = [row for row in rows if row["limit_mb"] and not row["refused"]]
    good = [not row["outcomes"].get("failed") and LOW <= (row["ratio"] or 0) <= HIGH for row in ran]
    return bool(ran) and all(good) and not any(row["kills"] for row in rows)


MEASURES: dict[str, Callable[[Mapping[str, Any], argparse.Namespace], Rows]] = {
    "overhead": overhead,
    "health": health,
    "throughput": throughput,
    "memory": memory,
}
GOALS: dict[str, Callable[[Rows], bool]] = {
    "overhead": lambda rows: bool(rows[0]["median_ms"] <= OVERHEAD_MS),
    "health": lambda rows: bool(rows[0]["p99_ms"] <= HEALTH_MS),
    "memory": held_well,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
