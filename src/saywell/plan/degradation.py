"""Degradation under pressure. Pure: nothing here reads the machine or touches the engine.

`classify` turns a reading into pressure, `DegradationLadder` decides which levels are active, `relieved` is the plan
under them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from saywell.machine import Device
from saywell.plan.memory import mb
from saywell.plan.plan import Level, Plan, Pressing

if TYPE_CHECKING:
    from saywell.machine.monitor import Resources

REFUSE = "refuse"
"""Name of the state in which new requests are rejected; listed with the levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureReport:
    """Degradation state of an engine."""

    level: int = 0
    """Number of active steps; 0: none."""
    steps: tuple[str, ...] = ()
    """Active levels in the order they were applied (slots, threads, caches, lighter), then `refuse`."""
    pending: tuple[str, ...] = ()
    """Active levels that take effect when the running requests have ended."""
    changes: dict[str, str] = field(default_factory=dict)
    """Field of the plan → `planned → now`."""
    frees: int = 0
    """Bytes freed by these changes, at most."""
    reason: str = ""
    """The cause of pressure, or why levels are still active."""
    since_s: float = 0.0
    """Seconds since the last step."""
    downs: int = 0
    """Levels applied since the start."""
    ups: int = 0
    """Levels undone since the start."""

    @property
    def refusing(self) -> bool:
        """Whether new requests are rejected."""
        return REFUSE in self.steps


def relieved(plan: Plan, steps: Collection[str]) -> Plan:
    """The plan under these levels. Levels change disjoint fields, so they combine."""
    now = plan
    for level in plan.levels:
        if level.name in steps:
            fewer = {name: getattr(level.plan, name) for name in level.fields}
            reasons = {reason.field: reason for reason in level.plan.reasons if reason.field in level.fields}
            fewer["reasons"] = tuple(reasons.get(reason.field, reason) for reason in now.reasons)
            now = replace(now, **fewer)
    return now


def in_force(plan: Plan, report: PressureReport) -> Plan:
    """The effective plan: without pending levels."""
    return relieved(plan, set(report.steps) - set(report.pending))


# -- pressure


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When pressure begins and ends. Percent."""

    memory: float = 85.0
    memory_over: float = 75.0
    memory_critical: float = 95.0
    """New requests are rejected above this."""
    cpu: float = 90.0
    """Total use of the usable CPUs, and …"""
    others: float = 25.0
    """… at least this much by other programs; the engine's own load is not pressure."""
    others_over: float = 12.0
    stalled: float = 5.0
    """Share of time in which a task waited for a CPU (PSI), where available."""
    heat_margin: float = 5.0
    """°C below a sensor's own limit."""
    heat_margin_over: float = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Pressure derived from one reading."""

    push: Mapping[Pressing, str] = field(default_factory=dict)
    """Causes that call for degradation, each with its sentence."""
    hold: Mapping[Pressing, str] = field(default_factory=dict)
    """Causes that keep active levels from being undone."""
    critical: str = ""
    """Why new requests are rejected; empty: they are admitted."""
    missing: int = 0
    """Bytes to free until memory pressure ends."""
    room: int = 1 << 62
    """Bytes that may be allocated before memory pressure begins."""

    def asks_for(self, level: Level) -> bool:
        """Whether a level helps. An audible one must free a relevant share of what is missing."""
        matters = not level.audible or level.frees * _DIFFERENCE >= self.missing
        return matters and any(kind in self.push for kind in level.against)

    def keeps(self, level: Level) -> list[str]:
        """Reasons why a level cannot be undone yet. Undoing lower precision takes back what it freed."""
        holds = [why for kind, why in self.hold.items() if kind in level.against]
        if not holds and level.audible and level.frees > self.room:
            return [f"the planned weights need {mb(level.frees)} more, and {mb(self.room)} is available"]
        return holds


LIMITS = Thresholds()
_DIFFERENCE = 4
"""An audible level must free at least 1/_DIFFERENCE of what is missing."""


@dataclass(frozen=True, slots=True)
class Memory:
    """State of one memory, bytes."""

    limit: int
    free: int
    percent: float
    """Used share of the limit."""
    where: str = "memory"

    def __str__(self) -> str:
        return f"{self.percent:.0f} % of {mb(self.limit)} of {self.where} is in use"


def memories(now: Resources, device: Device) -> tuple[Memory, ...]:
    """Memories used by an engine on this device, the one with the weights first."""
    host = Memory(now.memory_limit, now.memory_available, now.memory_percent)
    gpu = next((each for each in now.gpus if device == Device("cuda", each.index)), None)
    if gpu is None:
        return (host,)
    free, total = gpu.memory_total - gpu.memory_used, gpu.memory_total
    return Memory(total, free, 100 * gpu.memory_used / total, f"memory on the {gpu.name}"), host


def classify(now: Resources, plan: Plan) -> Pressure:
    """The pressure on an engine with this plan."""
    places = memories(now, plan.device)
    own = places[0]
    used = own.limit - own.free
    found: dict[Pressing, _Found] = {
        "memory": (own.percent > LIMITS.memory, own.percent > LIMITS.memory_over, str(own)),
        "cpu": _cpu(now),
        "heat": _heat(now) if plan.thermal else (False, False, ""),
    }
    return Pressure(
        push={kind: why for kind, (push, _, why) in found.items() if push},
        hold={kind: why for kind, (push, hold, why) in found.items() if push or hold},
        critical=next((str(place) for place in places if place.percent > LIMITS.memory_critical), ""),
        missing=max(0, used - int(own.limit * LIMITS.memory / 100)),
        room=max(0, int(own.limit * LIMITS.memory_over / 100) - used),
    )


_Found = tuple[bool, bool, str]
"""Pressure, hold, and the sentence."""


def _cpu(now: Resources) -> _Found:
    others = now.cpu_percent - now.cpu_own_percent
    full = now.cpu_percent > LIMITS.cpu
    waits = now.cpu_stalled_percent is None or now.cpu_stalled_percent > LIMITS.stalled
    push = full and others >= LIMITS.others and waits
    # After degrading, no task waits any more; the CPU time to take back must be free, or pressure returns at once.
    hold = others > LIMITS.others_over and (waits or full)
    return push, hold, f"other programs use {others:.0f} % of the CPUs"


def _heat(now: Resources) -> _Found:
    if now.throttled:
        return True, True, now.throttled[0]
    margin = now.heat_margin
    if margin is None:
        return False, False, ""
    why = f"the hottest sensor is {margin:.0f} °C below its limit"
    return margin < LIMITS.heat_margin, margin < LIMITS.heat_margin_over, why


# -- the ladder

GONE = "the pressure is gone"
SLOWLY = "the pressure is gone; levels are undone one at a time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds."""

    confirm: float = 0.4
    """Duration of pressure before the first level is applied; ignores short peaks."""
    down: float = 1.0
    """Between levels, so that each can take effect."""
    up: float = 4.0
    """Duration of calm before each level is undone …"""
    door: float = 0.5
    """… and before new requests are admitted again."""
    patience: float = 64.0
    """Longest wait before undoing a level, after attempts that did not hold."""


