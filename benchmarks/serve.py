"""What the service costs and holds: `python -m benchmarks.serve [NAME …]`, tables and a JSON line.

overhead    time the server adds to the first sound: a client's first byte minus what the engine says it took
health      /health while more clients want speech than can be served at once
throughput  what 1, 4 and 16 clients get together
memory      mixed requests under memory limits the kernel enforces: nothing killed, nothing failed, and the estimate
            between 95 % and 125 % of the service's peak (its processes' own memory, and once the files they mapped)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.mixture import Mixture, ask_all
from benchmarks.random_voice import spoken_overrides
from saywell.bench import report
from saywell.bench.limits import MemoryLimit, OwnPeak, caged
from saywell.bench.service import SENTENCES, Answer, Client, serving
from saywell.errors import EngineFailure
from saywell.machine import process_memory
from saywell.plan.memory import MIB

LONG = " ".join(SENTENCES)
OVERHEAD_MS, HEALTH_MS = 5.0, 50.0
"""Goals: the median, and the 99th percentile."""
LOW, HIGH = 0.95, 1.25
"""Bounds of estimate over peak."""
Rows = list[dict[str, Any]]


def main(args: list[str]) -> int:
    """Run it. 1 if a goal is missed."""
    options = _options(args)
    console, here = Console(width=120), report.machine()
    console.print(report.about(here))
    found: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory(prefix="saywell-bench-") as folder:
        overrides = {"data_dir": folder, "max_queue": 64, **spoken_overrides(options, Path(folder))}
        for name in options.names or MEASURES:
            found[name] = MEASURES[name](overrides, options)
            report.show(console, found[name], name)
    judged = {name: GOALS[name](rows) for name, rows in found.items() if name in GOALS}
    report.show(console, [{"goal": name, "met": good} for name, good in judged.items()])
    print(json.dumps({"bench": "serve", "machine": here, **found, "met": judged}))
    return 0 if all(judged.values()) else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", choices=[[], *MEASURES], metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument("--requests", type=int, default=200, help="for the overhead and under each limit (default 200)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load (default 4)")
    parser.add_argument("--limits", type=int, nargs="+", default=[1024, 2048, 4096], metavar="MB")
    parser.add_argument("--clients", type=int, default=8, help="asking at once under a limit (default 8)")
    parser.add_argument("--frames", type=int, help="of each sentence, for random weights that never end by themselves")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may repeat")
    return parser.parse_args(args)


# -- the server's own share


def overhead(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """Milliseconds the server adds to the first sound of one request at a time, by format."""
    with serving(overrides) as server, closing(Client(server.port)) as client:
        return [_added(client, format, options.requests) for format in ("wav", "mp3", "opus")]


def _added(client: Client, format: str, requests: int) -> dict[str, Any]:
    for text in SENTENCES[:5]:
        _spoken(client, text, format)
    found = [_spoken(client, SENTENCES[n % len(SENTENCES)], format) for n in range(requests)]
    engine_ms = _ms(statistics.median(each.engine_first_s for each in found))
    return {"format": format, **spread([each.first_s - each.engine_first_s for each in found]),
            "engine_first_ms": engine_ms}  # fmt: skip


def _spoken(client: Client, text: str, format: str = "wav") -> Answer:
    answer = client.speak(text, format)
    if answer.error:
        raise EngineFailure(f"the server answered {answer.error}")
    return answer


def health(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """Milliseconds of /health under load."""
    with serving(overrides) as server, closing(Client(server.port)) as client:
        # In a process of its own, so that the clients do not make the one that measures wait.
        load = multiprocessing.get_context("spawn").Process(target=_load, args=(server.port, 8, options.seconds + 1.5))
        load.start()
        time.sleep(1.0)
        times, until = [], time.monotonic() + options.seconds
        while time.monotonic() < until:
            times.append(client.health())
            time.sleep(0.01)
        load.join()
    return [spread(times)]


def throughput(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """What so many clients get together, each asking again as soon as it has its answer."""
    rows = []
    with serving(overrides) as server:
        for clients in (1, 4, 16):
            began = time.perf_counter()
            found = _load(server.port, clients, options.seconds)
            took = time.perf_counter() - began
            per_s = {"requests_per_s": len(found) / took, "audio_s_per_s": sum(each.audio_s for each in found) / took}
            firsts = {f"first_{name}": value for name, value in spread([each.first_s for each in found]).items()}
            rows.append({"clients": clients, **{name: round(each, 1) for name, each in per_s.items()}, **firsts})
    return rows


def _load(port: int, clients: int, seconds: float) -> list[Answer]:
    until, found, lock = time.monotonic() + seconds, list[Answer](), threading.Lock()

    def one() -> None:
        with closing(Client(port)) as client:
            while time.monotonic() < until:
                answer = _spoken(client, LONG)
                with lock:
                    found.append(answer)

    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(one) for _ in range(clients)]:
            future.result()
    return found


def spread(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(seconds)
    at = {"median": 0.5, "p95": 0.95, "p99": 0.99}
    return {"n": len(ordered), **{f"{name}_ms": _ms(ordered[min(len(ordered) - 1, int(q * len(ordered)))])
                                  for name, q in at.items()}}  # fmt: skip


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


# -- under a memory limit


def memory(overrides: Mapping[str, Any], options: argparse.Namespace) -> Rows:
    """One server without a limit first, as `saywell tune` would measure it, so that the estimates are of this machine;
    then one in each limit with the same mixture."""
    first = Mixture(requests=3 * options.clients, clients=options.clients, frames=options.frames)
    mixture = Mixture(requests=options.requests, clients=options.clients, frames=options.frames)
    rows = [{"limit_mb": None, **held(None, overrides, first)}]
    for limit in options.limits:
        with caged(limit * MIB, "memory") as cage:
            rows.append({"limit_mb": limit, **held(cage, overrides, mixture)})
    return rows


def held(cage: MemoryLimit | None, overrides: Mapping[str, Any], mixture: Mixture) -> dict[str, Any]:
    """What one server said it would hold, held, and answered."""
    try:
        with serving(overrides, cage) as server:
            promised = server.estimate_mb()
            with OwnPeak(cage or MemoryLimit(kind="none", bytes=0)) as own, process_memory.Peak(server.pid) as whole:
                outcomes = ask_all(server.port, mixture)
            engine = sum(process_memory.highest_footprint(child.pid) for child in psutil.Process(server.pid).children())
    except EngineFailure as error:
        return {"refused": error.message, "kills": cage.kills() if cage else 0}
    return {
        "estimate_mb": promised,
        "service_mb": round(whole.bytes / MIB, 1),
        "ratio": round(promised * MIB / whole.bytes, 3) if whole.bytes else None,
        "engine_mb": round(engine / MIB, 1),
        "own_mb": round(own.bytes / MIB, 1),
        "kills": cage.kills() if cage else 0,
        "outcomes": dict(Counter(outcomes)),
        "refused": "",
    }


def held_well(rows: Rows) -> bool:
    """Of the servers under a limit that their plan did not refuse. One killed before it was ready refused nothing."""
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
