"""Plain sentences about what holds speech back on this machine and what would make it faster, with measured figures.

Pure: given what was found, decided, measured and seen. Each sentence is true at this moment; often there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from saywell.plan.degradation import LIMITS, SLOWLY, memories
from saywell.plan.measured import Record, Trial
from saywell.plan.memory import mb

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.machine.monitor import Resources
    from saywell.plan.degradation import PressureReport
    from saywell.plan.plan import Plan

_ENOUGH = 5
"""Answers from which their median says something."""
_SLOWER, _FASTER = 1.5, 1.1
"""Times slower than measured that is worth a word; times faster."""
_WAIT_S = 0.5


def insights(
    plan: Plan,
    hardware: Hardware,
    now: Resources,
    *,
    pressure: PressureReport,
    record: Record | None = None,
    spoken: Mapping[str, Any] | None = None,
    restarts: int = 0,
) -> list[str]:
    """`record`: what `saywell tune` kept for this machine and model. `spoken`: `Metrics.aggregates` of the engine."""
    found = [*_strains(plan, now, pressure, restarts), *_work(plan, now, record, spoken or {})]
    return [*found, *_measured(plan, record), *_limits(plan, hardware)]


def _strains(plan: Plan, now: Resources, pressure: PressureReport, restarts: int) -> list[str]:
    """What presses, and what was given up for it."""
    found = []
    given = [f"{name} {change}" for name, change in pressure.changes.items()]
    if given or pressure.refusing:
        what = "; ".join([*given, *(["new requests"] if pressure.refusing else [])])
        won = f", which frees up to {mb(pressure.frees)}" if pressure.frees else ""
        why = SLOWLY if pressure.reason == SLOWLY else f"because {pressure.reason}; it comes back by itself"
        found.append(f"Given up for now{won}: {what}, {why}.")
    found += [
        f"{place}, {mb(place.free)} are free; requests may be refused."
        for place in memories(now, plan.device)
        if place.percent > LIMITS.memory
    ]
    found += [f"Slowed down: {text}. A cooler place or fewer threads help." for text in now.throttled]
    if restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        found.append(f"The engine's worker has died and been replaced {times} since the start; the log says why.")
    return found


def _work(plan: Plan, now: Resources, record: Record | None, spoken: Mapping[str, Any]) -> list[str]:
    """How the last answers went."""
    rtf, queued = spoken.get("rtf"), spoken.get("queued_s")
    found = []
    if rtf and spoken["spoken"] >= _ENOUGH:
        expected = _rtf(_own(plan, record))
        others = max(0.0, now.cpu_percent - now.cpu_own_percent)
        beside = f"; other programs take {others:.0f} % of the CPUs" if others > LIMITS.others else ""
        if expected and rtf["p50"] > _SLOWER * expected:
            times = f"{rtf['p50'] / expected:.1f} times what was measured here ({expected:.3g})"
            found.append(f"A second of speech takes {rtf['p50']:.3g} s at the moment, {times}{beside}.")
        elif rtf["p50"] > 1:
            found.append(f"Speech is made slower than it is spoken: {rtf['p50']:.2f} s of work a second{beside}.")
    if queued and spoken["spoken"] >= _ENOUGH and queued["p50"] > _WAIT_S:
        waited = f"Half of the last {spoken['spoken']} requests waited {queued['p50']:.1f} s or longer for a slot"
        found.append(f"{waited}; there are {plan.max_batch_size}.")
    return found


def _measured(plan: Plan, record: Record | None) -> list[str]:
    """What `saywell tune` found, where the plan follows it and where it does not."""
    if record is None:
        return [
            "Nothing has been measured on this machine yet; `saywell tune` takes about a minute and may make it faster."
        ]
    own, best, start = _own(plan, record), _of(record, record.best), _of(record, {})
    found = []
    mine, least, rules = _rtf(own), _rtf(best), _rtf(start)
    overrides = {reason.field for reason in plan.reasons if reason.source == "setting"}
    against = [name for name, value in record.best.items() if name in overrides and getattr(plan, name) != value]
    if against and mine and least and mine > _FASTER * least:
        asked = ", ".join(f"{name}={getattr(plan, name)}" for name in against)
        better = ", ".join(f"{name}={record.best[name]}" for name in against)
        times = f"{mine / least:.1f} times as fast here ({least:.3g} s of work a second against {mine:.3g})"
        found.append(f"{asked} was asked for; {better} was measured {times}.")
    elif not against and rules and least and rules > _FASTER * least:
        what = ", ".join(f"{name}={value}" for name, value in record.best.items())
        found.append(f"Measured on this machine: {what} makes speech {rules / least:.1f} times as fast as the starting "
                     f"values ({least:.3g} s of work a second against {rules:.3g}).")  # fmt: skip
    return found


def _limits(plan: Plan, hardware: Hardware) -> list[str]:
    """What the machine has and this program may not or cannot use."""
    found = []
    if hardware.usable_cpus < hardware.cpu.logical:
        found.append(f"{hardware.usable_cpus} of {hardware.cpu.logical} CPUs may be used here; more would help.")
    if hardware.usable_memory < hardware.memory:
        found.append(f"{mb(hardware.usable_memory)} of {mb(hardware.memory)} of memory may be used here.")
    if hardware.gpus and plan.device.kind == "cpu":
        why = next(reason for reason in plan.reasons if reason.field == "device")
        # The rule looked at the GPU and says which one and why not.
        found.append(f"{why.why}." if why.source == "rule" else f"{hardware.gpus[0].name} is not used: {why.why}.")
    return found


def _own(plan: Plan, record: Record | None) -> Trial | None:
    """The trial of this very plan: of those that agree with it, the one that says most about it."""
    fits = [
        trial for trial in _whole(record) if all(getattr(plan, name) == value for name, value in trial.values.items())
    ]
    return max(fits, key=lambda trial: len(trial.values), default=None)


def _of(record: Record, values: Mapping[str, Any]) -> Trial | None:
    return next((trial for trial in _whole(record) if trial.values == dict(values)), None)


def _whole(record: Record | None) -> list[Trial]:
    """Trials that have figures."""
    return [] if record is None else [trial for trial in record.trials if trial.rtf and not trial.failed]


def _rtf(trial: Trial | None) -> float | None:
    return median(trial.rtf) if trial is not None else None


def expected_rtf(plan: Plan, record: Record | None) -> float | None:
    """What `saywell tune` measured for this plan on this machine; None: never measured."""
    rtf = _rtf(_own(plan, record))
    return round(rtf, 4) if rtf else None
