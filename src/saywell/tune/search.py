"""Which plan is fastest here: a race between candidates. Pure; what runs a trial is given.

Factors are settled one after the other, each by a race of its options with all else held at the best so far, and once
more if time is left and something has changed. Rounds are interleaved, so that what slows the machine for a while slows
all of them; an option is out as soon as it has lost every round clearly enough, a race ends when one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Protocol

from saywell.errors import SaywellError
from saywell.plan.measured import Chosen, Goal, Trial
from saywell.tune.space import Candidate, Space

FIRST_S = 0.5
"""Under the goal `throughput`, the first sound of a lone request comes within this, or …"""
FIRST_SLACK = 1.25
"""… within so many times what the rules' plan takes, where that is longer."""
REAL_TIME = 1.0
"""Under the goal `latency`, an RTF that keeps up with a listener."""
TIE = 0.02
"""Options closer than this are equal: the one the rules prefer stays."""
APART = ((2, 1.25), (3, 1.05))
"""After so many rounds an option is out whose best one cost more than so many times the leader's worst …"""
LOST = 5
"""… and after so many if it has lost every one of them: among equals that comes by chance once in 32."""
MOST_ROUNDS = 9
DUEL = 0.15
"""Share of the time in which what was found has to prove itself against the rules' plan."""
SWEEPS = 2
"""Times every factor is settled: once more if something has changed the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One round of one candidate."""

    rtf: float
    first_s: float


class Rig(Protocol):
    """What runs trials. Every method may raise SaywellError, which is the end of that candidate and of nothing else."""

    def hold(self, candidates: Sequence[Candidate]) -> None:
        """From now on only these are wanted: whatever else is loaded may go."""
        ...

    def run(self, candidate: Candidate, round_: int) -> Sample:
        """One round; loads the candidate if it is not. The same round number is the same work for all."""
        ...

    def peak(self, candidate: Candidate) -> int: ...


# -- judging


