"""Validation of settings against machine and model: PlanErrors that name the setting and the way out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from saywell.errors import PlanError
from saywell.machine import CPU
from saywell.plan.memory import MIB, mb
from saywell.plan.rules import lightest

if TYPE_CHECKING:
    from saywell.machine import Device
    from saywell.plan.rules import PlanContext
    from saywell.types import Variant


def check_device(rules: PlanContext, device: Device) -> None:
    if device == CPU and not rules.executors(CPU):
        out = rules.missing() or "choose another model"
        raise PlanError(f"no installed runtime runs {rules.spec.name} on the CPU; {out}", param="device")
    if device != CPU and (missing := rules.lacks(device)):
        raise PlanError(f"device={device} is not possible: {missing}; set device=cpu or remove it", param="device")


def check_executor(rules: PlanContext, name: str, device: Device) -> None:
    if name not in rules.spec.executors:
        there = ", ".join(rules.spec.executors)
        raise PlanError(f"{rules.spec.name} has no executor {name!r}; it has {there}", param="executor")
    if name not in rules.executors(device):
        out = rules.missing(name) or "choose another device or executor"
        raise PlanError(f"executor={name} does not run on {device} here; {out}", param="executor")


def check_precision(
    rules: PlanContext,
    name: str,
    there: Mapping[str, Variant],
    budget: int,
    have: int,
    max_frames: int,
    overrides: Collection[str],
) -> None:
    """`there`: variants by precision. `have`: bytes of the device. `overrides`: names of the settings that are set."""
    model = rules.spec.name
    if name not in there:
        raise PlanError(f"{model} has no precision {name!r}; it has {', '.join(there)}", param="precision")
    lighter = "" if name == lightest(there) else f"set precision={lightest(there)}, or "
    if "memory_budget_mb" in overrides:
        need = rules.need(there[name], 1, max_frames)
        if need > budget:
            message = f"{model} at {name} needs about {mb(need)} and memory_budget_mb allows {mb(budget)}"
            out = f"{lighter}set memory_budget_mb={-(-need // MIB)}, or remove it"
            raise PlanError(f"{message}; {out}", param="precision" if "precision" in overrides else "memory_budget_mb")
        return
    # Without a budget only the certain part (weights, KV cache) is rejected: the overhead is an estimate.
    need = rules.least(there[name], max_frames)
    if need > have:
        message = f"{model} at {name} needs more than {mb(need)} and {mb(have)} is available"
        out = f"{lighter}choose a smaller model or a machine with more memory"
        raise PlanError(f"{message}; {out}", param="precision" if "precision" in overrides else "model")


def check_max_frames(rules: PlanContext, frames: int) -> None:
    top = rules.spec.max_context
    if top and frames > top:
        raise PlanError(f"max_frames={frames} is beyond the model's context; set at most {top}", param="max_frames")


def check_compile(rules: PlanContext, way: str, executor: str) -> None:
    if way != "disabled" and not rules.compiles(executor):
        why = rules.compile(CPU, executor)[1]
        raise PlanError(f"compile={way} has no effect: {why}; remove it", param="compile")


def check_caches(rules: PlanContext, name: str, setting: int) -> None:
    """For cache_entries and cache_mb."""
    if setting and rules.keeps_nothing:
        raise PlanError(f"{name}={setting} has no effect: {rules.keeps_nothing}; remove it", param=name)


def check_affinity(rules: PlanContext, cpus: tuple[int, ...]) -> None:
    if not cpus:
        return
    hardware = rules.hardware
    if hardware.os == "darwin":
        raise PlanError("affinity: macOS does not support pinning; remove it", param="affinity")
    allowed = hardware.limits.cpus or tuple(range(hardware.cpu.logical))
    out = [cpu for cpu in cpus if cpu not in allowed]
    if out or len(set(cpus)) < len(cpus):
        what = f"CPU {out[0]} is not available to this process" if out else "a CPU is named twice"
        raise PlanError(f"affinity: {what}; choose among {ranges(allowed)}", param="affinity")


def at_most(name: str, value: int, limit: int, other: str) -> None:
    if value > limit:
        raise PlanError(f"{name}={value} is more than {other}={limit}; set at most {limit}", param=name)


def ranges(cpus: tuple[int, ...]) -> str:
    """CPU numbers as the kernel lists them: `0-3,8`."""
    spans: list[tuple[int, int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], cpu)
        else:
            spans.append((cpu, cpu))
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)
