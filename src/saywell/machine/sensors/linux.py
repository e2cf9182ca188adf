"""Linux and other systems where psutil reads temperatures; throttling by what the kernel and the firmware report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from saywell.machine.cgroup import read_int, read_text
from saywell.machine.sensors import Heat

PROCESSOR = ("coretemp", "k10temp", "zenpower", "cpu", "soc", "pkg", "scpi")
"""Parts of the names of sensors on the processor."""
PLAUSIBLE_LIMIT = (60, 130)
"""°C a processor's limit can be; firmware tables also hold nonsense."""
PLAUSIBLE_READING = (-40, 200)
"""°C. A sensor that is asleep may report anything."""
PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_BITS = {
    0: "the power supply is too weak, so the processor is slowed down",
    2: "the processor is throttled by its firmware",
    3: "the processor is slowed down at its soft temperature limit",
}
"""Bits of the Raspberry Pi's firmware for the current state (the same bits from 16 on are its history)."""


def temperatures() -> list[tuple[str, float, float | None]]:
    """(chip, °C, limit in °C if it reports a plausible one) of every sensor that psutil finds."""
    read: Any = getattr(psutil, "sensors_temperatures", dict)  # macOS and Windows lack it
    return [
        (chip, sensor.current, next((limit for limit in (sensor.critical, sensor.high) if _plausible(limit)), None))
        for chip, sensors in read().items()
        for sensor in sensors
        if PLAUSIBLE_READING[0] < sensor.current < PLAUSIBLE_READING[1]
    ]


class LinuxSensors:
    """Implements Sensors. Throttling is read from the files below a root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._events = self._throttle_events()

    def read(self) -> Heat:
        readings = temperatures()
        hottest: dict[str, float] = {}
        for chip, degrees, _ in readings:
            hottest[chip] = max(degrees, hottest.get(chip, degrees))
        margins = [limit - degrees for chip, degrees, limit in readings if limit is not None and _on_processor(chip)]
        return Heat(
            temperatures=hottest,
            margin=min(margins, default=None),
            throttled=tuple(self._throttled()),
            note="" if hottest else "this machine has no temperature sensor that can be read",
        )

    def close(self) -> None:
        """No resources to release."""

    def _throttled(self) -> Iterator[str]:
        events, before = self._throttle_events(), self._events
        self._events = events
        if events > before:
            yield "the processor has throttled itself against heat"
        for device in sorted(self._root.glob("sys/class/thermal/cooling_device*")):
            state = read_int(device / "cur_state")
            if state and _slows_processor(read_text(device / "type")):
                yield "the kernel slows the processor down against heat"
                break
        bits = read_text(self._root / PI_THROTTLED)
        if bits:
            yield from (text for bit, text in PI_BITS.items() if int(bits, 16) >> bit & 1)

    def _throttle_events(self) -> int:
        counters = self._root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
        return sum(read_int(counter) or 0 for counter in counters)


def _on_processor(chip: str) -> bool:
    return any(part in chip.lower() for part in PROCESSOR)


def _slows_processor(kind: str) -> bool:
    """Whether a cooling device lowers the processor's clock; fans and the like cost no speed."""
    return kind == "Processor" or "cpufreq" in kind or "cpu-" in kind


def _plausible(limit: float | None) -> bool:
    return limit is not None and PLAUSIBLE_LIMIT[0] <= round(limit) <= PLAUSIBLE_LIMIT[1]
