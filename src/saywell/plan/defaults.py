"""Defaults by class of machine: shares of memory and cache entries. Measurements win over all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from saywell.machine import tier

if TYPE_CHECKING:
    from saywell.machine import Hardware

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Defaults of one class of machine. Sizes in bytes, for a machine with `memory`."""

    memory: int
    reserve: int
    """For the system and other programs."""
    model: int
    """Preferred limit of the weights."""
    cache: int
    """All in-memory caches together."""
    margin: int
    """Kept free in addition, so that the system does not slow down."""
    cache_entries: int


def _row(memory: float, reserve: float, model: float, cache: float, margin: float, entries: int) -> Prior:
    sizes = [int(size * GIB) for size in (memory, reserve, model, cache, margin)]
    return Prior(
        memory=sizes[0],
        reserve=sizes[1],
        model=sizes[2],
        cache=sizes[3],
        margin=sizes[4],
        cache_entries=entries,
    )


ROWS = {
    "small": _row(8, 2.0, 2.0, 1.0, 1.5, 12),
    "m1_pro": _row(16, 2.5, 4.0, 2.0, 2.0, 25),
    "i5": _row(16, 3.0, 3.0, 1.5, 2.0, 25),
    "ryzen_5": _row(16, 3.0, 3.0, 1.5, 2.0, 25),
    "high_end": _row(32, 4.0, 6.0, 3.0, 3.0, 50),
}
"""`small` is a MacBook Air with 8 GB, and every machine without a row of its own."""
_MUCH_LESS = 0.6
"""A machine with less than this share of a row's memory uses a smaller row."""
SMALL, MIDDLE, HIGH = "small", "middle", "high"


def machine_class(hardware: Hardware) -> str:
    """The row of the processor's class."""
    label = hardware.cpu_tier
    if label in (tier.INTEL_HIGH, tier.RYZEN_HIGH, tier.SERVER, tier.ARM_SERVER):
        return "high_end"
    if apple(hardware):
        return "small" if tier.fanless(hardware) else "m1_pro"
    return {tier.I5: "i5", tier.RYZEN5: "ryzen_5", tier.ARM_LAPTOP: "i5"}.get(label, "small")


def power(hardware: Hardware) -> str:
    """`small`, `middle` or `high`: sustained performance of the processor."""
    name = machine_class(hardware)
    return {"small": SMALL, "high_end": HIGH}.get(name, MIDDLE)


def apple(hardware: Hardware) -> bool:
    return hardware.os == "darwin" and hardware.arch == "arm64"


def prior(hardware: Hardware) -> Prior:
    """The machine's row, scaled to its memory. A container limit is not shared, so nothing is reserved in it."""
    total = hardware.usable_memory
    row = ROWS[machine_class(hardware)]
    if total < hardware.memory:
        return replace(row, memory=total, reserve=0, model=total, cache=total // 8, margin=total // 10)
    if total < _MUCH_LESS * row.memory:
        row = ROWS["i5" if total > 0.9 * ROWS["i5"].memory else "small"]
    scale = total / row.memory
    less = min(1.0, scale)
    return replace(
        row,
        memory=total,
        reserve=int(row.reserve * less),
        model=int(row.model * scale),
        cache=int(row.cache * scale),
        margin=int(row.margin * less),
    )
