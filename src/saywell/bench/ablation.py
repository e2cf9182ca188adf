"""What keeps a service standing under a memory limit: baseline, + memory budget, + CPU affinity, + pre-estimation.

Each is the same service with one more thing switched on, in a memory limit of its own that the kernel enforces. Where
it is killed it is started again, as a service manager would, and what it was asked counts as failed.
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

from saywell.bench.limits import MemoryLimit, OwnPeak, caged
from saywell.bench.plot import Panel, Series
from saywell.bench.service import Server, serving, text_of
from saywell.engine.launch import Decision
from saywell.errors import EngineFailure
from saywell.plan.memory import MIB

LENGTHS = (100, 300, 500, 800, 1000)
STARTS = 3
"""Times a service may fail to start, beside once for each text, before the rest of its texts count as failed."""

_SERVERS_OWN = frozenset({"api_keys", "hub_token", "host", "port"})
"""Settings that say nothing about speech: keys have no place on a command line, which others can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is switched on."""

    name: str
    budget: bool = False
    """The plan knows the limit, keeps to a budget within it, and the engine gives up work when memory presses."""
    affinity: bool = False
    """Threads are pinned to cores."""
    estimate: bool = False
    """A text whose estimate does not fit is refused before it starts."""

    def overrides(self, cage: MemoryLimit, pinned: Sequence[int]) -> dict[str, Any]:
        """As settings."""
        found: dict[str, Any] = {"adapt": self.budget, "check_memory": self.estimate}
        if self.affinity and pinned:
            found["affinity"] = list(pinned)
        if self.budget and cage.group is None:  # the facts do not show a limit of the address space
            found["memory_budget_mb"] = cage.bytes // MIB
        return found


VARIANTS = (
    Variant(name="baseline"),
    Variant(name="+ memory budget", budget=True),
    Variant(name="+ CPU affinity", budget=True, affinity=True),
    Variant(name="+ pre-estimation", budget=True, affinity=True, estimate=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What each variant is asked for."""

    limit_mb: int = 512
    lengths: Sequence[int] = LENGTHS
    repeats: int = 5
    clients: int = 1

    @property
    def texts(self) -> list[tuple[int, int]]:
        """Characters and seed of each, a length after the other."""
        return [(chars, repeat) for repeat in range(self.repeats) for chars in self.lengths]


@dataclass(slots=True, kw_only=True)
class Run:
    """What became of one variant."""

    variant: str
    limit: str
    """What limits it, in a sentence."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of each request: chars and the fields of Answer."""
    steps: list[str] = field(default_factory=list)
    """Steps down the ladder that were seen."""
    refused: str = ""
    """Why it did not start the last time."""
    starts: int = 0
    kills: int = 0
    peak_mb: float = 0.0
    """With the pages of files it read."""
    own_mb: float = 0.0
    """What was its processes' alone."""


def pinning(decision: Decision) -> tuple[int, ...]:
    """One logical CPU a performance core, as many as the plan has threads; none where the system does not number them,
    or pins nothing."""
    threads, hardware = decision.plan.threads, decision.hardware
    allowed = set(hardware.limits.cpus)
    fast = [cpu for cpu in hardware.cpu.performance_cpus if not allowed or cpu in allowed]
    return tuple(fast[:threads]) if len(fast) >= threads and hardware.os != "darwin" else ()


def measure(decision: Decision, work: Work, variants: Sequence[Variant] = VARIANTS) -> list[Run]:
    """Every variant, one after the other. Raises EngineFailure for what fails even without a limit."""
    pinned = pinning(decision)
    overrides = {name: value for name, value in decision.settings.overrides().items() if name not in _SERVERS_OWN}
    with serving(overrides) as server:  # without a limit: whether it works at all, and the files are read once before
        server.speak(text_of(min(work.lengths)))
    return [run(variant, overrides, pinned, work) for variant in variants]


def run(variant: Variant, overrides: Mapping[str, Any], pinned: Sequence[int], work: Work) -> Run:
    """All texts of one variant in one limit."""
    left = work.texts
    with caged(work.limit_mb * MIB, "ablation") as cage:
        found = Run(variant=variant.name, limit=cage.about)
        mine = {**overrides, **variant.overrides(cage, pinned)}
        with OwnPeak(cage) as own:
            while left and found.starts < STARTS + len(found.rows):
                found.starts += 1
                try:
                    with serving(mine, cage, blind=not variant.budget) as server:
                        _ask(server, left, found, work.clients)
                except EngineFailure as error:
                    found.refused = error.message
        found.rows += [failed(chars, "did not start") for chars, _ in left for _ in range(work.clients)]
        found.kills, found.peak_mb, found.own_mb = cage.kills(), _mb(cage.peak()), _mb(own.bytes)
    return found


def _ask(server: Server, left: list[tuple[int, int]], found: Run, clients: int) -> None:
    """Takes from `left` what was answered, or what ended the server."""
    with ThreadPoolExecutor(clients) as pool:
        while left:
            chars, repeat = left.pop(0)
            asked = [pool.submit(_one, server, chars, 100 * repeat + client) for client in range(clients)]
            answers = [each.result() for each in asked]
            found.rows += answers
            try:
                steps = server.get("/health")["engine"]["pressure"]["steps"]
            except (OSError, http.client.HTTPException):
                return  # it is gone; another one is started
            found.steps += [step for step in steps if step not in found.steps]


