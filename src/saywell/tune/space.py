"""Candidates of `saywell tune` for this machine and model. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saywell.errors import PlanError
from saywell.machine import CPU
from saywell.plan.plan import Measurement, Plan, make_plan
from saywell.plan.rules import PlanContext

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.settings import Settings
    from saywell.types import ModelSpec

FIELDS = ("executor", "precision", "threads", "affinity", "max_batch_size", "chunk_frames")
"""Fields in the order they are tried, the most influential first. `executor` includes the device."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan, named by its differences from the rules' plan."""

    values: tuple[tuple[str, Any], ...]
    plan: Plan = field(compare=False)

    def __str__(self) -> str:
        return ", ".join(f"{name}={shown(value)}" for name, value in self.values) or "the rules' plan"


def shown(value: Any) -> str:
    """A field's value for people."""
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "unpinned"
    return str(value)


class Space:
    """All candidates: fields that are not set may change."""

    def __init__(self, settings: Settings, hardware: Hardware, spec: ModelSpec, precisions: Sequence[str] = ()) -> None:
        """`precisions`: may be tried in addition to the one chosen by the rules."""
        self._settings, self._hardware, self._spec = settings, hardware, spec
        self._context = PlanContext(hardware, spec, settings.worker_python is not None)
        self._precisions = precisions
        self.rules = Candidate((), make_plan(settings, hardware, spec))
        self.refused: dict[str, str] = {}
        """Options rejected by the plan → reason."""

    def candidate(self, values: Mapping[str, Any]) -> Candidate:
        """Raises PlanError for an impossible combination."""
        measured = {name: Measurement(value=value, why="under trial") for name, value in values.items()}
        plan = make_plan(self._settings, self._hardware, self._spec, measured)
        for name, value in values.items():
            if setting_of(plan, name) != value:
                raise PlanError(f"{name} stays {shown(setting_of(plan, name))}", param=name)
        pairs = [(name, setting_of(plan, name)) for name in ("device", *FIELDS)]
        return Candidate(
            tuple((name, value) for name, value in pairs if value != setting_of(self.rules.plan, name)), plan
        )

    def options(self, name: str, best: Candidate) -> list[Candidate]:
        """`best` and the candidates that differ from it in one field."""
        found = [best]
        if self.is_set(name):
            return found
        for change in getattr(self, f"_{name}")(best.plan):
            try:
                candidate = self.candidate({**dict(best.values), **change})
            except PlanError as error:
                self.refused[", ".join(f"{field}={shown(value)}" for field, value in change.items())] = error.message
                continue
            if candidate not in found:
                found.append(candidate)
        return found

    def is_set(self, name: str) -> bool:
        """Whether a setting has settled a field."""
        return any(getattr(self._settings, each) is not None for each in _SETTINGS.get(name, (name,)))

    # -- the options of each field

    def _executor(self, _plan: Plan) -> list[dict[str, Any]]:
        devices = [device for device in self._hardware.devices if device == CPU or not self._context.lacks(device)]
        return [
            {"device": str(device), "executor": name} for device in devices for name in self._context.executors(device)
        ]

    def _precision(self, _plan: Plan) -> list[dict[str, Any]]:
        return [{"precision": name} for name in self._spec.precisions if name in self._precisions]

    def _threads(self, plan: Plan) -> list[dict[str, Any]]:
        if plan.executor == "process":
            return []
        cores, cpus = self._hardware.usable_cores, self._hardware.usable_cpus
        counts = sorted({1, max(1, cores // 2), max(1, cores - 1), cores, cpus}, reverse=True)
        return [{"threads": count} for count in counts]

    def _affinity(self, plan: Plan) -> list[dict[str, Any]]:
        if plan.executor == "process" or plan.device != CPU:
            return []
        return [{"affinity": cpus} for cpus in ((), *self._context.affinities(plan.threads))]

    def _max_batch_size(self, plan: Plan) -> list[dict[str, Any]]:
        return [
            {"max_batch_size": count} for count in (2 * plan.max_batch_size, plan.max_batch_size // 2, 1) if count > 0
        ]

    def _chunk_frames(self, plan: Plan) -> list[dict[str, Any]]:
        if self._context.single:
            return []
        tile = self._spec.decode_tile
        sizes = (plan.chunk_frames * 2, plan.chunk_frames // 2)
        return [{"chunk_frames": max(tile, size // tile * tile)} for size in sizes]


def setting_of(plan: Plan, name: str) -> Any:
    """A plan field as settings and measurements spell it."""
    found = getattr(plan, name)
    return str(found) if name == "device" else found


_SETTINGS = {"executor": ("executor", "device")}
"""Settings that fix a field of another name."""