@dataclass(slots=True)
class Runs:
    """The rounds of one candidate so far."""

    candidate: Candidate
    samples: list[Sample] = field(default_factory=list)
    failed: str = ""
    peak: int = 0

    @property
    def rtf(self) -> float:
        return median(sample.rtf for sample in self.samples)

    @property
    def first_s(self) -> float:
        return median(sample.first_s for sample in self.samples)

    def trial(self) -> Trial:
        return Trial(
            values=dict(self.candidate.values),
            rtf=tuple(sample.rtf for sample in self.samples),
            first_s=tuple(sample.first_s for sample in self.samples),
            peak_bytes=self.peak,
            failed=self.failed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What counts as better."""

    goal: Goal = "throughput"
    first_s: float = FIRST_S
    """Bound of the first sound under the goal `throughput`."""

    def cost(self, sample: Sample) -> float:
        return sample.rtf if self.goal == "throughput" else sample.first_s

    def fit(self, runs: Runs) -> bool:
        """Whether it keeps the bound that stands beside the goal."""
        return runs.first_s <= self.first_s if self.goal == "throughput" else runs.rtf <= REAL_TIME

    def total(self, runs: Runs) -> tuple[bool, float]:
        """Sorts the best first."""
        return not self.fit(runs), median(self.cost(sample) for sample in runs.samples)

    def best(self, field_: Sequence[Runs]) -> Runs:
        """The best of those that ran; an earlier one if it is as good as equal."""
        unfit, cost = min(self.total(each) for each in field_)
        good = [each for each in field_ if self.total(each)[0] == unfit]
        return next(each for each in good if self.total(each)[1] <= cost * (1 + TIE))

    def out(self, runs: Runs, leader: Runs) -> bool:
        """Whether it has lost to the leader beyond doubt."""
        if runs is leader or self.fit(runs) > self.fit(leader):
            return False
        pairs = [(self.cost(one), self.cost(two)) for one, two in zip(runs.samples, leader.samples, strict=False)]
        gap = min(mine for mine, _ in pairs) / max(theirs for _, theirs in pairs)
        apart = any(len(pairs) >= rounds and gap > factor for rounds, factor in APART)
        return apart or (len(pairs) >= LOST and all(mine > theirs for mine, theirs in pairs))


# -- racing

Tell = Callable[[str, Sequence[Runs]], None]
"""Called after every round: what is being settled, and how its options stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the races gave."""

    best: Runs
    chosen: dict[str, Chosen]
    runs: list[Runs]
    """Everything that was tried."""
    skipped: tuple[str, ...] = ()
    """Factors there was no time for."""
    rules: Runs | None = None
    """The rules' plan beside the one found, if that was another: their last race. `best` is of the same race."""


class Tuner:
    """Settles the factors. `clock` gives seconds and only goes forward."""

    def __init__(self, space: Space, rig: Rig, judge: Judge, clock: Callable[[], float], tell: Tell) -> None:
        self._space, self._rig, self._judge, self._clock, self._tell = space, rig, judge, clock, tell
        self._runs: dict[Candidate, Runs] = {}

    def search(self, seconds: float) -> Result:
        """The best plan that can be found in so many seconds. Raises what the rules' own plan fails with."""
        end = self._clock() + seconds
        deadline = end - DUEL * seconds
        best, told, skipped = self._baseline(), dict[str, str](), list[str]()
        rules = best.candidate
        factors = self._space.factors()
        for sweep in range(SWEEPS):
            before = best.candidate
            for place, name in enumerate(factors):
                options = self._options(name, best.candidate)
                left = deadline - self._clock()
                if len(options) > 1 and left > 0:
                    race = self.race(name, options, self._clock() + left / (len(factors) - place))
                    best = self._judge.best(race) if race else best
                    told[name] = explain(name, best, race, self._judge)
                elif len(options) > 1 and not sweep:
                    skipped.append(name)
            if best.candidate == before:
                break
        duel = self._duel(rules, best.candidate, end)
        if duel:
            best, told = self._judge.best(duel), _retold(rules, best.candidate, told, duel, self._judge)
        beside = next((each for each in duel if each.candidate == rules), None)
        return Result(
            best=best,
            chosen=_chosen(best, told),
            runs=list(self._runs.values()),
            skipped=tuple(skipped),
            rules=beside,
        )

    def _duel(self, rules: Candidate, found: Candidate, end: float) -> list[Runs]:
        """The rules' plan and what was found, in turns: races of other times, on a machine that was busier in some,
        must not end in a plan that is slower. Empty if they are the same."""
        return [] if found == rules else self.race("the rules' plan", [rules, found], end)

    def exhaust(self, rounds: int) -> Result:
        """Every combination, so many interleaved rounds each."""
        self._baseline()
        everything = self.measure("every combination", self._space.every(), rounds)
        ran = [runs for runs in everything if not runs.failed]
        best = self._judge.best(ran)
        why = explain("plan", best, ran, self._judge)
        chosen = {name: Chosen(value=value, why=why) for name, value in best.candidate.values}
        return Result(best=best, chosen=chosen, runs=list(self._runs.values()))

    def measure(self, name: str, candidates: Sequence[Candidate], rounds: int) -> list[Runs]:
        """So many interleaved rounds of each, in the order given; those that failed say why."""
        entered = [Runs(each) for each in candidates]
        for round_ in range(rounds):
            self._round(name, entered, round_)
        for each in entered:
            self._keep(each)
        return entered

    def race(self, name: str, options: Sequence[Candidate], deadline: float) -> list[Runs]:
        """Interleaved rounds until one option is left, the rest is equal, or time is up; those that ran at all.

        All start anew, whatever is known of them from another race: it was run at another time.
        """
        entered = running = [Runs(each) for each in options]
        for round_ in range(MOST_ROUNDS):
            began = self._clock()
            self._round(name, running, round_)
            running = self._remaining(running)
            took = self._clock() - began
            if len(running) < 2 or self._clock() + took > deadline:
                break
        for each in entered:
            self._keep(each)
        return [each for each in entered if each.samples and not each.failed]

    def _options(self, name: str, best: Candidate) -> list[Candidate]:
        """Those of a factor that have not failed before."""
        return [each for each in self._space.options(name, best) if each == best or not self._failed(each)]

    def _failed(self, candidate: Candidate) -> bool:
        return candidate in self._runs and bool(self._runs[candidate].failed)

    def _round(self, name: str, running: Sequence[Runs], round_: int) -> None:
        self._rig.hold([each.candidate for each in running])
        # Every other round backwards: whatever grows with time, such as heat, favours nobody.
        for each in running if round_ % 2 == 0 else reversed(running):
            if not each.failed:
                self._one(each, round_)
        self._tell(name, running)

    def _one(self, runs: Runs, round_: int) -> None:
        try:
            runs.samples.append(self._rig.run(runs.candidate, round_))
            runs.peak = max(runs.peak, self._rig.peak(runs.candidate))
        except SaywellError as error:
            runs.failed = error.message

    def _remaining(self, running: Sequence[Runs]) -> list[Runs]:
        left = [each for each in running if not each.failed]
        if not left:
            return []
        leader = self._judge.best(left)
        return [each for each in left if not self._judge.out(each, leader)]

    def _baseline(self) -> Runs:
        """The rules' own plan: with nothing to compare it with, its failure is everybody's."""
        runs = Runs(self._space.candidate())
        self._rig.hold([runs.candidate])
        runs.samples.append(self._rig.run(runs.candidate, 0))
        runs.peak = self._rig.peak(runs.candidate)
        self._keep(runs)
        if self._judge.goal == "throughput":
            self._judge = replace(self._judge, first_s=max(self._judge.first_s, FIRST_SLACK * runs.first_s))
        return runs

    def _keep(self, runs: Runs) -> None:
        known = self._runs.setdefault(runs.candidate, Runs(runs.candidate))
        known.samples += runs.samples
        known.peak, known.failed = max(known.peak, runs.peak), runs.failed or known.failed


def _retold(rules: Candidate, found: Candidate, told: dict[str, str], duel: list[Runs], judge: Judge) -> dict[str, str]:
    """Reasons after the duel: where the rules have won it, theirs for every field that had been moved."""
    best = judge.best(duel)
    if best.candidate != rules:
        return told
    why = explain("plan", best, duel, judge)
    moved = {name for name in told if getattr(rules.plan, name) != getattr(found.plan, name)}
    return {name: why if name in moved else reason for name, reason in told.items()}


def _chosen(best: Runs, told: dict[str, str]) -> dict[str, Chosen]:
    """Every field a race has settled, moved or not: what confirmed a rule is a measurement, too."""
    chosen = {name: Chosen(value=getattr(best.candidate.plan, name), why=why) for name, why in told.items()}
    if "device" in dict(best.candidate.values):
        chosen["device"] = Chosen(value=best.candidate.plan.device, why=told["executor"])
    return chosen


def explain(name: str, best: Runs, race: Sequence[Runs], judge: Judge) -> str:
    """The figures of a race in a sentence: the winner's, then the others'."""
    others = sorted((each for each in race if each is not best), key=judge.total)
    shown = "; ".join(f"{_label(name, each)} {_figures(each)}" for each in others[:4])
    return f"measured here: {_figures(best)}" + (f" (others: {shown})" if shown else "")


def _label(name: str, runs: Runs) -> str:
    value = getattr(runs.candidate.plan, name, None)
    return str(runs.candidate) if value is None else str(value)


def _figures(runs: Runs) -> str:
    return f"RTF {runs.rtf:.3g}, first sound {1000 * runs.first_s:.0f} ms"
