"""Current load: CPU, memory, temperatures and GPUs. A sample reads a few small files and takes about a millisecond."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from saywell.errors import Unavailable
from saywell.machine import cgroup, linux
from saywell.machine.facts import CPU, Device
from saywell.machine.process_memory import cpu_seconds, family
from saywell.machine.sensors import Heat, Sensors, open_sensors
from saywell.machine.sensors.nvidia import GpuLoad, NvidiaSensors, free_memory

ROOT = Path("/")
_SHORTEST_S = 0.02
"""The system's clock ticks are too coarse for a percentage over a shorter time."""
_HEAT_S = 2.0
"""Shortest time between two temperature readings: temperatures change slowly, and some sensors take milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """One sample, in bytes and percent. In a container with a memory limit, memory is the container's."""

    cpu_percent: float
    """Use of the CPUs this process may run on, by all processes, since the last sample."""
    cpu_own_percent: float = 0.0
    """Use of the same CPUs by this process and its children."""
    cpu_stalled_percent: float | None = None
    """Share of the time in which some thread waited for a CPU; None if the system does not report it."""
    memory_limit: int
    memory_available: int
    memory_percent: float
    """Share of the limit that is not available."""
    temperatures: dict[str, float] = field(default_factory=dict)
    """Sensor → hottest reading in °C."""
    temperature_note: str = ""
    """Why there are no temperatures."""
    heat_margin: float | None = None
    """°C between the processor and the limit its sensor reports; None without a limit."""
    throttled: tuple[str, ...] = ()
    """Descriptions of the current throttling by heat or power."""
    gpus: tuple[GpuLoad, ...] = ()


def resources(root: Path = ROOT) -> Resources:
    """One sample over 0.1 s (blocks for that long). To sample repeatedly, keep a Monitor."""
    monitor = Monitor(root)
    try:
        time.sleep(0.1)
        return monitor.look()
    finally:
        monitor.close()


class Monitor:
    """Samples repeatedly; percentages are over the time since the last sample. Not thread-safe."""

    def __init__(
        self,
        root: Path = ROOT,
        *,
        also_own: tuple[int, ...] = (),
        sensors: Sensors | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`also_own`: ids of other processes counted as own, with their children; may include this one."""
        self._root = root
        self._clock = clock
        self._pids = (psutil.Process().pid, *also_own)
        self._sensors = sensors or open_sensors(root)
        self._gpus = NvidiaSensors()
        self._usable = affinity()
        self._heat = Heat()
        self._heat_at = float("-inf")
        self._before = self._count()
        self._shares: tuple[float, float, float | None] = (0.0, 0.0, None)

    def look(self) -> Resources:
        limit, available = memory(self._root)
        cpu, own, stalled = self._cpu()
        heat, gpus = self._read_heat(), self._gpus.read()
        return Resources(
            cpu_percent=cpu,
            cpu_own_percent=own,
            cpu_stalled_percent=stalled,
            memory_limit=limit,
            memory_available=available,
            memory_percent=round(100 * (1 - available / limit), 1) if limit else 0.0,
            temperatures=heat.temperatures,
            temperature_note=heat.note,
            heat_margin=heat.margin,
            throttled=(*heat.throttled, *(text for gpu in gpus for text in gpu.throttled)),
            gpus=gpus,
        )

    def close(self) -> None:
        self._sensors.close()
        self._gpus.close()

    def _read_heat(self) -> Heat:
        now = self._clock()
        if now - self._heat_at >= _HEAT_S:
            self._heat, self._heat_at = self._sensors.read(), now
        return self._heat

    def _cpu(self) -> tuple[float, float, float | None]:
        """(all processes, own, stalled) in percent since the last sample."""
        before, now = self._before, self._count()
        elapsed = now.time - before.time
        if elapsed < _SHORTEST_S:
            return self._shares
        capacity = elapsed * max(1, len(self._usable) or psutil.cpu_count() or 1)
        stalled = None
        if now.stalled is not None and before.stalled is not None:
            stalled = _percent(now.stalled - before.stalled, elapsed)
        busy, own = _percent(now.busy - before.busy, capacity), _percent(now.own - before.own, capacity)
        self._before, self._shares = now, (max(busy, own), own, stalled)
        return self._shares

    def _count(self) -> _Count:
        per_cpu = psutil.cpu_times(percpu=True)
        return _Count(
            time=self._clock(),
            busy=sum(_busy(times) for cpu, times in enumerate(per_cpu) if not self._usable or cpu in self._usable),
            own=sum(map(cpu_seconds, {member for pid in self._pids for member in family(pid)})),
            stalled=_stalled(self._root),
        )


@dataclass(frozen=True, slots=True)
class _Count:
    """Cumulative counters in seconds."""

    time: float
    busy: float
    own: float
    stalled: float | None


def available_memory(root: Path = ROOT, device: Device = CPU) -> int:
    """Bytes that can still be allocated on a device: in the container or machine, or in the GPU's own memory."""
    reader = OWN_MEMORY.get(device.kind)
    own = reader(device.index) if reader is not None else None
    return memory(root)[1] if own is None else own


OWN_MEMORY: dict[str, Callable[[int], int | None]] = {"cuda": free_memory}
"""Kinds of devices with memory of their own → free bytes of the device with that index, None if not reported."""


def memory(root: Path = ROOT) -> tuple[int, int]:
    """(limit, available) in bytes: the tightest of the machine and each control group above this process."""
    total, free = machine_memory(root)
    levels = cgroup.memory_levels(root)
    limit = min([total, *(level.limit for level in levels)])
    return limit, max(0, min([free, *(level.limit - level.used for level in levels)]))


def machine_memory(root: Path = ROOT) -> tuple[int, int]:
    """(total, available) in bytes of the whole machine. Raises Unavailable on Linux without /proc."""
    recorded = linux.meminfo(root) if root != ROOT else {}
    if "MemTotal" in recorded:
        return recorded["MemTotal"], recorded.get("MemAvailable", 0)
    try:
        system = psutil.virtual_memory()
    except FileNotFoundError as error:
        raise Unavailable(
            "/proc, from which Linux reports memory and processors, is not mounted; mount it "
            "(mount -t proc proc /proc), also in a container or chroot"
        ) from error
    return int(system.total), int(system.available)


def process_memory() -> int:
    """Resident bytes of this process."""
    return int(psutil.Process().memory_info().rss)


def affinity() -> frozenset[int]:
    """CPUs this process may run on; empty if the system does not report them, which means all."""
    process: Any = psutil.Process()  # macOS has no affinity, so its stubs lack the method
    return frozenset(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else frozenset()


def _percent(part: float, whole: float) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 1)


def _busy(times: Any) -> float:
    """Seconds a CPU has worked. Time that a hypervisor took (steal) counts as work of other programs."""
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)
    return float(sum(times) - idle - getattr(times, "guest_nice", 0.0))


def _stalled(root: Path) -> float | None:
    """Seconds in which some thread of the machine waited for a CPU (pressure stall information)."""
    first = cgroup.read_text(root / "proc/pressure/cpu").partition("\n")[0]
    total = first.partition("total=")[2]
    return int(total) / 1e6 if total.isdigit() else None
