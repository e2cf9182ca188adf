"""Which plan is fastest here: coordinate descent, then an A/B test. Pure; what runs a trial is given.

One field after the other: its options run in rounds by turns, so that what slows the machine for a while slows all of
them, and the best median stays. What was found in the end runs by turns with the rules' plan; unless it wins beyond the
noise of these very rounds, the rules stay.
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
"""The bound of the first sound is at least so many times what the rules' plan takes."""
TIE = 0.03
"""An option takes the place of one before it if its median is better by more than this."""
FAR = 2.0
"""An option that takes so many times as long as the best one runs no other round."""
ROUNDS, LEAST_ROUNDS = 3, 2
"""Of each option, and the fewest that decide."""
PAIRS, LEAST_PAIRS, MAY_LOSE = 9, 5, 3
"""Rounds of the A/B test, the fewest that decide, and for how many beyond these one may be lost: among equals five of
five are won by chance once in 32, eight of nine once in 51."""
TEST = 0.4
"""The A/B test is given no more than this share of the time."""
SWEEPS = 2
"""Times each field is tried: once more if something has changed the first time."""


class Rig(Protocol):
    """What runs trials."""

    def hold(self, candidates: Iterable[Candidate]) -> None:
        """From now on only these are wanted: whatever else is loaded may go."""
        ...

    def run(self, candidate: Candidate, round_: int, limit_s: float) -> Trial:
        """One round, broken off after `limit_s`; loads the candidate if it is not. The same round number is the same
        work for all. Raises SaywellError, which is the end of that candidate and of nothing else."""
        ...


Rounds = dict[Candidate, Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What counts as better: a low RTF whose first sound comes in time, or an early first sound that keeps up."""

    goal: Goal = "throughput"
    first_s: float = 0.5
    """Bound of the first sound under the goal `throughput`."""

    def cost(self, trial: Trial) -> tuple[float, ...]:
        """A figure a round."""
        return trial.rtf if self.goal == "throughput" else trial.first_s

    def rank(self, trial: Trial) -> tuple[bool, float]:
        """Sorts the best first, those that miss the bound last."""
        fits = median(trial.first_s) <= self.first_s if self.goal == "throughput" else median(trial.rtf) <= 1
        return not fits, median(self.cost(trial))

    def best(self, trials: Rounds) -> Candidate:
        """The best; an earlier one if it is as good as equal."""
        unfit, cost = min(map(self.rank, trials.values()))
        return next(each for each, trial in trials.items() if self.rank(trial) <= (unfit, cost * (1 + TIE)))

    def wins(self, found: Trial, rules: Trial) -> bool:
        """Whether `found` beats `rules` beyond the noise of these rounds: in the median, and in nearly every pair."""
        (unfit, mine), (other_unfit, theirs) = self.rank(found), self.rank(rules)
        pairs = list(zip(self.cost(found), self.cost(rules), strict=True))
        lost = sum(one >= other for one, other in pairs)
        clear = lost <= (len(pairs) - LEAST_PAIRS) // MAY_LOSE and mine * (1 + TIE) < theirs
        return clear if unfit == other_unfit else other_unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the search gave."""

    verdict: Literal["won", "rules", "short"]
    """`won`: `best` is faster than the rules' plan; `rules`: theirs is as fast as any; `short`: no time to tell."""
    best: Candidate
    chosen: dict[str, Chosen]
    """Every field that was tried, moved or not: what confirms a rule is a measurement, too. Empty if `short`."""
    trials: Rounds
    test: Rounds
    """The A/B test's own rounds: of the rules' plan and of the best other one. Empty if none was better."""
    skipped: tuple[str, ...]
    """Fields there was no time for."""


Tell = Callable[[str, str], None]
"""Takes what is being tried, and a sentence on what has come out of it, if something has."""


class _TimeOver(Exception):
    """The next round would not end in time, or did not."""


class Search:
    """`clock` gives seconds and only goes forward."""

    def __init__(self, space: Space, rig: Rig, judge: Judge, clock: Callable[[], float], tell: Tell) -> None:
        self._space, self._rig, self._judge, self._clock, self._tell = space, rig, judge, clock, tell
        self._trials: Rounds = {}
        self._round_s = 0.0
        """What a round of the rules' plan takes."""

    def run(self, seconds: float) -> Result:
        """The best plan that can be found in so many seconds. Raises what the rules' own plan fails with."""
        end, rules = self._clock() + seconds, self._space.rules
        choices = [name for name in FIELDS if len(self._space.options(name, rules)) > 1]
        told, test, best = dict[str, str](), Rounds(), rules
        try:
            self._baseline(end)
            # The A/B test is sure of its time: what has got that far is faster than the rules' plan.
            found = self._descend(told, end - min(2 * PAIRS * self._round_s, TEST * seconds))
            if found != rules:
                test = self._by_turns("the best beside the rules' plan", [rules, found], PAIRS, end, math.inf)
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
        """The rules' own plan, loaded and timed: with nothing to compare it with, its failure is everybody's."""
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
        """Settle one field after the other, and note in `told` why; the best plan."""
        best = self._space.rules
        for _ in range(SWEEPS):
            before = best
            for name in FIELDS:
                options = [each for each in self._space.options(name, best) if not self._failed(each)]
                if len(options) < 2:
                    continue
                with suppress(_TimeOver):
                    trials = self._by_turns(name, options, ROUNDS, deadline, FAR)
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

    def _by_turns(self, name: str, options: Sequence[Candidate], rounds: int, deadline: float, far: float) -> Rounds:
        """Rounds of all options by turns; those that ran. Where time runs out, whole rounds count.

        All start anew, whatever is known of them: that was at another time. Raises _TimeOver if nothing is decided.
        """
        running, trials = list(options), {each: Trial(values=dict(each.values)) for each in options}
        for round_ in range(rounds):
            self._tell(f"{name}, round {round_ + 1} of {rounds}", "")
            self._rig.hold(running)
            # Every other round backwards: whatever grows with time, such as heat, favours nobody.
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
            self._tell(str(candidate), f"{candidate} is out: {error.message}")
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
        """Those worth another round."""
        ranks = {each: self._judge.rank(trial) for each, trial in trials.items()}
        most = far * min(ranks.values(), default=(False, 0.0))[1]
        return [each for each, (_, cost) in ranks.items() if cost <= most]

    def _chosen(self, best: Candidate, told: Mapping[str, str]) -> dict[str, Chosen]:
        if not told:
            return {}
        if not self._space.chosen_setting("executor"):
            # What holds for one executor says nothing about another that is installed later.
            told = {"executor": f"measured here: {_figures(self._trials[best])}", **told}
        if any("device" in dict(each.values) for each in self._trials):
            told = {"device": told["executor"], **told}
        return {name: Chosen(value=setting_of(best.plan, name), why=why) for name, why in told.items()}


def explain(name: str, best: Candidate, trials: Rounds) -> str:
    """The figures in a sentence: the winner's, then the others'."""
    others = [f"{shown(getattr(each.plan, name, each))} {_figures(trial)}" for each, trial in trials.items()
              if each != best]  # fmt: skip
    return f"measured here: {_figures(trials[best])}" + (f" (others: {'; '.join(others)})" if others else "")


def _figures(trial: Trial) -> str:
    return f"RTF {median(trial.rtf):.3g}, first sound {1000 * median(trial.first_s):.0f} ms"
