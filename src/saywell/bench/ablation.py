"""What keeps a service running in a memory limit: baseline, + memory budget, + CPU affinity, + pre-estimation.

Each variant is the same service with one more feature switched on, in its own memory limit enforced by the kernel. A
service that is killed is restarted, as a service manager would do, and its open requests count as failed.
"""

from __future__ import annotations

import http.client
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from saywell.bench.limits import MemoryLimit, OwnPeak, limited
from saywell.bench.plot import Panel, Series
from saywell.bench.service import Server, serving, text_of
from saywell.engine.launch import Decision
from saywell.errors import EngineFailure
from saywell.plan.memory import MIB

LENGTHS = (100, 300, 500, 800, 1000)
MAX_FAILED_STARTS = 3
"""Starts allowed in addition to one per request, before the remaining requests count as failed."""

_NOT_PASSED_ON = frozenset({"api_keys", "hub_token", "host", "port"})
"""Settings without influence on speech; secrets must not appear on a command line, which other users can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Features that are switched on."""

    name: str
    budget: bool = False
    """The plan knows the limit and keeps a budget within it, and the engine degrades under memory pressure."""
    affinity: bool = False
    """Threads are pinned to cores."""
    estimate: bool = False
    """A text whose estimated memory does not fit is refused before it starts."""

    def overrides(self, limit: MemoryLimit, cpus: Sequence[int]) -> dict[str, Any]:
        """As settings. `cpus`: what to pin to."""
        settings: dict[str, Any] = {"adapt": self.budget, "check_memory": self.estimate}
        if self.affinity and cpus:
            settings["affinity"] = list(cpus)
        if self.budget and limit.group is None:  # the machine's facts do not show an address space limit
            settings["memory_budget_mb"] = limit.bytes // MIB
        return settings


