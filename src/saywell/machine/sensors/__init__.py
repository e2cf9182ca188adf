"""Temperatures and throttling, read through one interface (`Sensors`) that each system implements.

A reading that the system does not provide becomes a note for users, never an error.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """One reading."""

    temperatures: dict[str, float] = field(default_factory=dict)
    """Sensor → hottest reading in °C."""
    margin: float | None = None
    """°C between the processor's hottest sensor and the limit that sensor reports; None without a limit."""
    throttled: tuple[str, ...] = ()
    """Descriptions of the current throttling."""
    note: str = ""
    """Why there are no temperatures, and what would help."""


class Sensors(Protocol):
    """The sensors of one system. Not thread-safe."""

    def read(self) -> Heat:
        """The newest reading. Never raises, never blocks."""
        ...

    def close(self) -> None: ...


class Polled(Generic[T]):
    """Calls a slow function on a thread of its own, again and again; `latest` is its newest result."""

    def __init__(self, ask: Callable[[], T], every_s: float, first: T) -> None:
        self.latest = first
        self._ask, self._every_s = ask, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="saywell-heat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _poll(self) -> None:
        while True:
            self.latest = self._ask()
            if self._over.wait(self._every_s):
                return


def open_sensors(root: Path = Path("/")) -> Sensors:
    """The sensors of this system, or of a recorded Linux tree below another root."""
    system = platform.system() if root == Path("/") else "Linux"
    if system == "Darwin":
        from saywell.machine.sensors.macos import MacSensors

        return MacSensors()
    if system == "Windows":
        from saywell.machine.sensors.windows import WindowsSensors

        return WindowsSensors()
    from saywell.machine.sensors.linux import LinuxSensors

    return LinuxSensors(root)
