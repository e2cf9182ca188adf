"""macOS: the system's thermal pressure level (notify(3)) and the speed limit `pmset` reports. No administrator needed.

Temperatures are in the SMC, which has no public interface; macOS itself acts on the pressure level.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable

from saywell.machine.sensors import Heat, Polled

NOTE = "macOS reports no temperatures to programs; its thermal pressure level is watched instead"
KEY = b"com.apple.system.thermalpressurelevel"
LEVELS = {2: "heavy", 3: "trapping", 4: "sleeping"}
"""OSThermalPressureLevel values of macOS that cost speed; 0 is nominal, 1 moderate (the fans speed up)."""
_PMSET_S = 10.0
"""Between two runs of pmset: each starts a process and takes up to two seconds."""


class MacSensors:
    """Implements Sensors. `level` is called in `read`; `therm`, the output of pmset, on a thread of its own."""

    def __init__(
        self,
        level: Callable[[], int | None] | None = None,
        therm: Callable[[], str] | None = None,
        every_s: float = _PMSET_S,
    ) -> None:
        self._level, ask = level or PressureLevel(), therm or pmset
        self._limit: Polled[int | None] = Polled(lambda: speed_limit(ask()), every_s, None)

    def read(self) -> Heat:
        level, limit = self._level(), self._limit.latest
        throttled = []
        if level in LEVELS:
            throttled.append(f"macOS reports {LEVELS[level]} thermal pressure")
        if limit is not None and limit < 100:
            throttled.append(f"macOS limits the processor to {limit} % of its speed")
        return Heat(throttled=tuple(throttled), note=NOTE)

    def close(self) -> None:
        self._limit.close()


class PressureLevel:
    """Reads the level through notify(3) in libSystem: shared memory, so it neither starts a process nor blocks."""

    def __init__(self) -> None:
        self._system = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
        token = ctypes.c_int()
        failed = self._system.notify_register_check(KEY, ctypes.byref(token))
        self._token = None if failed else token

    def __call__(self) -> int | None:
        """None if the system does not report it."""
        state = ctypes.c_uint64()
        if self._token is None or self._system.notify_get_state(self._token, ctypes.byref(state)):
            return None
        return int(state.value)


def pmset() -> str:
    """Output of `pmset -g therm`; empty if it does not run."""
    try:
        done = subprocess.run(
            ["/usr/bin/pmset", "-g", "therm"], capture_output=True, text=True, timeout=2.0, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def speed_limit(text: str) -> int | None:
    """Percent in `CPU_Speed_Limit = 73`; None without that line, as on Apple silicon."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "CPU_Speed_Limit" and value.strip().isdigit():
            return int(value)
    return None
