"""Search for the fastest plan: coordinate descent in interleaved rounds, then an A/B test against the rules' plan.

Pure: trials are run by a `Rig`. Interleaving spreads temporary slowdowns over all options; the winner of the descent
replaces the rules' plan only if it wins the A/B test beyond noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, Protocol

from saywell.errors import SaywellError
from saywell.plan.tuning_store import Chosen, Goal, Trial
from saywell.tune.space import FIELDS, Candidate, Space, setting_of, shown

FIRST_SLACK = 1.25
"""The TTFA bound is at least this multiple of the TTFA of the rules' plan."""
TIE = 0.03
"""Relative improvement of the median that an option needs to replace an earlier one."""
FAR = 2.0
"""An option this many times slower than the best one gets no further round."""
ROUNDS, LEAST_ROUNDS = 3, 2
"""Rounds per option; the minimum for a decision."""
PAIRS, LEAST_PAIRS, MAY_LOSE = 9, 5, 3
"""Rounds of the A/B test; the minimum for a decision; one loss is allowed per MAY_LOSE rounds beyond the minimum. Equal
plans win 5 of 5 by chance once in 32, 8 of 9 once in 51."""
TEST = 0.4
"""Maximum share of the time for the A/B test."""
SWEEPS = 2
"""Passes over all fields; the second only if the first changed something."""


class Rig(Protocol):
    """Runs trials."""

    def hold(self, candidates: Iterable[Candidate]) -> None:
        """Only these candidates are needed from now on; others may be unloaded."""
        ...

    def run(self, candidate: Candidate, round_: int, limit_s: float) -> Trial:
        """One round, aborted after `limit_s`; loads the candidate if needed. Equal round numbers mean equal work.
        Raises SaywellError, which excludes this candidate only."""
        ...


