"""What gives under pressure: a ladder of steps from a plan to a smaller one, and when to go down and up it.

`judge` weighs a look at the machine, `Ladder` remembers where the engine stands, `relieve` makes the plan of a level.
Nothing here looks at the machine or touches the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from saywell.plan.memory import mb, variant_of
from saywell.plan.plan import Reason, shown

if TYPE_CHECKING:
    from saywell.machine.monitor import Resources
    from saywell.plan.plan import Plan
    from saywell.types import ModelSpec


class Depth(IntEnum):
    """How far down the ladder a pressure may push."""

    NONE = 0
    WORK = 1
    """Steps that make the work smaller: against heat, and other programs that want the CPUs."""
    MEMORY = 2
    """Also the steps that only memory is won by."""
    DOOR = 3
    """Also no new requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rung: what it changes in one plan."""

    name: str
    depth: Depth
    about: str
    """For people: what is given up."""
    changes: Mapping[str, Any]
    """Fields of the plan and their new values."""
    bytes: int = 0
    """What going back up takes again."""
    audible: bool = False
    """It changes the sound, of long texts or of all; the others must not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureReport:
    """Where an engine stands on its ladder; at level 0 nothing has been given up."""

    level: int = 0
    steps: tuple[str, ...] = ()
    """Names of the steps taken, in order: chunks, slots, threads, caches, lighter, refuse."""
    pending: tuple[str, ...] = ()
    """Those of them that wait for running requests to end before they take effect."""
    changes: dict[str, str] = field(default_factory=dict)
    """Field of the plan → `planned → now`."""
    reason: str = ""
    """Why it stands there at this moment: what presses, what holds what has been given up, or that it is calm."""
    since_s: float = 0.0
    """Seconds since that step."""
    downs: int = 0
    """Steps down since the start."""
    ups: int = 0
    """Steps back up since the start."""

    @property
    def refusing(self) -> bool:
        """Whether new requests are turned away."""
        return "refuse" in self.steps


# -- the plan of a level

_REFUSE = Step(name="refuse", depth=Depth.DOOR, about="no new requests", changes={})


def steps(plan: Plan, spec: ModelSpec) -> tuple[Step, ...]:
    """The rungs this plan has, in the order they are taken; what cannot be halved or lightened is no rung."""
    found = (_portions(plan), _slots(plan), _threads(plan), _caches(plan), _lighter(plan, spec), _REFUSE)
    return tuple(step for step in found if step is not None)


def relieve(plan: Plan, spec: ModelSpec, level: int, why: str) -> Plan:
    """The plan after `level` steps, each changed field with its reason. Level 0 is the plan itself."""
    taken = steps(plan, spec)[:level]
    changes: dict[str, Any] = {}
    reasons = {reason.field: reason for reason in plan.reasons}
    for step in taken:
        changes.update(step.changes)
        for name, value in step.changes.items():
            about = f"{step.about}, because {why}; planned: {shown(name, getattr(plan, name))}"
            reasons[name] = Reason(field=name, value=shown(name, value), why=about, source="pressure")
    return replace(plan, **changes, reasons=tuple(reasons.values())) if taken else plan


def in_force(plan: Plan, spec: ModelSpec, report: PressureReport) -> Plan:
    """What an engine that stands there runs by: the steps that wait for their moment are not in force yet."""
    steps_taken = [step for step in steps(plan, spec)[: report.level] if step.name not in report.pending]
    changes = {name: value for step in steps_taken for name, value in step.changes.items()}
    return replace(plan, **changes)


def changed(plan: Plan, now: Plan) -> dict[str, str]:
    """Field → `planned → now`, for those that differ."""
    names = [name for name in plan.__dataclass_fields__ if name != "reasons"]
    return {
        name: f"{shown(name, getattr(plan, name))} → {shown(name, getattr(now, name))}"
        for name in names
        if getattr(plan, name) != getattr(now, name)
    }


