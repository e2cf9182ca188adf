"""The monitor of the smart backend: a look at the machine, and whether the memory budget holds."""

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
    """Whether the longest text that is taken would fit now."""

    def __init__(self, speaker: TTS) -> None:
        self._speaker = speaker

    def enforce_limits(self) -> bool:
        """False, with a word in the log, if there is not enough memory for it. The engine refuses by itself what does
        not fit, and gives up work when memory presses."""
        plan, free = self._speaker.plan, available_memory()
        try:
            memory.check(memory.estimate(plan, self._speaker.spec, plan.max_text_chars), free)
        except OutOfMemory as error:
            _log.warning("⚠️ CRITICAL: Only %.1fGB available; %s", free / GIB, error.message)
            return False
        return True


class ResourceMonitor:
    """What the machine is doing; each look covers the time since the last one."""

    def __init__(self, speaker: TTS) -> None:
        self.memory_budget_manager = MemoryBudgetManager(speaker)
        self._monitor = Monitor()

    def look(self) -> Resources:
        return self._monitor.look()

    def check_resources(self) -> dict[str, float]:
        """cpu_percent, memory_percent, memory_available_gb, and gpu_util where there is an NVIDIA GPU."""
        return current(self.look())

    def close(self) -> None:
        self._monitor.close()
