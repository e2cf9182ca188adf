"""macOS: the system's thermal pressure level (notify(3)) and the speed limit `pmset` reports. No administrator needed.

Temperatures lie in the SMC, which no public interface opens; the pressure level is what macOS itself acts on.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Callable

from saywell.machine.sensors import Heat

NOTE = "macOS tells no temperatures to a program; its thermal pressure level is watched instead"
KEY = b"com.apple.system.thermalpressurelevel"
LEVELS = {2: "heavy", 3: "trapping", 4: "sleeping"}
"""OSThermalPressureLevel on macOS from where it costs speed; 0 is nominal, 1 moderate (fans turn faster)."""
_PMSET_S = 10.0
"""A process a reading, so it is asked seldom."""


class MacSensors:
    """Implements Sensors. `level` and `therm` are the two questions asked of the system.

    The second takes a process, and up to two seconds, so a thread asks it every `every_s`.
    """

    def __init__(
        self,
        level: Callable[[], int | None] | None = None,
        therm: Callable[[], str] | None = None,
        every_s: float = _PMSET_S,
    ) -> None:
        self._level = level or PressureLevel()
        self._therm = therm or pmset
        self._every_s = every_s
        self._limit: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="saywell-heat", daemon=True)
        self._thread.start()

    def read(self) -> Heat:
        level, limit = self._level(), self._limit
        throttled = []
        if level in LEVELS:
            throttled.append(f"macOS reports {LEVELS[level]} thermal pressure")
        if limit is not None and limit < 100:
            throttled.append(f"macOS limits the processor to {limit} % of its speed")
        return Heat(throttled=tuple(throttled), note=NOTE)

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self._limit = speed_limit(self._therm())
            if self._over.wait(self._every_s):
                return


class PressureLevel:
    """Asks notify(3) in libSystem; a look at shared memory, without a process or a daemon."""

    def __init__(self) -> None:
        self._system = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
        token = ctypes.c_int()
        failed = self._system.notify_register_check(KEY, ctypes.byref(token))
        self._token = None if failed else token

    def __call__(self) -> int | None:
        """The level, or None when the system does not tell."""
        state = ctypes.c_uint64()
        if self._token is None or self._system.notify_get_state(self._token, ctypes.byref(state)):
            return None
        return int(state.value)


def pmset() -> str:
    """What `pmset -g therm` prints; empty if it does not run."""
    try:
        done = subprocess.run(
            ["/usr/bin/pmset", "-g", "therm"], capture_output=True, text=True, timeout=2.0, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def speed_limit(text: str) -> int | None:
    """`CPU_Speed_Limit = 73` in percent. Apple silicon prints notes instead, so None is the rule there."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "CPU_Speed_Limit" and value.strip().isdigit():
            return int(value)
    return None
