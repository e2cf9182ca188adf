"""Does `saywell tune` find the fastest plan of all there are here, and does it correct a wrong rule?

All combinations of what may be chosen are measured, round by round in turns; then the search of `saywell tune` runs,
and runs once more with a wrong rule planted (a model that is said to gain from one thread only, or from two). In the
end the plans that were found, the best of all combinations and the rules' plans race once more, in turns.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from saywell.bench.setting import check_outputs, machine, wishes
from saywell.machine import Hardware, detect
from saywell.models.base import find_spec
from saywell.plan.measured import Record
from saywell.settings import load_settings
from saywell.tune.search import Judge, Runs, Tuner
from saywell.tune.space import Candidate, Space
from saywell.tune.trials import Trials, room
from saywell.types import ModelSpec

CLOSE = 0.05
"""What is found may cost so much more than the best there is: rounds differ by as much."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One model on this machine, and how long to look."""

    wishes: dict[str, Any]
    hardware: Hardware
    spec: ModelSpec
    seconds: float
    rounds: int
    judge: Judge

    def space(self, spec: ModelSpec | None = None) -> Space:
        return Space(load_settings(self.wishes), self.hardware, spec or self.spec, ("fp32",))

    def trials(self) -> Trials:
        return Trials(self.spec, self.seconds, room=room(self.space().candidate().plan.memory_budget))


def main(args: list[str]) -> int:
    """Run it. 1 if the search missed the best plan or a wrong rule stood."""
    options = _options(args)
    check_outputs(options)
    spec = find_spec(options.model, None)
    setup = Setup(
        wishes(options), detect(), spec, options.seconds, options.rounds, Judge(first_s=options.first_ms / 1000)
    )
    result = {"machine": machine(), "model": Path(spec.name).name, **check(setup, options.plot)}
    Console(width=120).print(_table(result["duel"]))
    if options.save:
        options.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "every"}))  # noqa: T201
    return 0 if result["met"] else 1


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="saywell bench tune-check", description=__doc__)
    parser.add_argument("--model", help="a model or the directory of a converted one (default: the default model)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each search (default 60)")
    parser.add_argument("--rounds", type=int, default=3, help="of every combination (default 3)")
    parser.add_argument("--first-ms", type=float, default=500.0, help="bound of the first sound (default 500)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="what is not to be varied")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write every round as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG of all combinations")
    return parser.parse_args(args)


def check(setup: Setup, plot: Path | None = None) -> dict[str, Any]:
    """Every combination, both searches, and the duel."""
    with closing(setup.trials()) as trials:
        every = _tuner(setup, setup.space(), trials).exhaust(setup.rounds)
    if plot is not None:
        from saywell.bench import tune_plots

        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        record = Record(model=setup.spec.name, goal=setup.judge.goal, when=now, seconds=0.0,
                        best=dict(every.best.candidate.values), chosen=every.chosen,
                        trials=[runs.trial() for runs in every.runs])  # fmt: skip
        tune_plots.draw(record, plot)
    entered = {"best of all": every.best.candidate, "the rules' plan": setup.space().candidate()}
    found, took = _search(setup, setup.spec)
    entered["found"] = found
    wrong = _wrong(setup, found)
    if wrong is not None:
        entered["a wrong rule's plan"] = setup.space(wrong).candidate()
        entered["found from it"], _ = _search(setup, wrong)
    duel = _duel(setup, entered)
    limit = duel["best of all"]["cost"] * (1 + CLOSE)
    met = all(row["cost"] <= limit for name, row in duel.items() if name.startswith("found"))
    rows = [{"values": _values(runs.candidate), "rtf": runs.trial().rtf, "first_s": runs.trial().first_s,
             "failed": runs.failed} for runs in every.runs]  # fmt: skip
    return {"combinations": len(rows), "search_s": round(took, 1), "duel": duel, "met": met, "every": rows}


def _tuner(setup: Setup, space: Space, trials: Trials) -> Tuner:
    return Tuner(space, trials, setup.judge, time.perf_counter, lambda *_: None)


def _search(setup: Setup, spec: ModelSpec) -> tuple[Candidate, float]:
    """What `saywell tune` finds, and the seconds it took."""
    began = time.perf_counter()
    with closing(setup.trials()) as trials:
        found = _tuner(setup, setup.space(spec), trials).search(setup.seconds)
    return found.best.candidate, time.perf_counter() - began


def _wrong(setup: Setup, found: Candidate) -> ModelSpec | None:
    """The model with a wrong word about threads; None where threads are no choice."""
    plan = found.plan
    if plan.executor == "process" or plan.device != "cpu" or setup.hardware.usable_cores < 2:
        return None
    return replace(setup.spec, max_threads=2 if plan.threads == 1 else 1)


def _duel(setup: Setup, entered: dict[str, Candidate]) -> dict[str, dict[str, Any]]:
    """Each plan once, however often it is named, in rounds by turns. RTF and first sound are medians."""
    with closing(setup.trials()) as trials:
        plans = {_told(candidate): candidate for candidate in entered.values()}
        ran = _tuner(setup, setup.space(), trials).measure("duel", list(plans.values()), 2 * setup.rounds)
    by_plan = dict(zip(plans, ran, strict=True))
    return {name: _row(setup, candidate, by_plan[_told(candidate)]) for name, candidate in entered.items()}


def _row(setup: Setup, candidate: Candidate, runs: Runs) -> dict[str, Any]:
    _, cost = setup.judge.total(runs)
    return {"plan": _told(candidate), "cost": cost, "rtf": runs.rtf, "first_s": runs.first_s}


_TOLD = ("executor", "precision", "threads", "affinity", "slots", "chunk_frames")


def _values(candidate: Candidate) -> dict[str, Any]:
    return {name: getattr(candidate.plan, name) for name in _TOLD}


def _told(candidate: Candidate) -> str:
    return ", ".join(f"{name}={value}" for name, value in _values(candidate).items())


def _table(duel: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "Plan", "RTF", "First sound"):
        table.add_column(title)
    for name, row in duel.items():
        table.add_row(name, row["plan"], f"{row['rtf']:.4f}", f"{1000 * row['first_s']:.0f} ms")
    return table
