"""The smart adaptive backend's API on top of Saywell.

>>> from smart_backend import SmartAdaptiveBackend
>>> with SmartAdaptiveBackend() as engine:
...     audio, sample_rate, metrics = engine.tts("Hello there.")

An `OptimalConfig` is the engine's plan under other names; a changed one becomes overrides of the plan.
"""

from __future__ import annotations

from smart_backend.backend import SmartAdaptiveBackend, Speech, create_smart_backend
from smart_backend.config import OptimalConfig
from smart_backend.profile import HardwareProfile

__all__ = ["HardwareProfile", "OptimalConfig", "SmartAdaptiveBackend", "Speech", "create_smart_backend"]
