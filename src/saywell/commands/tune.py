"""`saywell tune`: try what the plan may choose on this machine, and keep what is fastest for every later plan."""

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
from saywell.plan.memory import beside
from saywell.plan.tuning_store import Goal, Record
from saywell.settings import Settings
from saywell.tune.search import Judge, Result, Search, Tell
from saywell.tune.space import Space
from saywell.tune.trials import Trials

if TYPE_CHECKING:
    from saywell.types import ModelSpec

_ROOM = 4, 5
"""Share of the memory budget that engines under trial may take together: the rest is for other programs."""
_LEAVE_S = 3.0
"""In which the program starts and the engines leave; a fifth of the time where that is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    seconds: float = 60.0
    goal: str = "throughput"
    first_ms: float = 500.0
    allow: Sequence[str] = ()
    forget: bool = False
    as_json: bool = False


def run(settings: Settings, wanted: Wanted) -> None:
    """Measure, show, keep. Raises what keeps the plan of the rules itself from running."""
    began = time.perf_counter()
    hardware, spec = detect(), facts(settings)
    store = measured(settings, hardware, spec)
    if wanted.forget:
        store.forget()
        show.console(stderr=True).print(f"what was measured of {spec.name} on this machine is forgotten")
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
    if wanted.as_json:  # shown before it is kept: the disk may have filled up meanwhile
        print(show.as_json({**msgspec.to_builtins(record), "verdict": result.verdict, "kept": kept}))  # noqa: T201
    else:
        for option, why in space.refused.items():
            show.console().print(Text(f"{option} is not possible here: {why}"))
        for line in _told(result, wanted.seconds):
            show.console().print(Text(line))
    if kept and trial is not None:
        store.save(record)
        if trial.peak_bytes:
            store.weigh(plan, beside(plan, spec, trial.peak_bytes))


def _goal(name: str) -> Goal:
    if name not in get_args(Goal):
        raise InvalidRequest(f"--for takes throughput or latency, not {name!r}", param="for")
    return cast(Goal, name)


def _precisions(spec: ModelSpec, allow: Sequence[str]) -> tuple[str, ...]:
    """What may be tried beside the rules' own choice: full precision, and what a person allows. Speed never decides
    about sound."""
    for name in allow:
        if name not in spec.precisions:
            there = ", ".join(spec.precisions)
            raise InvalidRequest(f"{spec.name} has no precision {name!r}; it has {there}", param="allow")
    return ("fp32", *allow)


# -- shown


@contextmanager
def _progress(seconds: float) -> Iterator[Tell]:
    """A bar of the time, and above it a line for each field that is settled."""
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
    """What came out, in plain words."""
    more = f"saywell tune --seconds {max(60, 4 * seconds):.0f}"
    if result.verdict == "short":
        if result.skipped:
            yield f"The time was too short to tell one plan from another, so nothing is kept: {more}"
        else:
            yield "There is nothing to choose here: the settings and this machine leave one plan. Nothing is kept."
        return
    by_turns = ", ".join(f"{candidate} RTF {median(trial.rtf):.3g}" for candidate, trial in result.test.items())
    if result.verdict == "won":
        yield f"{result.best} beats the rules' plan, in rounds by turns: {by_turns}."
    elif result.test:
        yield f"The rules' plan stays, since nothing beats it beyond the noise, in rounds by turns: {by_turns}."
    else:
        yield "The rules' plan stays: nothing that was tried is faster."
    if result.skipped:
        yield f"There was no time for {', '.join(result.skipped)}: {more}"
    yield "It is kept; every plan on this machine uses it (saywell plan)."
