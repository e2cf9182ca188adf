"""`saywell tune`: try what the plan may choose on this machine, and keep what is fastest for every later plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from saywell.commands import show
from saywell.commands.sinks import check_place
from saywell.engine.launch import facts, measured
from saywell.errors import InvalidRequest, MissingDependency
from saywell.machine import detect
from saywell.plan.measured import Goal, Record
from saywell.plan.memory import beside, mb
from saywell.settings import Settings
from saywell.tune.search import Judge, Result, Runs, Tell, Tuner
from saywell.tune.space import Space
from saywell.tune.trials import Trials, room

if TYPE_CHECKING:
    from saywell.types import ModelSpec

_ROUNDS = 5
"""Of every combination, when all are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    seconds: float = 60.0
    goal: str = "throughput"
    first_ms: float = 500.0
    exhaustive: bool = False
    allow: Sequence[str] = ()
    plot: Path | None = None
    forget: bool = False
    as_json: bool = False


def run(settings: Settings, wanted: Wanted) -> None:
    """Measure, show, keep. Raises what keeps the plan of the rules itself from running."""
    hardware, spec = detect(), facts(settings)
    store = measured(settings, hardware, spec)
    if wanted.forget:
        store.forget()
        show.console(stderr=True).print(f"what was measured of {spec.name} on this machine is forgotten")
        return
    goal, draw = _goal(wanted.goal), _plotter() if wanted.plot else None
    if wanted.plot is not None:
        check_place(wanted.plot, "--plot")
    store.check()
    space = Space(settings, hardware, spec, _precisions(spec, wanted.allow))
    began = time.perf_counter()
    budget = space.candidate().plan.memory_budget
    trials = Trials(spec, wanted.seconds, python=settings.worker_python, room=room(budget))
    judge = Judge(goal=goal, first_s=wanted.first_ms / 1000)
    with closing(trials), _standings(None if wanted.exhaustive else wanted.seconds) as tell:
        tuner = Tuner(space, trials, judge, time.perf_counter, tell)
        result = tuner.exhaust(_ROUNDS) if wanted.exhaustive else tuner.search(wanted.seconds)
    record = Record(
        model=spec.name,
        goal=goal,
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - began, 1),
        best=dict(result.best.candidate.values),
        chosen=result.chosen,
        trials=[runs.trial() for runs in result.runs],
    )
    _report(result, record, wanted, judge)  # first: the disk may have filled up meanwhile
    store.save(record)
    if result.best.peak:
        plan = result.best.candidate.plan
        store.weigh(plan.precision, beside(plan, spec, result.best.peak))
    if not wanted.as_json:
        show.console().print(f"Kept after {record.seconds:.0f} s; every plan on this machine uses it (saywell plan).")
    if draw is not None:
        draw(record, wanted.plot)


def _goal(name: str) -> Goal:
    if name == "latency":
        return "latency"
    if name != "throughput":
        raise InvalidRequest(f"--for takes throughput or latency, not {name!r}", param="for")
    return "throughput"


def _precisions(spec: ModelSpec, allow: Sequence[str]) -> tuple[str, ...]:
    """What may be tried beside the rules' own choice: full precision, and what a person allows after
    `python -m benchmarks.quality`. Speed never decides about sound."""
    for name in allow:
        if name not in spec.precisions:
            there = ", ".join(spec.precisions)
            raise InvalidRequest(f"{spec.name} has no precision {name!r}; it has {there}", param="allow")
    return ("fp32", *allow)


# -- shown


@contextmanager
def _standings(seconds: float | None) -> Iterator[Tell]:
    """A bar of the time that is left, and above it how the options of the race stand. None: no end is known."""
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    screen, began = show.console(stderr=True), time.perf_counter()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
        console=screen,
    )  # fmt: skip
    task = bar.add_task("loading", total=seconds, left="")
    with Live(bar, console=screen, transient=True, refresh_per_second=4) as live:

        def tell(name: str, running: Sequence[Runs]) -> None:
            took = time.perf_counter() - began
            left = "" if seconds is None else f"at most {max(0, seconds - took):.0f} s left"
            bar.update(task, description=name, completed=took, left=left)
            grid = Table.grid()
            grid.add_row(_table(name, running))
            grid.add_row(bar)
            live.update(grid)

        yield tell


def _table(name: str, runs: Sequence[Runs], best: Runs | None = None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(name, style="bold", overflow="fold")
    for title in ("Rounds", "RTF", "First sound", "Memory", ""):
        table.add_column(title, justify="left" if not title else "right", no_wrap=bool(title))
    for each in runs:
        mark = "fastest" if best is not None and each.candidate == best.candidate else ""
        table.add_row(Text(str(each.candidate)), str(len(each.samples)), *_cells(each), Text(each.failed or mark))
    return table


def _cells(runs: Runs) -> tuple[str, str, str]:
    if not runs.samples:
        return "–", "–", "–"
    spread = [sample.rtf for sample in runs.samples]
    rtf = f"{runs.rtf:.4f} ({min(spread):.4f}–{max(spread):.4f})"
    return rtf, f"{1000 * runs.first_s:.0f} ms", mb(runs.peak) if runs.peak else "–"


def _report(result: Result, record: Record, wanted: Wanted, judge: Judge) -> None:
    if wanted.as_json:
        print(show.as_json(record))  # noqa: T201
        return
    screen = show.console()
    ordered = sorted((each for each in result.runs if each.samples and not each.failed), key=judge.total)
    failed = [each for each in result.runs if each.failed]
    screen.print(_table("Trial", [*ordered, *failed], result.best))
    for name, chosen in record.chosen.items():
        screen.print(Text(f"{name} = {_shown(chosen.value)}: {chosen.why}"))
    if result.skipped:
        screen.print(
            f"There was no time for {', '.join(result.skipped)}: saywell tune --seconds {4 * wanted.seconds:g}"
        )
    if result.rules is not None and result.rules is not result.best:
        screen.print(
            f"In turns with it the rules' plan had RTF {result.rules.rtf:.4f}, this one {result.best.rtf:.4f}."
        )
    elif result.rules is not None:
        screen.print("In turns with what the races gave, the rules' plan was as fast or faster: it stays.")


def _shown(value: Any) -> str:
    return "wherever the system puts them" if value == () else str(value)


def _plotter() -> Any:
    """The function that draws; asked for before anything is measured, so that a missing package costs no minute."""
    try:
        return import_module("saywell.bench.tune_plots").draw
    except ModuleNotFoundError as error:
        raise MissingDependency(f"a plot needs {error.name}: pip install 'saywell[bench]'") from error