def _portions(plan: Plan) -> Step | None:
    """Smaller portions of frames to decode at once, which nobody hears."""
    half = max(plan.first_frames, plan.chunk_frames // 2 // plan.first_frames * plan.first_frames)
    if half >= plan.chunk_frames:
        return None
    changes = {"chunk_frames": half}
    return Step(name="chunks", depth=Depth.WORK, about="less sound decoded at once", changes=changes)


def _slots(plan: Plan) -> Step | None:
    if plan.slots < 2:
        return None
    slots = plan.slots // 2
    # Who would have been let in still is: what the slots lose the queue gains.
    queue = plan.queue + plan.slots - slots
    changes = {"slots": slots, "lookahead": min(slots, plan.lookahead), "queue": queue}
    return Step(name="slots", depth=Depth.WORK, about="fewer sequences side by side", changes=changes)


def _threads(plan: Plan) -> Step | None:
    if plan.threads < 2:
        return None
    changes = {"threads": plan.threads // 2}
    return Step(name="threads", depth=Depth.WORK, about="fewer arithmetic threads", changes=changes)


def _caches(plan: Plan) -> Step | None:
    if plan.cache_entries < 2:
        return None
    changes = {"cache_entries": plan.cache_entries // 2, "cache_bytes": plan.cache_bytes // 2}
    return Step(name="caches", depth=Depth.MEMORY, about="fewer voices kept ready", changes=changes)


def _lighter(plan: Plan, spec: ModelSpec) -> Step | None:
    """The next lighter precision, unless somebody asked for the one there is."""
    if any(reason.field == "precision" and reason.source == "wish" for reason in plan.reasons):
        return None
    here = variant_of(plan, spec)
    lighter = [
        variant
        for variant in spec.variants
        if variant.executor == plan.executor
        and plan.device in variant.devices
        and variant.weight_bytes < here.weight_bytes
    ]
    if not lighter:
        return None
    # Of its variants the one that is most like the present one: what the machine had for that it has for this.
    found = max(lighter, key=lambda each: (each.weight_bytes, len(each.options.items() & plan.options.items())))
    frees = here.weight_bytes - found.weight_bytes
    about = f"lighter weights, {mb(frees)} less"
    return Step(
        name="lighter",
        depth=Depth.MEMORY,
        about=about,
        changes={"precision": found.precision, "options": found.options},
        bytes=frees,
        audible=True,
    )


# -- how hard the machine is pressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When there is pressure, and when it is over. Percent."""

    memory: float = 85.0
    memory_over: float = 75.0
    memory_critical: float = 95.0
    cpu: float = 90.0
    """Of the usable CPUs, by everybody; and of it …"""
    others: float = 25.0
    """… at least so much by other programs: our own work is no pressure."""
    others_over: float = 12.0
    stalled: float = 5.0
    """Share of the time in which somebody waited for a CPU, where the system tells it."""
    heat_margin: float = 5.0
    """°C below a sensor's own limit."""
    heat_margin_over: float = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How far the machine pushes down the ladder now, and how far it still holds what has been given up."""

    push: Depth = Depth.NONE
    hold: Depth = Depth.NONE
    why: str = "nothing presses"
    """What pushes."""
    holds: str = ""
    """What pushes or holds."""
    room: int = 1 << 62
    """Bytes that may be taken again before memory presses."""


CALM = Pressure()
_THRESHOLDS = Thresholds()


def judge(now: Resources, limits: Thresholds = _THRESHOLDS, *, heat: bool = True) -> Pressure:
    """What a look at the machine means. The deepest of memory, CPUs and (if asked for) heat counts; the reason
    names all of them."""
    found = [_memory(now, limits), _cpu(now, limits), *([_heat(now, limits)] if heat else [])]
    room = int(now.memory_limit * limits.memory_over / 100) - (now.memory_limit - now.memory_available)
    return Pressure(
        push=max(push for push, _, _ in found),
        hold=max(hold for _, hold, _ in found),
        why=" and ".join(why for push, _, why in found if push) or CALM.why,
        holds=" and ".join(why for _, hold, why in found if hold),
        room=max(0, room),
    )


_Found = tuple[Depth, Depth, str]


def _memory(now: Resources, limits: Thresholds) -> _Found:
    used = now.memory_percent
    push = Depth.DOOR if used > limits.memory_critical else Depth.MEMORY if used > limits.memory else Depth.NONE
    # The door opens again as soon as it is no longer critical; everything else waits for the lower threshold.
    hold = Depth.MEMORY if used > limits.memory_over else Depth.NONE
    return push, max(push, hold), f"{used:.0f} % of {mb(now.memory_limit)} of memory is in use"


def _cpu(now: Resources, limits: Thresholds) -> _Found:
    others = now.cpu_percent - now.cpu_own_percent
    full = now.cpu_percent > limits.cpu
    waits = now.cpu_stalled_percent is None or now.cpu_stalled_percent > limits.stalled
    push = full and others >= limits.others and waits
    # Nobody waits once the engine has given way. What it would take again must be free, or it is back at once.
    hold = others > limits.others_over and (waits or full)
    return _work(push), _work(hold), f"other programs take {others:.0f} % of the CPUs"


def _heat(now: Resources, limits: Thresholds) -> _Found:
    if now.throttled:
        return Depth.WORK, Depth.WORK, now.throttled[0]
    margin = now.heat_margin
    if margin is None:
        return Depth.NONE, Depth.NONE, ""
    why = f"the hottest sensor is {margin:.0f} °C below its limit"
    return _work(margin < limits.heat_margin), _work(margin < limits.heat_margin_over), why


def _work(pressed: bool) -> Depth:
    return Depth.WORK if pressed else Depth.NONE


# -- where the engine stands

GONE = "the pressure is gone"
SLOWLY = "steps are taken up again one at a time, each after a while of calm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds."""

    confirm: float = 0.4
    """Pressure lasts so long before the first step down: one look may catch a passing peak."""
    down: float = 1.0
    """From one step down to the next: the first one gets time to help."""
    up: float = 4.0
    """Calm lasts so long before each step up …"""
    door: float = 0.5
    """… and so long before new requests are let in again."""
    patience: float = 64.0
    """Longest wait before a step up, after steps up that had to be taken back at once."""


class Ladder:
    """The level, step by step: down quickly, up slowly, and slower still if the last step up did not hold."""

    def __init__(
        self,
        rungs: tuple[Step, ...],
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rungs = rungs
        self.level = 0
        self.moved = ""
        """Why the last step, down or up, was taken."""
        self.reason = ""
        """Why it stands where it does, by the last look."""
        self.downs = self.ups = 0
        self._timing = timing or Timing()
        self._clock = clock
        self.since = clock()
        """When the last step was taken, on the clock."""
        self._pressed: float | None = None
        self._calm: float | None = None
        self._climbed: float | None = None
        self._wait = self._timing.up

    @property
    def taken(self) -> tuple[Step, ...]:
        return self.rungs[: self.level]

    def feed(self, pressure: Pressure) -> bool:
        """Take note of one look; whether a step was taken."""
        moved = self._weigh(pressure)
        if self.level:
            self.reason = pressure.holds or self._kept(pressure.room) or SLOWLY
        return moved

    def _kept(self, room: int) -> str:
        """Why the last step cannot be taken up again although nothing holds it; empty if it can."""
        last = self.rungs[self.level - 1]
        if last.bytes <= room:
            return ""
        return f"taking up again what was given up last needs {mb(last.bytes)}, and {mb(room)} may be taken"

    def _weigh(self, pressure: Pressure) -> bool:
        now = self._clock()
        push, hold = self._reach(pressure.push), self._reach(pressure.hold)
        if self.level < push:
            self._calm = None
            return self._down(now, pressure.why)
        self._pressed = None
        if self.level <= hold or self._kept(pressure.room):
            self._calm = None
            return False
        return self._up(now, f"less presses: {pressure.holds}" if pressure.holds else GONE)

    def drop(self, why: str, depth: Depth) -> bool:
        """Down at once to the last step of this depth; whether that was down at all."""
        target = self._reach(depth)
        if self.level >= target:
            return False
        self.downs += target - self.level
        self._calm = None
        self._note(target, why)
        return True

    def _reach(self, depth: Depth) -> int:
        return sum(step.depth <= depth for step in self.rungs)

    def _down(self, now: float, why: str) -> bool:
        if self._pressed is None:
            self._pressed = now
        if now - self._pressed < self._timing.confirm or (self.level and now - self.since < self._timing.down):
            return False
        if self._climbed is not None and now - self._climbed < 2 * self._timing.up:
            self._wait = min(2 * self._wait, self._timing.patience)
        elif self.level == 0 and now - self.since > self._timing.patience:
            self._wait = self._timing.up
        self.downs += 1
        self._note(self.level + 1, why)
        return True

    def _up(self, now: float, why: str) -> bool:
        if self._calm is None:
            self._calm = now
        closed = self.rungs[self.level - 1].depth == Depth.DOOR
        if now - self._calm < (min(self._wait, self._timing.door) if closed else self._wait):
            return False
        self._calm = self._climbed = now
        self.ups += 1
        self._note(self.level - 1, why)
        return True

    def _note(self, level: int, reason: str) -> None:
        self.level, self.since = level, self._clock()
        self.moved = self.reason = reason
