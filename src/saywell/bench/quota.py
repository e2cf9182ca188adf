"""In a quota of CPU time: which number of threads is fastest, and is it the one the plan takes?

A real control group with the quota (Linux; the right to make one is needed) holds a process that looks at the machine,
makes its plan and measures it beside the same plan with other numbers of threads, round by round in turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from saywell.bench.limits import join, throttled
from saywell.bench.setting import check_outputs, machine, wishes
from saywell.machine import detect
from saywell.models.base import find_spec
from saywell.settings import Settings, load_settings
from saywell.tune.search import Judge, Runs, Tuner
from saywell.tune.space import Space
from saywell.tune.trials import Trials, room

CLOSE = 0.03
"""The plan may cost so much more than the best: rounds differ by as much."""


def main(args: list[str]) -> int:
    """Run it. 1 if another number of threads is faster than the plan's."""
    options = _options(args)
    check_outputs(options)
    if options.inside:
        join(options.inside)
        found = inside(load_settings(wishes(options)), options.seconds, options.rounds)
        print(json.dumps(found))  # noqa: T201 - for the parent
        return 0
    with throttled(options.cpus, "quota") as group:
        command = [sys.executable, "-m", "saywell.cli", "bench", "quota", *args, "--inside", str(group)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result = {"machine": machine(), "cpus": options.cpus, **json.loads(done.stdout.splitlines()[-1])}
    console = Console(width=120)
    console.print(f"{result['model']} in {result['quota']:g} CPUs: {result['planned']} planned ({result['why']})")
    console.print(_table(result))
    if options.save:
        options.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))  # noqa: T201 - the last line is for programs
    return 0 if result["met"] else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="saywell bench quota", description=__doc__)
    parser.add_argument("--cpus", type=float, default=1.5, help="CPUs' worth of time (default 1.5)")
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument("--seconds", type=float, default=100.0, help="a fiftieth of it is a round (default 100)")
    parser.add_argument("--rounds", type=int, default=7, help="of each number of threads (default 7)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may repeat")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write every round as JSON")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(args)


def inside(settings: Settings, seconds: float, rounds: int) -> dict[str, Any]:
    """The plan made in this process, and every number of threads up to one for each CPU there is."""
    hardware, spec = detect(), find_spec(settings.model, settings.model_path)
    space = Space(settings, hardware, spec)
    plan = space.candidate().plan
    counts = range(1, len(hardware.limits.cpus or range(hardware.cpu.logical)) + 1)
    candidates = [space.candidate([("threads", count)]) for count in counts]
    with closing(Trials(spec, seconds, room=room(plan.memory_budget))) as trials:
        tuner = Tuner(space, trials, Judge(), time.perf_counter, lambda *_: None)
        ran = tuner.measure("threads", candidates, rounds)
    rows = {str(runs.candidate.plan.threads): _row(runs) for runs in ran}
    best = min(runs.rtf for runs in ran)
    mine = next(runs.rtf for runs in ran if runs.candidate.plan.threads == plan.threads)
    why = next(reason.why for reason in plan.reasons if reason.field == "threads")
    return {"model": Path(spec.name).name, "quota": hardware.limits.quota, "planned": plan.threads, "why": why,
            "threads": rows, "met": mine <= best * (1 + CLOSE)}  # fmt: skip


def _row(runs: Runs) -> dict[str, Any]:
    return {"rtf": runs.rtf, "first_s": runs.first_s, "rounds": list(runs.trial().rtf)}


def _table(result: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("Threads", "RTF", "of rounds", "First sound"):
        table.add_column(name)
    for count, row in result["threads"].items():
        spread = f"{min(row['rounds']):.4f}–{max(row['rounds']):.4f}"
        table.add_row(count, f"{row['rtf']:.4f}", spread, f"{1000 * row['first_s']:.0f} ms")
    return table
