"""What the machine is doing right now. Cheap: a few small files, about a millisecond a look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from saywell.machine import cgroup, linux
from saywell.machine.facts import CPU, Device
from saywell.machine.sensors import Heat, Sensors, open_sensors
from saywell.machine.sensors.nvidia import GpuLoad, NvidiaSensors, free_memory

ROOT = Path("/")
_SHORTEST_S = 0.02
"""Over a shorter time the system's clock ticks are too coarse for a percentage."""
_HEAT_S = 2.0
"""Temperatures are read no oftener: they change slowly, and some sensors take milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """One look. Bytes and percent; memory is the container's where it has a limit."""

    cpu_percent: float
    """Of the CPUs this process may use, by everybody, since the last look."""
    cpu_own_percent: float = 0.0
    """Of the same CPUs, by this process and its children."""
    cpu_stalled_percent: float | None = None
    """Share of the time in which somebody waited for a CPU; None: this system does not tell."""
    memory_limit: int
    memory_available: int
    memory_percent: float
    """Share of the limit that is not available."""
    temperatures: dict[str, float] = field(default_factory=dict)
    """Sensor → hottest reading in °C."""
    temperature_note: str = ""
    """Why there are no temperatures."""
    heat_margin: float | None = None
    """°C between the processor and the limit its sensor names; None: no limit is named."""
    throttled: tuple[str, ...] = ()
    """What is slowed down by heat or power right now, in words."""
    gpus: tuple[GpuLoad, ...] = ()


def resources(root: Path = ROOT) -> Resources:
    """A single look, over a tenth of a second. Who looks again and again keeps a Monitor."""
    monitor = Monitor(root)
    try:
        time.sleep(0.1)
        return monitor.look()
    finally:
        monitor.close()


class Monitor:
    """Looks again and again; percentages are over the time since the last look. Used by one thread at a time."""

    def __init__(
        self,
        root: Path = ROOT,
        *,
        also_own: tuple[int, ...] = (),
        sensors: Sensors | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`also_own`: other processes whose work counts as ours, with their children; this one may be among those."""
        self._root = root
        self._clock = clock
        self._pids = (psutil.Process().pid, *also_own)
        self._sensors = sensors or open_sensors(root)
        self._gpus = NvidiaSensors()
        self._usable = _usable_cpus()
        self._heat = Heat()
        self._heat_at = float("-inf")
        self._before = self._count()
        self._shares: tuple[float, float, float | None] = (0.0, 0.0, None)

    def look(self) -> Resources:
        limit, available = memory(self._root)
        cpu, own, stalled = self._cpu()
        heat, gpus = self._warmth(), self._gpus.read()
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

    def _warmth(self) -> Heat:
        now = self._clock()
        if now - self._heat_at >= _HEAT_S:
            self._heat, self._heat_at = self._sensors.read(), now
        return self._heat

    def _cpu(self) -> tuple[float, float, float | None]:
        """(everybody, we, somebody waited), percent since the last look."""
        before, now = self._before, self._count()
        passed = now.at - before.at
        if passed < _SHORTEST_S:
            return self._shares
        whole = passed * max(1, len(self._usable) or psutil.cpu_count() or 1)
        stalled = None
        if now.stalled is not None and before.stalled is not None:
            stalled = _percent(now.stalled - before.stalled, passed)
        busy, own = _percent(now.busy - before.busy, whole), _percent(now.own - before.own, whole)
        self._before, self._shares = now, (max(busy, own), own, stalled)
        return self._shares

    def _count(self) -> _Count:
        per_cpu = psutil.cpu_times(percpu=True)
        ours = [times for cpu, times in enumerate(per_cpu) if not self._usable or cpu in self._usable]
        return _Count(
            at=self._clock(),
            busy=sum(_busy(times) for times in ours),
            own=sum(map(_spent, {each for pid in self._pids for each in _tree(pid, self._root)})),
            stalled=_stalled(self._root),
        )


@dataclass(frozen=True, slots=True)
class _Count:
    """Seconds since some beginning."""

    at: float
    busy: float
    own: float
    stalled: float | None


def available_memory(root: Path = ROOT, device: Device = CPU) -> int:
    """Bytes that can still be allocated there before the container, the machine, or a GPU of its own runs out."""
    reader = OWN_MEMORY.get(device.kind)
    own = reader(device.index) if reader is not None else None
    return memory(root)[1] if own is None else own


OWN_MEMORY: dict[str, Callable[[int], int | None]] = {"cuda": free_memory}
"""Kind of device → free bytes of the one of that index, None if it does not tell. Others share the machine's memory."""


def memory(root: Path = ROOT) -> tuple[int, int]:
    """(limit, available) in bytes: the tightest of the machine and each control group above this process."""
    total, free = _machine(root)
    levels = cgroup.memory_levels(root)
    limit = min([total, *(level.limit for level in levels)])
    return limit, max(0, min([free, *(level.limit - level.used for level in levels)]))


def process_memory() -> int:
    """ModelHolder bytes of this process."""
    return int(psutil.Process().memory_info().rss)


def _machine(root: Path) -> tuple[int, int]:
    info = linux.meminfo(root)
    if "MemTotal" in info:
        return info["MemTotal"], info.get("MemAvailable", info.get("MemFree", 0))
    system = psutil.virtual_memory()
    return int(system.total), int(system.available)


def _percent(part: float, whole: float) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 1)


def _usable_cpus() -> frozenset[int]:
    """Those this process may run on; empty: the system does not tell, so all."""
    process: Any = psutil.Process()  # macOS has no affinity, so its stubs lack the method
    return frozenset(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else frozenset()


def _busy(times: Any) -> float:
    """Seconds a CPU has worked. What a host took from a virtual machine (steal) is work of others."""
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)
    return float(sum(times) - idle - getattr(times, "guest_nice", 0.0))


def _tree(pid: int, root: Path) -> Iterator[int]:
    """A process and all its descendants that live."""
    yield pid
    for child in _children(pid, root):
        yield from _tree(child, root)


def _spent(pid: int) -> float:
    """CPU seconds of a process, and of the children it has seen die."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0  # just gone; its parent has its time
    dead = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + dead)


def _children(pid: int, root: Path) -> Iterator[int]:
    """Direct children. Linux lists them by thread; elsewhere all processes have to be gone through."""
    try:
        tasks = list((root / "proc" / str(pid) / "task").iterdir())
    except OSError:  # no such list here, or the process has just gone
        with suppress(psutil.Error):
            yield from (child.pid for child in psutil.Process(pid).children())
        return
    for task in tasks:
        yield from (int(child) for child in cgroup.read_text(task / "children").split())


def _stalled(root: Path) -> float | None:
    """Seconds in which some thread of the machine waited for a CPU (pressure stall information)."""
    first = cgroup.read_text(root / "proc/pressure/cpu").partition("\n")[0]
    total = first.partition("total=")[2]
    return int(total) / 1e6 if total.isdigit() else None