class DegradationLadder:
    """Applies levels one by one quickly and undoes them slowly, with back-off if pressure returns.

    Independently, new requests are rejected while memory is critical.
    """

    def __init__(
        self, levels: tuple[Level, ...], timing: Timing | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.levels = levels
        self.taken: tuple[Level, ...] = ()
        """Active levels, in the order they were applied."""
        self.refusing = False
        self.reason = ""
        """The reason of the current state, by the last reading."""
        self.downs = self.ups = 0
        self._timing = timing or Timing()
        self._clock = clock
        self.since = self._stepped = clock()
        """Clock time of the last change of any kind; of the last change of a level."""
        self._begun: dict[str, float] = {}
        """Condition → clock time since when it has held."""
        self._climbed = float("-inf")
        self._wait = self._timing.up

    @property
    def steps(self) -> tuple[str, ...]:
        return (*(level.name for level in self.taken), *([REFUSE] if self.refusing else []))

    def feed(self, pressure: Pressure) -> bool:
        """Update from one reading; returns True if the state changed."""
        before = self.steps
        self._turn_door(bool(pressure.critical))
        self._turn_level(pressure)
        return self._note(before, pressure)

    def drop(self, pressure: Pressure) -> bool:
        """Apply every level that helps at once; returns True if the state changed."""
        before = self.steps
        if wanted := self._wanted(pressure):
            self.taken, self._stepped = (*self.taken, *wanted), self._clock()
            self._begun.clear()
        self.refusing = self.refusing or bool(pressure.critical)
        return self._note(before, pressure)

    def _note(self, before: tuple[str, ...], pressure: Pressure) -> bool:
        """Update counters and the reason; returns True if the state changed."""
        down, up = len(set(self.steps) - set(before)), len(set(before) - set(self.steps))
        self.downs, self.ups = self.downs + down, self.ups + up
        if down or up:
            self.since = self._clock()
        holds = [pressure.critical] if self.refusing and pressure.critical else []
        holds += [why for level in self.taken for why in pressure.keeps(level)]
        if self.steps:
            self.reason = " and ".join(dict.fromkeys(holds)) or SLOWLY
        elif before:
            self.reason = GONE
        return bool(down or up)

    def _wanted(self, pressure: Pressure) -> list[Level]:
        return [level for level in self.levels if level not in self.taken and pressure.asks_for(level)]

    def _turn_door(self, critical: bool) -> None:
        lasted = self._lasted("door", critical != self.refusing)
        if lasted >= (self._timing.confirm if critical else self._timing.door):
            self.refusing = critical
            del self._begun["door"]

    def _turn_level(self, pressure: Pressure) -> None:
        now, timing = self._clock(), self._timing
        wanted = self._wanted(pressure)
        free = [] if wanted else [level for level in self.taken if not pressure.keeps(level)]
        pressed, calm = self._lasted("pressed", bool(wanted)), self._lasted("calm", bool(free))
        if pressed >= timing.confirm and (not self.taken or now - self._stepped >= timing.down):
            if now - self._climbed < 2 * timing.up:
                self._wait = min(2 * self._wait, timing.patience)
            elif not self.taken and now - self._stepped > timing.patience:
                self._wait = timing.up
            self.taken = (*self.taken, wanted[0])
        elif calm >= self._wait:
            self.taken = tuple(level for level in self.taken if level is not free[-1])
            self._begun["calm"] = self._climbed = now
        else:
            return
        self._stepped = now

    def _lasted(self, what: str, true: bool) -> float:
        """Seconds for which a condition has held; negative if it does not."""
        if not true:
            self._begun.pop(what, None)
            return -1.0
        now = self._clock()
        return now - self._begun.setdefault(what, now)
