"""Heat and throttling, each system in its own way behind one small seam: `Sensors`.

What a system does not tell is a note in plain words, never an error.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """One reading."""

    temperatures: dict[str, float] = field(default_factory=dict)
    """Sensor → hottest reading in °C."""
    margin: float | None = None
    """°C between the processor's hottest sensor and the limit that sensor names; None: no limit is named."""
    throttled: tuple[str, ...] = ()
    """What is slowed down right now, in words."""
    note: str = ""
    """Why there are no temperatures, and what would help."""


class Sensors(Protocol):
    """How one system tells its heat. Used by one thread at a time."""

    def read(self) -> Heat:
        """The newest reading. Never raises, never waits."""
        ...

    def close(self) -> None: ...


def open_sensors(root: Path = Path("/")) -> Sensors:
    """Those of this system, or of a recorded Linux tree below another root."""
    system = platform.system() if root == Path("/") else "Linux"
    if system == "Darwin":
        from saywell.machine.sensors.macos import MacSensors

        return MacSensors()
    if system == "Windows":
        from saywell.machine.sensors.windows import WindowsSensors

        return WindowsSensors()
    from saywell.machine.sensors.linux import LinuxSensors

    return LinuxSensors(root)