def _one(server: Server, chars: int, seed: int) -> dict[str, Any]:
    try:
        return {"chars": chars, **asdict(server.speak(text_of(chars), seed=seed))}
    except (OSError, http.client.HTTPException, ValueError):  # cut off, perhaps in the middle of an event
        return failed(chars, "killed")


def failed(chars: int, why: str) -> dict[str, Any]:
    """A row of a request that got no answer."""
    return {"chars": chars, "error": why}


def _mb(size: int) -> float:
    return round(size / MIB, 1)


# -- figures

SHOWN = ("variant", "requests", "success", "latency_s", "spread_s", "own_mb", "peak_mb", "killed")


def figures(run: Run) -> dict[str, Any]:
    """Of one variant. The spread is around the mean of each length, which texts of other lengths say nothing about."""
    good = [row for row in run.rows if not row["error"]]
    means = by_length(run)
    off = [row["total_s"] - means[row["chars"]] for row in good]
    audio = sum(row["audio_s"] for row in good)
    return {
        "variant": run.variant,
        "requests": len(run.rows),
        "success": round(len(good) / len(run.rows), 4) if run.rows else 0.0,
        "latency_s": round(statistics.fmean(row["total_s"] for row in good), 4) if good else None,
        "spread_s": round(statistics.fmean(each * each for each in off) ** 0.5, 4) if good else None,
        "first_s": round(statistics.median(row["first_s"] for row in good), 4) if good else None,
        "rtf": round(sum(row["total_s"] for row in good) / audio, 4) if good else None,
        "own_mb": run.own_mb,
        "peak_mb": run.peak_mb,
        "killed": run.kills,
        "failures": dict(Counter(row["error"] for row in run.rows if row["error"])),
    }


def by_length(run: Run) -> dict[int, float]:
    """Mean seconds to the last sound of what was answered, by characters."""
    times: defaultdict[int, list[float]] = defaultdict(list)
    for row in run.rows:
        if not row["error"]:
            times[row["chars"]].append(row["total_s"])
    return {chars: round(statistics.fmean(each), 4) for chars, each in sorted(times.items())}


def verdicts(runs: Sequence[Run]) -> list[str]:
    """One sentence for each thing switched on, against what was there before it."""
    return [_verdict(before, after) for before, after in pairwise(map(figures, runs))]


def _verdict(before: dict[str, Any], after: dict[str, Any]) -> str:
    parts = [f"succeeds {after['success']:.1%} of the time ({before['success']:.1%} before)"]
    if before["latency_s"] and after["latency_s"]:
        parts.append(f"latency {_ratio(before, after, 'latency_s')}, its spread {_ratio(before, after, 'spread_s')}")
    gained = after["success"] > before["success"]
    faster = bool(before["latency_s"] and after["latency_s"]) and _clearly(before, after)
    return f"{after['variant']}: {', '.join(parts)}" + ("" if gained or faster else "; it did not help here")


def _clearly(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether the mean fell by more than the spread of a mean explains."""
    n = max(1, round(min(before["requests"] * before["success"], after["requests"] * after["success"])))
    doubt = 2 * max(before["spread_s"], after["spread_s"]) / n**0.5
    return bool(before["latency_s"] - after["latency_s"] > doubt)


def _ratio(before: dict[str, Any], after: dict[str, Any], name: str) -> str:
    return f"× {after[name] / before[name]:.2f}" if before[name] else "unchanged"


def met(runs: Sequence[Run]) -> bool:
    """The last variant answers at least as often as the first."""
    return bool(figures(runs[-1])["success"] >= figures(runs[0])["success"])


def sentences(runs: Sequence[Run]) -> list[str]:
    """What the table does not say."""
    told = [f"Limited by {runs[0].limit}. own mb: what was its processes' alone; peak mb: with the files they read."]
    for run in runs:
        lost = Counter(row["error"] for row in run.rows if row["error"])
        told += [f"{run.variant}: {count} requests failed: {why}" for why, count in lost.items()]
    told += [f"{run.variant}: {run.refused}" for run in runs if run.refused]
    told += [f"{run.variant}: under pressure it gave up {', '.join(run.steps)}" for run in runs if run.steps]
    return told + verdicts(runs)


def panels(runs: Sequence[Run]) -> list[Panel]:
    """Success, memory, latency by length, and its spread: what to draw."""
    rows = [figures(run) for run in runs]
    names = [row["variant"] for row in rows]
    latency = [
        Series(name=run.variant, x=[str(chars) for chars in by_length(run)], y=list(by_length(run).values()),
               mark="bars") for run in runs
    ]  # fmt: skip
    success = Series(name="answered", x=names, y=[100 * row["success"] for row in rows], mark="bars")
    memory = [Series(name=name.replace("_mb", ""), x=names, y=[row[name] for row in rows], mark="bars")
              for name in ("own_mb", "peak_mb")]  # fmt: skip
    known = [row for row in rows if row["spread_s"] is not None]
    spread = Series(name="spread", x=[row["variant"] for row in known], y=[row["spread_s"] for row in known],
                    mark="bars")  # fmt: skip
    return [
        Panel(title="Answered", y="%", series=[success]),
        Panel(title="Latency of what was answered", x="characters", y="seconds to the last sound", series=latency),
        Panel(title="Memory at most", y="MB", series=memory),
        Panel(title="Spread of the latency around each length's mean", y="seconds", series=[spread]),
    ]