VARIANTS = (
    Variant(name="baseline"),
    Variant(name="+ memory budget", budget=True),
    Variant(name="+ CPU affinity", budget=True, affinity=True),
    Variant(name="+ pre-estimation", budget=True, affinity=True, estimate=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The requests sent to each variant."""

    limit_mb: int = 512
    lengths: Sequence[int] = LENGTHS
    repeats: int = 5
    clients: int = 1

    @property
    def texts(self) -> list[tuple[int, int]]:
        """Characters and repeat number of each text."""
        return [(chars, repeat) for repeat in range(self.repeats) for chars in self.lengths]


@dataclass(slots=True, kw_only=True)
class Run:
    """The outcome of one variant."""

    variant: str
    limit: str
    """Description of the memory limit."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """For each request: `chars`, and the fields of Answer."""
    steps: list[str] = field(default_factory=list)
    """Degradation levels that were seen."""
    refused: str = ""
    """Why the last start failed."""
    starts: int = 0
    kills: int = 0
    peak_mb: float = 0.0
    """Including the page cache."""
    own_mb: float = 0.0
    """Anonymous memory of its processes."""


def pinning(decision: Decision) -> tuple[int, ...]:
    """One logical CPU per performance core, as many as the plan has threads; empty where pinning is not possible."""
    threads, hardware = decision.plan.threads, decision.hardware
    allowed = set(hardware.limits.cpus)
    cpus = [cpu for cpu in hardware.cpu.performance_cpus if not allowed or cpu in allowed]
    return tuple(cpus[:threads]) if len(cpus) >= threads and hardware.os != "darwin" else ()


def measure(decision: Decision, work: Work, variants: Sequence[Variant] = VARIANTS) -> list[Run]:
    """Run the variants one after the other. Raises EngineFailure if the service fails even without a limit."""
    cpus = pinning(decision)
    overrides = {name: value for name, value in decision.settings.overrides().items() if name not in _NOT_PASSED_ON}
    with serving(overrides) as server:  # also fills the page cache
        server.speak(text_of(min(work.lengths)))
    return [run(variant, overrides, cpus, work) for variant in variants]


def run(variant: Variant, overrides: Mapping[str, Any], cpus: Sequence[int], work: Work) -> Run:
    """All texts of one variant in one limit."""
    remaining = work.texts
    with limited(work.limit_mb * MIB, "ablation") as limit:
        outcome = Run(variant=variant.name, limit=limit.about)
        settings = {**overrides, **variant.overrides(limit, cpus)}
        with OwnPeak(limit) as own:
            while remaining and outcome.starts < MAX_FAILED_STARTS + len(outcome.rows):
                outcome.starts += 1
                try:
                    with serving(settings, limit, blind=not variant.budget) as server:
                        _send(server, remaining, outcome, work.clients)
                except EngineFailure as error:
                    outcome.refused = error.message
        outcome.rows += [failed(chars, "did not start") for chars, _ in remaining for _ in range(work.clients)]
        outcome.kills = limit.kills()
        outcome.peak_mb, outcome.own_mb = round(limit.peak() / MIB, 1), round(own.bytes / MIB, 1)
    return outcome


def _send(server: Server, remaining: list[tuple[int, int]], outcome: Run, clients: int) -> None:
    """Send texts, removing them from `remaining`, until all are done or the server has died."""
    with ThreadPoolExecutor(clients) as pool:
        while remaining:
            chars, repeat = remaining.pop(0)
            futures = [pool.submit(_request, server, chars, 100 * repeat + client) for client in range(clients)]
            outcome.rows += [future.result() for future in futures]
            try:
                steps = server.get("/health")["engine"]["pressure"]["steps"]
            except (OSError, http.client.HTTPException):
                return
            outcome.steps += [step for step in steps if step not in outcome.steps]


def _request(server: Server, chars: int, seed: int) -> dict[str, Any]:
    try:
        return {"chars": chars, **asdict(server.speak(text_of(chars), seed=seed))}
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: cut off in the middle of an event
        return failed(chars, "killed")


def failed(chars: int, why: str) -> dict[str, Any]:
    """The row of a request without an answer."""
    return {"chars": chars, "error": why}


# -- figures

SHOWN = ("variant", "requests", "success", "latency_s", "spread_s", "own_mb", "peak_mb", "killed")


def figures(run: Run) -> dict[str, Any]:
    """Summary of one variant. The spread is measured around the mean of each length, not over all lengths."""
    answered = [row for row in run.rows if not row["error"]]
    means = by_length(run)
    deviations = [row["total_s"] - means[row["chars"]] for row in answered]
    audio_s = sum(row["audio_s"] for row in answered)
    return {
        "variant": run.variant,
        "requests": len(run.rows),
        "success": round(len(answered) / len(run.rows), 4) if run.rows else 0.0,
        "latency_s": round(statistics.fmean(row["total_s"] for row in answered), 4) if answered else None,
        "spread_s": round(statistics.fmean(each * each for each in deviations) ** 0.5, 4) if answered else None,
        "first_s": round(statistics.median(row["first_s"] for row in answered), 4) if answered else None,
        "rtf": round(sum(row["total_s"] for row in answered) / audio_s, 4) if answered else None,
        "own_mb": run.own_mb,
        "peak_mb": run.peak_mb,
        "killed": run.kills,
        "failures": dict(Counter(row["error"] for row in run.rows if row["error"])),
    }


def by_length(run: Run) -> dict[int, float]:
    """Mean seconds to the last sample of answered requests, by length of text."""
    seconds: defaultdict[int, list[float]] = defaultdict(list)
    for row in run.rows:
        if not row["error"]:
            seconds[row["chars"]].append(row["total_s"])
    return {chars: round(statistics.fmean(values), 4) for chars, values in sorted(seconds.items())}


def verdicts(runs: Sequence[Run]) -> list[str]:
    """One sentence per variant, compared with the one before it."""
    return [_verdict(before, after) for before, after in pairwise(map(figures, runs))]


def _verdict(before: dict[str, Any], after: dict[str, Any]) -> str:
    parts = [f"succeeds {after['success']:.1%} of the time ({before['success']:.1%} before)"]
    if before["latency_s"] and after["latency_s"]:
        parts.append(f"latency {_ratio(before, after, 'latency_s')}, its spread {_ratio(before, after, 'spread_s')}")
    helped = after["success"] > before["success"] or _faster(before, after)
    return f"{after['variant']}: {', '.join(parts)}" + ("" if helped else "; it did not help here")


def _faster(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether the mean latency fell by more than two standard errors."""
    if not (before["latency_s"] and after["latency_s"]):
        return False
    n = max(1, round(min(before["requests"] * before["success"], after["requests"] * after["success"])))
    doubt = 2 * max(before["spread_s"], after["spread_s"]) / n**0.5
    return bool(before["latency_s"] - after["latency_s"] > doubt)


def _ratio(before: dict[str, Any], after: dict[str, Any], name: str) -> str:
    return f"× {after[name] / before[name]:.2f}" if before[name] else "unchanged"


def met(runs: Sequence[Run]) -> bool:
    """Whether the last variant answers at least as often as the first."""
    return bool(figures(runs[-1])["success"] >= figures(runs[0])["success"])


def sentences(runs: Sequence[Run]) -> list[str]:
    """The limit, failures, degradation and verdicts, which the table does not show."""
    lines = [f"Limited by {runs[0].limit}. own mb: memory of its processes; peak mb: including the files they read."]
    for run in runs:
        failures = figures(run)["failures"]
        lines += [f"{run.variant}: {count} requests failed: {why}" for why, count in failures.items()]
    lines += [f"{run.variant}: {run.refused}" for run in runs if run.refused]
    lines += [f"{run.variant}: under pressure it gave up {', '.join(run.steps)}" for run in runs if run.steps]
    return lines + verdicts(runs)


def panels(runs: Sequence[Run]) -> list[Panel]:
    """Plots of success, latency by length, memory and spread."""
    rows = [figures(run) for run in runs]

    def bars(label: str, name: str, unit: float = 1.0) -> Series:
        known = [row for row in rows if row[name] is not None]
        return Series(name=label, x=[row["variant"] for row in known], y=[unit * row[name] for row in known],
                      mark="bars")  # fmt: skip

    latency = []
    for run in runs:
        means = by_length(run)
        latency.append(Series(name=run.variant, x=[str(chars) for chars in means], y=list(means.values()), mark="bars"))
    return [
        Panel(title="Answered", y="%", series=[bars("answered", "success", 100)]),
        Panel(title="Latency of answered requests", x="characters", y="seconds to the last sample", series=latency),
        Panel(title="Peak memory", y="MB", series=[bars("own", "own_mb"), bars("peak", "peak_mb")]),
        Panel(title="Spread of the latency around each length's mean", y="seconds",
              series=[bars("spread", "spread_s")]),
    ]  # fmt: skip
