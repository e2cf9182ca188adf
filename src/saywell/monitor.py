"""What the machine is doing right now. Cheap: a few small files, well under a millisecond without sensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from saywell.hardware import cgroup, linux

ROOT = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """One look. Bytes and percent; memory is the container's where it has a limit."""

    cpu_percent: float
    """Of all CPUs of the machine, since the last look."""
    memory_limit: int
    memory_available: int
    memory_percent: float
    """Share of the limit that is not available."""
    process_memory: int
    """Resident bytes of this process."""
    temperatures: dict[str, float] = field(default_factory=dict)
    """Sensor → hottest reading in °C."""
    temperature_note: str = ""
    """Why there are no temperatures."""


def resources(root: Path = ROOT) -> Resources:
    """Look once. The first CPU figure covers the time since the program started."""
    limit, available = memory(root)
    temperatures, note = _temperatures()
    return Resources(
        cpu_percent=psutil.cpu_percent(interval=None),
        memory_limit=limit,
        memory_available=available,
        memory_percent=round(100 * (1 - available / limit), 1) if limit else 0.0,
        process_memory=process_memory(),
        temperatures=temperatures,
        temperature_note=note,
    )


def available_memory(root: Path = ROOT) -> int:
    """Bytes that can still be allocated before the container or the machine runs out."""
    return memory(root)[1]


def memory(root: Path = ROOT) -> tuple[int, int]:
    """(limit, available) in bytes: the tightest of the machine and each control group above this process."""
    total, free = _machine(root)
    levels = cgroup.memory_levels(root)
    limit = min([total, *(level.limit for level in levels)])
    return limit, max(0, min([free, *(level.limit - level.used for level in levels)]))


def process_memory() -> int:
    """Resident bytes of this process."""
    return int(psutil.Process().memory_info().rss)


def _machine(root: Path) -> tuple[int, int]:
    info = linux.meminfo(root)
    if "MemTotal" in info:
        return info["MemTotal"], info.get("MemAvailable", info.get("MemFree", 0))
    system = psutil.virtual_memory()
    return int(system.total), int(system.available)


def _temperatures() -> tuple[dict[str, float], str]:
    read: Any = getattr(psutil, "sensors_temperatures", None)  # not built on macOS and Windows
    if read is None:
        return {}, "this system does not tell temperatures without a tool of its own"
    hottest = {chip: max(sensor.current for sensor in sensors) for chip, sensors in read().items() if sensors}
    return hottest, "" if hottest else "this machine shows no temperature sensor"
