"""The smart backend's monitor: state of the machine, and a check of the memory budget."""

from __future__ import annotations

import logging

from saywell.engine.launch import TTS
from saywell.errors import OutOfMemory
from saywell.machine import GIB
from saywell.machine.monitor import Monitor, Resources, available_memory
from saywell.plan import memory
from saywell.server.describe import current

_log = logging.getLogger("smart_backend")


class MemoryBudgetManager:
    """Checks whether the longest accepted text would fit into memory now."""

    def __init__(self, speaker: TTS) -> None:
        self._speaker = speaker

    def enforce_limits(self) -> bool:
        """False, with a warning in the log, if it would not. The engine rejects requests that do not fit, and degrades
        under memory pressure, without this call."""
        plan, free = self._speaker.plan, available_memory()
        try:
            memory.check(memory.estimate(plan, self._speaker.spec, plan.max_text_chars), free)
        except OutOfMemory as error:
            _log.warning("⚠️ CRITICAL: Only %.1fGB available; %s", free / GIB, error.message)
            return False
        return True


class ResourceMonitor:
    """State of the machine; each sample covers the time since the previous one."""

    def __init__(self, speaker: TTS) -> None:
        self.memory_budget_manager = MemoryBudgetManager(speaker)
        self._monitor = Monitor()

    def look(self) -> Resources:
        return self._monitor.look()

    def check_resources(self) -> dict[str, float]:
        """cpu_percent, memory_percent, memory_available_gb, and with an NVIDIA GPU gpu_util."""
        return current(self.look())

    def close(self) -> None:
        self._monitor.close()