Rounds = dict[Candidate, Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Ranks trials: lowest RTF with TTFA within a bound, or lowest TTFA with RTF ≤ 1."""

    goal: Goal = "throughput"
    first_s: float = 0.5
    """TTFA bound for the goal `throughput`."""

    def cost(self, trial: Trial) -> tuple[float, ...]:
        """The goal's figure, per round."""
        return trial.rtf if self.goal == "throughput" else trial.first_s

    def rank(self, trial: Trial) -> tuple[bool, float]:
        """Sort key: best first, trials outside the bound last."""
        fits = median(trial.first_s) <= self.first_s if self.goal == "throughput" else median(trial.rtf) <= 1
        return not fits, median(self.cost(trial))

    def best(self, trials: Rounds) -> Candidate:
        """The best candidate; the earlier one of a tie."""
        unfit, cost = min(map(self.rank, trials.values()))
        return next(each for each, trial in trials.items() if self.rank(trial) <= (unfit, cost * (1 + TIE)))

    def wins(self, found: Trial, rules: Trial) -> bool:
        """Whether `found` beats `rules` in the median and in nearly every pair."""
        (unfit, mine), (other_unfit, theirs) = self.rank(found), self.rank(rules)
        pairs = list(zip(self.cost(found), self.cost(rules), strict=True))
        lost = sum(one >= other for one, other in pairs)
        clear = lost <= (len(pairs) - LEAST_PAIRS) // MAY_LOSE and mine * (1 + TIE) < theirs
        return clear if unfit == other_unfit else other_unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of a search."""

    verdict: Literal["won", "rules", "short"]
    """`won`: `best` beats the rules' plan; `rules`: nothing beats it; `short`: too little time to decide."""
    best: Candidate
    chosen: dict[str, Chosen]
    """Every field that was tried, changed or not. Empty if `short`."""
    trials: Rounds
    test: Rounds
    """Rounds of the A/B test. Empty if there was none."""
    skipped: tuple[str, ...]
    """Fields that were not tried for lack of time."""


Tell = Callable[[str, str], None]
"""Progress callback: what is being tried, and its result if there is one."""


class _TimeOver(Exception):
    """The next round would exceed the time, or did."""


class Search:
    """`clock`: monotonic seconds."""

    def __init__(self, space: Space, rig: Rig, judge: Judge, clock: Callable[[], float], tell: Tell) -> None:
        self._space, self._rig, self._judge, self._clock, self._tell = space, rig, judge, clock, tell
        self._trials: Rounds = {}
        self._round_s = 0.0
        """Seconds of a round of the rules' plan."""

    def run(self, seconds: float) -> Result:
        """Search for `seconds`. Raises the error of the rules' plan if that one fails."""
        end, rules = self._clock() + seconds, self._space.rules
        choices = [name for name in FIELDS if len(self._space.options(name, rules)) > 1]
        told, test, best = dict[str, str](), Rounds(), rules
        try:
            self._baseline(end)
            # Time for the A/B test is reserved.
            found = self._descend(told, end - min(2 * PAIRS * self._round_s, TEST * seconds))
            if found != rules:
                test = self._interleaved("A/B test against the rules' plan", [rules, found], PAIRS, end, math.inf)
                if len(test) == 2 and self._judge.wins(test[found], test[rules]):
                    best = found
                else:
                    told = dict.fromkeys(told, explain("plan", rules, {rules: self._trials[rules], **test}))
        except _TimeOver:
            told = {}
        return Result(
            verdict="short" if not told else "rules" if best == rules else "won",
            best=best,
            chosen=self._chosen(best, told),
            trials=self._trials,
            test=test,
            skipped=tuple(name for name in choices if name not in told),
        )

    def _baseline(self, end: float) -> None:
        """Load and time the rules' plan; its failure ends the search."""
        rules = self._space.rules
        self._tell("the rules' plan", "")
        self._rig.hold([rules])
        for round_ in range(2):
            began = self._clock()
            self._keep({rules: self._one(rules, round_, end)})
            self._round_s = self._clock() - began
        slack = FIRST_SLACK * median(self._trials[rules].first_s)
        self._judge = replace(self._judge, first_s=max(self._judge.first_s, slack))

    def _descend(self, told: dict[str, str], deadline: float) -> Candidate:
        """Decide one field after the other, with reasons in `told`; returns the best plan."""
        best = self._space.rules
        for _ in range(SWEEPS):
            before = best
            for name in FIELDS:
                options = [each for each in self._space.options(name, best) if not self._failed(each)]
                if len(options) < 2:
                    continue
                with suppress(_TimeOver):
                    trials = self._interleaved(name, options, ROUNDS, deadline, FAR)
                    if not trials:
                        continue
                    best = self._judge.best(trials)
                    told[name] = explain(name, best, trials)
                    self._tell(name, f"{name} = {shown(getattr(best.plan, name))}, {told[name]}")
            if best == before:
                break
        return best

    def _failed(self, candidate: Candidate) -> bool:
        return candidate in self._trials and bool(self._trials[candidate].failed)

    def _interleaved(self, name: str, options: Sequence[Candidate], rounds: int, deadline: float, far: float) -> Rounds:
        """Interleaved rounds of all options; returns those that succeeded. If time runs out, complete rounds count.

        Earlier results are not reused: conditions may have changed. Raises _TimeOver without enough rounds.
        """
        running, trials = list(options), {each: Trial(values=dict(each.values)) for each in options}
        for round_ in range(rounds):
            self._tell(f"{name}, round {round_ + 1} of {rounds}", "")
            self._rig.hold(running)
            # Alternate the order, so that drift (such as heat) favours no option.
            order = running[::-1] if round_ % 2 else running
            try:
                fresh = {each: self._attempt(each, round_, deadline) for each in order}
            except _TimeOver:
                if round_ < (LEAST_PAIRS if rounds == PAIRS else LEAST_ROUNDS):
                    raise
                break
            trials.update((each, trials[each].plus(trial)) for each, trial in fresh.items())
            running = self._near({each: trials[each] for each in running if not trials[each].failed}, far)
            if len(running) < 2:
                break
        self._keep(trials)
        return {each: trial for each, trial in trials.items() if not trial.failed}

    def _keep(self, trials: Rounds) -> None:
        for each, trial in trials.items():
            self._trials[each] = self._trials[each].plus(trial) if each in self._trials else trial

    def _attempt(self, candidate: Candidate, round_: int, deadline: float) -> Trial:
        try:
            return self._one(candidate, round_, deadline)
        except SaywellError as error:
            self._tell(str(candidate), f"{candidate} is excluded: {error.message}")
            return Trial(values=dict(candidate.values), failed=error.message)

    def _one(self, candidate: Candidate, round_: int, deadline: float) -> Trial:
        left = deadline - self._clock()
        if left <= self._round_s:
            raise _TimeOver
        try:
            return self._rig.run(candidate, round_, left)
        except SaywellError as error:
            if self._clock() >= deadline:
                raise _TimeOver from error
            raise

    def _near(self, trials: Rounds, far: float) -> list[Candidate]:
        """Candidates worth another round."""
        ranks = {each: self._judge.rank(trial) for each, trial in trials.items()}
        most = far * min(ranks.values(), default=(False, 0.0))[1]
        return [each for each, (_, cost) in ranks.items() if cost <= most]

    def _chosen(self, best: Candidate, told: Mapping[str, str]) -> dict[str, Chosen]:
        if not told:
            return {}
        if not self._space.is_set("executor"):
            # The result of one executor does not apply to another that is installed later.
            told = {"executor": f"measured here: {_figures(self._trials[best])}", **told}
        if any("device" in dict(each.values) for each in self._trials):
            told = {"device": told["executor"], **told}
        return {name: Chosen(value=setting_of(best.plan, name), why=why) for name, why in told.items()}


def explain(name: str, best: Candidate, trials: Rounds) -> str:
    """The figures as a sentence: the winner's, then the others'."""
    others = [f"{shown(getattr(each.plan, name, each))} {_figures(trial)}" for each, trial in trials.items()
              if each != best]  # fmt: skip
    return f"measured here: {_figures(trials[best])}" + (f" (others: {'; '.join(others)})" if others else "")


def _figures(trial: Trial) -> str:
    return f"RTF {median(trial.rtf):.3g}, TTFA {1000 * median(trial.first_s):.0f} ms"
