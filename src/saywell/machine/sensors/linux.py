"""Linux: hwmon and thermal zones, clocks, and what the kernel counts or does against heat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from saywell.machine.cgroup import read_int, read_text
from saywell.machine.sensors import Heat

PROCESSOR = ("coretemp", "k10temp", "zenpower", "cpu", "soc", "pkg", "scpi")
"""Starts or parts of names of sensors that sit on the processor."""
PLAUSIBLE = range(60, 131)
"""°C a processor's limit can be; firmware tables hold nonsense too."""
PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_BITS = {
    0: "the power supply is too weak, so the processor is slowed down",
    2: "the processor is throttled by its firmware",
    3: "the processor is slowed down at its soft temperature limit",
}
"""Of the Raspberry Pi's firmware: what holds now (the same bits from 16 on tell the past)."""


class LinuxSensors:
    """Implements Sensors on the files below a root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._events = self._throttle_events()

    def read(self) -> Heat:
        found = [*self._hwmon(), *self._zones()]
        temperatures: dict[str, float] = {}
        for name, degrees, _ in found:
            temperatures[name] = max(degrees, temperatures.get(name, degrees))
        margins = [limit - degrees for name, degrees, limit in found if limit is not None and _on_processor(name)]
        return Heat(
            temperatures=temperatures,
            margin=min(margins, default=None),
            throttled=tuple(self._throttled()),
            note="" if temperatures else "this machine shows no temperature sensor",
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _hwmon(self) -> Iterator[tuple[str, float, float | None]]:
        """(chip, °C, limit in °C) of every input."""
        for chip in sorted(self._root.glob("sys/class/hwmon/hwmon*")):
            name = read_text(chip / "name") or chip.name
            for value in sorted(chip.glob("temp*_input")):
                degrees = _degrees(value)
                if degrees is not None:
                    stem = value.name.removesuffix("_input")
                    limits = (_degrees(chip / f"{stem}_crit"), _degrees(chip / f"{stem}_max"))
                    yield name, degrees, next((limit for limit in limits if _plausible(limit)), None)

    def _zones(self) -> Iterator[tuple[str, float, float | None]]:
        for zone in sorted(self._root.glob("sys/class/thermal/thermal_zone*")):
            degrees = _degrees(zone / "temp")
            if degrees is not None:
                yield read_text(zone / "type") or zone.name, degrees, _trip(zone)

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


def _on_processor(name: str) -> bool:
    return any(part in name.lower() for part in PROCESSOR)


def _slows_processor(kind: str) -> bool:
    """Cooling devices of the kinds that lower a processor's clock; fans and the like are no loss."""
    return kind == "Processor" or "cpufreq" in kind or "cpu-" in kind


def _degrees(path: Path) -> float | None:
    """Millidegrees in a file. A sensor that is asleep gives an error or nonsense, which is no reading."""
    text = read_text(path)
    value = int(text) / 1000 if text.removeprefix("-").isdigit() else None
    return value if value is not None and -40 < value < 200 else None


def _plausible(limit: float | None) -> bool:
    return limit is not None and round(limit) in PLAUSIBLE


def _trip(zone: Path) -> float | None:
    """The temperature at which the kernel would switch the machine off."""
    for kind in sorted(zone.glob("trip_point_*_type")):
        if read_text(kind) == "critical":
            limit = _degrees(zone / kind.name.replace("_type", "_temp"))
            if _plausible(limit):
                return limit
    return None
