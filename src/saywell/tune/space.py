"""What may be chosen on this machine with this model: candidates for `saywell tune`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from saywell.errors import PlanError
from saywell.plan.plan import Measurement, Plan, make_plan
from saywell.plan.rules import Situation

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.settings import Settings
    from saywell.types import ModelSpec

Values = tuple[tuple[str, Any], ...]
"""Plan fields and what they are set to, sorted by name."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that differs from the rules' in `values`."""

    values: Values
    plan: Plan = field(compare=False)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.values) or "the rules' plan"


class Space:
    """What may be chosen on this machine with this model: the fields no wish has settled."""

    def __init__(self, settings: Settings, hardware: Hardware, spec: ModelSpec, precisions: Sequence[str] = ()) -> None:
        """`precisions`: those that sound like full precision, beside the one the rules take."""
        self._settings, self._hardware, self._spec = settings, hardware, spec
        self._rules = Situation(hardware, spec, settings.worker_python is not None)
        self._precisions = precisions
        self._plain: Plan | None = None
        self.refused: dict[str, str] = {}
        """Options the plan would not have, and why."""

    def candidate(self, values: Iterable[tuple[str, Any]] = ()) -> Candidate:
        """Raises PlanError for a combination that is impossible here."""
        wanted = dict(values)
        plan = self._plan(wanted)
        for name, value in wanted.items():
            if getattr(plan, name) != value:
                raise PlanError(f"{name} stays {getattr(plan, name)}", param=name)
        return Candidate(tuple(sorted(self._shortest(wanted, plan).items())), plan)

    def _shortest(self, wanted: dict[str, Any], plan: Plan) -> dict[str, Any]:
        """Without what the rules would have chosen anyway, so that one plan has one name."""
        if self._plain is None:
            self._plain = make_plan(self._settings, self._hardware, self._spec)
        short = {name: value for name, value in wanted.items() if getattr(self._plain, name) != value}
        same = short == wanted or _bare(self._plan(short)) == _bare(plan)
        return short if same else wanted

    def _plan(self, values: Mapping[str, Any]) -> Plan:
        measured = {name: Measurement(value=value, why="under trial") for name, value in values.items()}
        return make_plan(self._settings, self._hardware, self._spec, measured)

    def factors(self) -> tuple[str, ...]:
        """What is settled, in this order: what decides most comes first."""
        return ("executor", "precision", "threads", "affinity", "slots", "chunk_frames")

    def options(self, factor: str, best: Candidate) -> list[Candidate]:
        """The candidates that differ from `best` in one factor at most, `best` first."""
        found = [best]
        if any(getattr(self._settings, name, None) is not None for name in _FIELDS.get(factor, (factor,))):
            return found
        for change in getattr(self, f"_{factor}")(best.plan):
            try:
                candidate = self.candidate({**dict(best.values), **change}.items())
            except PlanError as error:
                self.refused[", ".join(f"{name}={value}" for name, value in change.items())] = error.message
                continue
            if all(_bare(candidate.plan) != _bare(each.plan) for each in found):
                found.append(candidate)
        return found

    def every(self) -> list[Candidate]:
        """All combinations of all options, the rules' plan first."""
        found = [self.candidate()]
        for factor in self.factors():
            found = [each for base in found for each in self.options(factor, base)]
        return list(dict.fromkeys(found))

    # -- the options of each factor

    def _executor(self, _plan: Plan) -> list[dict[str, Any]]:
        devices = [name for name in ("cuda", "mps") if self._rules.has(name) and not self._rules.lacks(name)]
        pairs = [(device, name) for device in (*devices, "cpu") for name in self._rules.executors(device)]
        if not devices:
            return [{"executor": name} for _, name in pairs]
        return [{"device": device, "executor": name} for device, name in pairs]

    def _precision(self, plan: Plan) -> list[dict[str, Any]]:
        allowed = [name for name in self._spec.precisions if name in self._precisions]
        return [{"precision": name} for name in allowed if name != plan.precision]

    def _threads(self, plan: Plan) -> list[dict[str, Any]]:
        if plan.executor == "process":
            return []
        cores, cpus = self._hardware.usable_cores, self._hardware.usable_cpus
        counts = sorted({1, max(1, cores // 2), max(1, cores - 1), cores, cpus}, reverse=True)
        return [{"threads": count} for count in counts]

    def _affinity(self, plan: Plan) -> list[dict[str, Any]]:
        if plan.executor == "process" or plan.device != "cpu":
            return []
        return [{"affinity": cpus} for cpus in ((), *self._rules.affinities(plan.threads))]

    def _slots(self, plan: Plan) -> list[dict[str, Any]]:
        return [{"slots": count} for count in (2 * plan.slots, plan.slots // 2, 1) if count > 0]

    def _chunk_frames(self, plan: Plan) -> list[dict[str, Any]]:
        if self._rules.single:
            return []
        tile = self._spec.decode_tile
        sizes = (plan.chunk_frames * 2, plan.chunk_frames // 2)
        return [{"chunk_frames": max(tile, size // tile * tile)} for size in sizes]


_FIELDS = {"executor": ("executor", "device")}
"""Settings that settle a factor which is not called like them."""


def _bare(plan: Plan) -> Plan:
    """Without its reasons: two ways to the same decision are one."""
    return replace(plan, reasons=(), levels=())
