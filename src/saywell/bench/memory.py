"""Memory under limits the kernel enforces: mixed requests to a real server, its estimate against its peak.

A server without a limit is asked first, as `saywell tune` would, so that its estimate is of this machine. Then one in
each limit gets the same mixture: short and long, every format, whole and streamed, readers that leave, requests that
must be refused. Nothing may be killed, and the estimate must lie between 95 % and 125 % of the service's peak: the own
memory of its processes, and once the files they have mapped, as a container is charged that reads them first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from saywell.bench.limits import Cage, OwnPeak, caged
from saywell.bench.mixture import Mixture, ask_all, estimate_of
from saywell.bench.server import serving
from saywell.bench.setting import machine, spoken_wishes
from saywell.errors import EngineFailure, InvalidRequest
from saywell.machine import process_memory
from saywell.plan.memory import MIB

LIMITS_MB = (1024, 2048, 4096)
LOW, HIGH = 0.95, 1.25
"""Bounds of estimate over peak."""


def main(args: list[str]) -> int:
    """Run it. 1 if something was killed, a request failed or an estimate was off."""
    options = _options(args)
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="saywell-bench-") as folder:
        wishes = {"data_dir": folder, "queue": 64, **spoken_wishes(options, Path(folder))}
        mixture = Mixture(requests=options.requests, clients=options.clients, frames=options.frames)
        first = Mixture(requests=3 * options.clients, clients=options.clients, frames=options.frames)
        rows = [{"limit_mb": None, **run(None, wishes, first)}]
        for limit in options.limits:
            with caged(limit * MIB, "memory") as cage:
                rows.append({"limit_mb": limit, "limited_by": cage.kind, **run(cage, wishes, mixture)})
    show(console, rows)
    model = Path(options.model).name if options.model else "the default model"
    result = {"bench": "memory", "model": model, "machine": machine(), "rows": rows, "met": met(rows)}
    print(json.dumps(result))  # noqa: T201 - the last line is for programs
    return 0 if met(rows) else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="saywell bench memory", description=__doc__)
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument("--limits", type=int, nargs="+", default=list(LIMITS_MB), metavar="MB")
    parser.add_argument("--requests", type=int, default=200, help="under each limit (default 200)")
    parser.add_argument("--clients", type=int, default=8, help="asking at once (default 8)")
    parser.add_argument("--frames", type=int, help="of each sentence, for random weights that never end by themselves")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may repeat")
    options = parser.parse_args(args)
    if options.requests < 1 or options.clients < 1 or min(options.limits) < 1:
        raise InvalidRequest("requests, clients and limits are at least 1", param="requests")
    return options


def run(cage: Cage | None, wishes: dict[str, Any], mixture: Mixture) -> dict[str, Any]:
    """One server under one limit (None: under none)."""
    try:
        with serving(wishes, cage) as (port, model, pid):
            promised = estimate_of(port)
            with OwnPeak(cage or Cage(kind="none", bytes=0)) as own, process_memory.Peak(pid) as whole:
                outcomes = ask_all(port, mixture)
            held = sum(process_memory.most(child.pid) for child in psutil.Process(pid).children())
    except EngineFailure as error:
        return {"refused": error.message, "kills": cage.kills() if cage else 0}
    return {
        "model": model,
        "refused": "",
        "outcomes": dict(Counter(outcomes)),
        "estimate_mb": promised,
        "engine_mb": round(held / MIB, 1),
        "ratio": round(promised * MIB / whole.bytes, 3) if whole.bytes else None,
        "service_mb": round(whole.bytes / MIB, 1),
        "own_mb": round(own.bytes / MIB, 1),
        "kills": cage.kills() if cage else 0,
    }


def met(rows: list[dict[str, Any]]) -> bool:
    """Of the servers under a limit that their plan did not refuse. One killed before it was ready refused nothing."""
    ran = [row for row in rows if row["limit_mb"] and not row["refused"]]
    good = [not row["outcomes"].get("failed") and LOW <= (row["ratio"] or 0) <= HIGH for row in ran]
    return bool(ran) and all(good) and not any(row["kills"] for row in rows)


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table("limit, MB", "estimate", "peak", "ratio", "of the engine", "killed", "answers", title="Memory, MB")
    for row in rows:
        limit = str(row["limit_mb"] or "none")
        if row["refused"]:
            table.add_row(limit, "", "", "", "", "", row["refused"])
            continue
        answers = ", ".join(f"{count} {name}" for name, count in sorted(row["outcomes"].items()))
        sizes = (row[name] for name in ("estimate_mb", "service_mb", "ratio", "engine_mb", "kills"))
        table.add_row(limit, *(str(size) for size in sizes), answers)
    console.print(table)
    console.print(f"Goals: nothing killed, nothing failed, estimate {LOW:.0%} to {HIGH:.0%} of the service's peak.")
    console.print("The first line shows the estimate before anything was measured on this machine.")
