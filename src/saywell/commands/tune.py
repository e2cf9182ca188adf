"""`saywell tune`: measure alternatives on this machine and keep the fastest for later plans."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median
from typing import TYPE_CHECKING, cast, get_args

import msgspec
from rich.markup import escape
from rich.text import Text

from saywell.commands import show
from saywell.engine.launch import facts, measured
from saywell.errors import InvalidRequest
from saywell.machine import detect
from saywell.plan.memory import measured_overhead
from saywell.plan.tuning_store import Goal, Record
from saywell.settings import Settings
from saywell.tune.search import Judge, Result, Search, Tell
from saywell.tune.space import Space
from saywell.tune.trials import Trials

if TYPE_CHECKING:
    from saywell.types import ModelSpec

_ROOM = 4, 5
"""Share of the memory budget for the engines under trial; the rest is for other programs."""
_LEAVE_S = 3.0
"""Seconds reserved for start and shutdown; at most a fifth of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Options of the command."""

    seconds: float = 60.0
    goal: str = "throughput"
    first_ms: float = 500.0
    allow: Sequence[str] = ()
    forget: bool = False
    as_json: bool = False


def run(settings: Settings, wanted: Wanted) -> None:
    """Measure, print, store. Raises the error of the rules' plan if that one fails."""
    began = time.perf_counter()
    hardware, spec = detect(), facts(settings)
    store = measured(settings, hardware, spec)
    if wanted.forget:
        store.forget()
        show.console(stderr=True).print(f"removed the measurements of {spec.name} on this machine")
        return
    judge = Judge(goal=_goal(wanted.goal), first_s=wanted.first_ms / 1000)
    precisions = _precisions(spec, wanted.allow)
    store.check()
    space = Space(settings, hardware, store.corrected(spec), precisions)
    room = space.rules.plan.memory_budget * _ROOM[0] // _ROOM[1]
    trials = Trials(spec, wanted.seconds, room=room, python=settings.worker_python)
    with closing(trials), _progress(wanted.seconds) as tell:
        left = wanted.seconds - min(_LEAVE_S, wanted.seconds / 5) - (time.perf_counter() - began)
        result = Search(space, trials, judge, time.perf_counter, tell).run(left)
    plan, trial = result.best.plan, result.test.get(result.best) or result.trials.get(result.best)
    record = Record(
        model=spec.name,
        runtime=store.runtime(plan.executor),
        device=str(plan.device),
        goal=judge.goal,
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - began, 1),
        best=dict(result.best.values),
        chosen=result.chosen,
        trials=list(result.trials.values()),
    )
    kept = result.verdict != "short"
    if wanted.as_json:  # printed before it is stored: the disk may be full
        print(show.as_json({**msgspec.to_builtins(record), "verdict": result.verdict, "kept": kept}))  # noqa: T201
    else:
        for option, why in space.refused.items():
            show.console().print(Text(f"{option} is not possible: {why}"))
        for line in _told(result, wanted.seconds):
            show.console().print(Text(line))
    if kept and trial is not None:
        store.save(record)
        if trial.peak_bytes:
            store.weigh(plan, measured_overhead(plan, spec, trial.peak_bytes))


def _goal(name: str) -> Goal:
    if name not in get_args(Goal):
        raise InvalidRequest(f"--for takes throughput or latency, not {name!r}", param="for")
    return cast(Goal, name)


def _precisions(spec: ModelSpec, allow: Sequence[str]) -> tuple[str, ...]:
    """Precisions to try in addition to the rules' choice: fp32 and those allowed. Speed alone never lowers it."""
    for name in allow:
        if name not in spec.precisions:
            there = ", ".join(spec.precisions)
            raise InvalidRequest(f"{spec.name} has no precision {name!r}; it has {there}", param="allow")
    return ("fp32", *allow)


# -- output


@contextmanager
def _progress(seconds: float) -> Iterator[Tell]:
    """A progress bar of the time, with a line per decided field."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn(f"of {seconds:.0f} s")
    began = time.perf_counter()
    with Progress(*columns, console=show.console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=seconds)

        def tell(doing: str, found: str) -> None:
            bar.update(task, description=escape(doing), completed=time.perf_counter() - began)
            if found:
                bar.console.print(Text(found))

        yield tell


def _told(result: Result, seconds: float) -> Iterator[str]:
    """The result as sentences."""
    more = f"saywell tune --seconds {max(60, 4 * seconds):.0f}"
    if result.verdict == "short":
        if result.skipped:
            yield f"Too little time to compare plans, nothing stored: {more}"
        else:
            yield "Nothing to choose: settings and machine leave only one plan. Nothing is stored."
        return
    by_turns = ", ".join(f"{candidate} RTF {median(trial.rtf):.3g}" for candidate, trial in result.test.items())
    if result.verdict == "won":
        yield f"{result.best} beats the rules' plan in interleaved rounds: {by_turns}."
    elif result.test:
        yield f"The rules' plan stays; nothing beats it beyond noise in interleaved rounds: {by_turns}."
    else:
        yield "The rules' plan stays; no alternative is faster."
    if result.skipped:
        yield f"Not tried for lack of time: {', '.join(result.skipped)}. Try: {more}"
    yield "The result is stored; every later plan on this machine uses it (saywell plan)."
