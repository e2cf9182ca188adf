"""Sentences about what limits speed on this machine and what would help, with measured figures. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from saywell.plan.degradation import LIMITS, SLOWLY, memories
from saywell.plan.memory import mb
from saywell.plan.tuning_store import Record, Trial

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.machine.monitor import Resources
    from saywell.plan.degradation import PressureReport
    from saywell.plan.plan import Plan

_ENOUGH = 5
"""Requests needed for a meaningful median."""
_SLOWER, _FASTER = 1.5, 1.1
"""Factors slower or faster than measured that are worth reporting."""
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
    """`record`: result of `saywell tune`. `spoken`: `Metrics.aggregates` of the engine."""
    found = [*_strains(plan, now, pressure, restarts), *_work(plan, now, record, spoken or {})]
    return [*found, *_measured(plan, record), *_limits(plan, hardware)]


def _strains(plan: Plan, now: Resources, pressure: PressureReport, restarts: int) -> list[str]:
    """Pressure and active levels."""
    found = []
    given = [f"{name} {change}" for name, change in pressure.changes.items()]
    if given or pressure.refusing:
        what = "; ".join([*given, *(["new requests"] if pressure.refusing else [])])
        won = f" (frees up to {mb(pressure.frees)})" if pressure.frees else ""
        why = SLOWLY if pressure.reason == SLOWLY else f"because {pressure.reason}; this is undone automatically"
        found.append(f"Reduced for now{won}: {what}, {why}.")
    found += [
        f"{place}, {mb(place.free)} free; requests may be rejected."
        for place in memories(now, plan.device)
        if place.percent > LIMITS.memory
    ]
    found += [f"Throttled: {text}. Better cooling or fewer threads help." for text in now.throttled]
    if restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        found.append(f"The engine's worker died and was replaced {times} since the start; see the log.")
    return found


def _work(plan: Plan, now: Resources, record: Record | None, spoken: Mapping[str, Any]) -> list[str]:
    """Speed and waiting time of recent requests."""
    rtf, queued = spoken.get("rtf"), spoken.get("queued_s")
    found = []
    if rtf and spoken["spoken"] >= _ENOUGH:
        expected = _rtf(_own(plan, record))
        others = max(0.0, now.cpu_percent - now.cpu_own_percent)
        beside = f"; other programs use {others:.0f} % of the CPUs" if others > LIMITS.others else ""
        if expected and rtf["p50"] > _SLOWER * expected:
            times = f"{rtf['p50'] / expected:.1f} times the value measured on this machine ({expected:.3g})"
            found.append(f"The RTF is {rtf['p50']:.3g} at the moment, {times}{beside}.")
        elif rtf["p50"] > 1:
            found.append(f"Synthesis is slower than real time: RTF {rtf['p50']:.2f}{beside}.")
    if queued and spoken["spoken"] >= _ENOUGH and queued["p50"] > _WAIT_S:
        waited = f"Half of the last {spoken['spoken']} requests waited at least {queued['p50']:.1f} s for a slot"
        found.append(f"{waited}; max_batch_size is {plan.max_batch_size}.")
    return found


def _measured(plan: Plan, record: Record | None) -> list[str]:
    """Results of `saywell tune`, followed or overridden."""
    if record is None:
        return ["This machine has not been measured; `saywell tune` takes about a minute and may make it faster."]
    own, best, start = _own(plan, record), _of(record, record.best), _of(record, {})
    found = []
    mine, least, rules = _rtf(own), _rtf(best), _rtf(start)
    overrides = {reason.field for reason in plan.reasons if reason.source == "setting"}
    against = [name for name, value in record.best.items() if name in overrides and getattr(plan, name) != value]
    if against and mine and least and mine > _FASTER * least:
        asked = ", ".join(f"{name}={getattr(plan, name)}" for name in against)
        better = ", ".join(f"{name}={record.best[name]}" for name in against)
        times = f"{mine / least:.1f} times as fast here (RTF {least:.3g} against {mine:.3g})"
        found.append(f"{asked} is set; {better} was measured {times}.")
    elif not against and rules and least and rules > _FASTER * least:
        what = ", ".join(f"{name}={value}" for name, value in record.best.items())
        found.append(f"Measured on this machine: {what} is {rules / least:.1f} times as fast as the defaults "
                     f"(RTF {least:.3g} against {rules:.3g}).")  # fmt: skip
    return found


def _limits(plan: Plan, hardware: Hardware) -> list[str]:
    """Parts of the machine that this program cannot use."""
    found = []
    if hardware.usable_cpus < hardware.cpu.logical:
        found.append(f"Only {hardware.usable_cpus} of {hardware.cpu.logical} CPUs are available to this process.")
    if hardware.usable_memory < hardware.memory:
        found.append(
            f"Only {mb(hardware.usable_memory)} of {mb(hardware.memory)} of memory is available to this process."
        )
    if hardware.gpus and plan.device.kind == "cpu":
        why = next(reason for reason in plan.reasons if reason.field == "device")
        # The rule's reason names the GPU and why it is not used.
        found.append(f"{why.why}." if why.source == "rule" else f"{hardware.gpus[0].name} is not used: {why.why}.")
    return found


def _own(plan: Plan, record: Record | None) -> Trial | None:
    """The trial of this plan: of the matching ones, the one with the most fields."""
    fits = [
        trial for trial in _whole(record) if all(getattr(plan, name) == value for name, value in trial.values.items())
    ]
    return max(fits, key=lambda trial: len(trial.values), default=None)


def _of(record: Record, values: Mapping[str, Any]) -> Trial | None:
    return next((trial for trial in _whole(record) if trial.values == dict(values)), None)


def _whole(record: Record | None) -> list[Trial]:
    """Successful trials."""
    return [] if record is None else [trial for trial in record.trials if trial.rtf and not trial.failed]


def _rtf(trial: Trial | None) -> float | None:
    return median(trial.rtf) if trial is not None else None


def expected_rtf(plan: Plan, record: Record | None) -> float | None:
    """RTF measured by `saywell tune` for this plan; None if never measured."""
    rtf = _rtf(_own(plan, record))
    return round(rtf, 4) if rtf else None
