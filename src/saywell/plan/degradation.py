"""What is given up under pressure: when, and when it comes back.

`classify` says what a look at the machine means, `DegradationLadder` remembers which levels of the
plan are given up, `relieved` makes the plan that is left. Nothing here looks at the machine or touches the engine.
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
"""Name, beside those of the levels, of the state in which new requests are turned away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureReport:
    """What an engine has given up; at level 0 nothing."""

    level: int = 0
    """How many steps have been taken."""
    steps: tuple[str, ...] = ()
    """Their names: slots, threads, caches, lighter, in the order they were taken; then refuse."""
    pending: tuple[str, ...] = ()
    """Those of them that wait for running requests to end before they take effect."""
    changes: dict[str, str] = field(default_factory=dict)
    """Field of the plan → `planned → now`."""
    frees: int = 0
    """Bytes that these changes free, at most."""
    reason: str = ""
    """What presses, what holds what has been given up, or that it is calm."""
    since_s: float = 0.0
    """Seconds since the last step."""
    downs: int = 0
    """Steps down since the start."""
    ups: int = 0
    """Steps back up since the start."""

    @property
    def refusing(self) -> bool:
        """Whether new requests are turned away."""
        return REFUSE in self.steps


def relieved(plan: Plan, steps: Collection[str]) -> Plan:
    """The plan without what these levels give up. Each was decided with all else as planned, so they add up."""
    now = plan
    for level in plan.levels:
        if level.name in steps:
            fewer = {name: getattr(level.plan, name) for name in level.fields}
            reasons = {reason.field: reason for reason in level.plan.reasons if reason.field in level.fields}
            fewer["reasons"] = tuple(reasons.get(reason.field, reason) for reason in now.reasons)
            now = replace(now, **fewer)
    return now


def in_force(plan: Plan, report: PressureReport) -> Plan:
    """The plan an engine runs by: steps that wait for their moment are not in force yet."""
    return relieved(plan, set(report.steps) - set(report.pending))


# -- how hard the machine is pressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When there is pressure, and when it is over. Percent."""

    memory: float = 85.0
    memory_over: float = 75.0
    memory_critical: float = 95.0
    """New requests are refused."""
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
    """What a look at the machine means."""

    push: Mapping[Pressing, str] = field(default_factory=dict)
    """What asks for less, and the sentence that says so."""
    hold: Mapping[Pressing, str] = field(default_factory=dict)
    """What keeps down what has been given up."""
    critical: str = ""
    """Why no new request should come in; empty: they may."""
    missing: int = 0
    """Bytes that would have to be free for memory not to press."""
    room: int = 1 << 62
    """Bytes that may be taken again before memory presses."""

    def asks_for(self, level: Level) -> bool:
        """Whether giving it up helps. What can be heard must make a real difference to what is missing."""
        matters = not level.audible or level.frees * _DIFFERENCE >= self.missing
        return matters and any(kind in self.push for kind in level.against)

    def keeps(self, level: Level) -> list[str]:
        """Why it cannot be taken up again, if it cannot. Weights are certain to take what giving them up freed."""
        holds = [why for kind, why in self.hold.items() if kind in level.against]
        if not holds and level.audible and level.frees > self.room:
            return [f"going back to the planned weights needs {mb(level.frees)}, and {mb(self.room)} may be taken"]
        return holds


LIMITS = Thresholds()
_DIFFERENCE = 4
"""What can be heard is given up only if it frees at least this part of what is missing."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory at one moment, bytes."""

    limit: int
    free: int
    percent: float
    """Share of the limit that is not free."""
    where: str = "memory"

    def __str__(self) -> str:
        return f"{self.percent:.0f} % of {mb(self.limit)} of {self.where} is in use"


def memories(now: Resources, device: Device) -> tuple[Memory, ...]:
    """Those an engine on this device lives in, the one that holds the model first."""
    host = Memory(now.memory_limit, now.memory_available, now.memory_percent)
    gpu = next((each for each in now.gpus if device == Device("cuda", each.index)), None)
    if gpu is None:
        return (host,)
    free, total = gpu.memory_total - gpu.memory_used, gpu.memory_total
    return Memory(total, free, 100 * gpu.memory_used / total, f"memory on the {gpu.name}"), host


def classify(now: Resources, plan: Plan) -> Pressure:
    """What a look at the machine means for an engine under this plan."""
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
"""Whether it pushes, whether it holds, and the sentence."""


def _cpu(now: Resources) -> _Found:
    others = now.cpu_percent - now.cpu_own_percent
    full = now.cpu_percent > LIMITS.cpu
    waits = now.cpu_stalled_percent is None or now.cpu_stalled_percent > LIMITS.stalled
    push = full and others >= LIMITS.others and waits
    # Nobody waits once the engine has given way. What it would take again must be free, or it is back at once.
    hold = others > LIMITS.others_over and (waits or full)
    return push, hold, f"other programs take {others:.0f} % of the CPUs"


def _heat(now: Resources) -> _Found:
    if now.throttled:
        return True, True, now.throttled[0]
    margin = now.heat_margin
    if margin is None:
        return False, False, ""
    why = f"the hottest sensor is {margin:.0f} °C below its limit"
    return margin < LIMITS.heat_margin, margin < LIMITS.heat_margin_over, why


# -- what is given up

GONE = "the pressure is gone"
SLOWLY = "nothing presses any more, and what was given up comes back one step at a time"


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


class DegradationLadder:
    """Levels given up, one by one: down quickly, up slowly, and slower still if the last step up did not hold.

    Beside them new requests are refused while memory is critical: that changes no plan, so it comes and goes quickly.
    """

    def __init__(
        self, levels: tuple[Level, ...], timing: Timing | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.levels = levels
        self.taken: tuple[Level, ...] = ()
        """What is given up, in that order."""
        self.refusing = False
        self.reason = ""
        """Why it stands where it does, by the last look."""
        self.downs = self.ups = 0
        self._timing = timing or Timing()
        self._clock = clock
        self.since = self._stepped = clock()
        """When the last step was taken, on the clock: of any kind; between levels."""
        self._begun: dict[str, float] = {}
        """Since when what may lead to a step has lasted."""
        self._climbed = float("-inf")
        self._wait = self._timing.up

    @property
    def steps(self) -> tuple[str, ...]:
        return (*(level.name for level in self.taken), *([REFUSE] if self.refusing else []))

    def feed(self, pressure: Pressure) -> bool:
        """Take one look into account; whether that led to a step."""
        before = self.steps
        self._turn_door(bool(pressure.critical))
        self._turn_level(pressure)
        return self._note(before, pressure)

    def drop(self, pressure: Pressure) -> bool:
        """Give up at once all that helps against this pressure; whether there was anything."""
        before = self.steps
        if wanted := self._wanted(pressure):
            self.taken, self._stepped = (*self.taken, *wanted), self._clock()
            self._begun.clear()
        self.refusing = self.refusing or bool(pressure.critical)
        return self._note(before, pressure)

    def _note(self, before: tuple[str, ...], pressure: Pressure) -> bool:
        """Count what has changed, and say why it stands there."""
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
        """Seconds for which it has been true at every look; negative while it is not."""
        if not true:
            self._begun.pop(what, None)
            return -1.0
        now = self._clock()
        return now - self._begun.setdefault(what, now)
