"""The names of the smart adaptive backend, on Saywell.

>>> from smart_backend import SmartAdaptiveBackend
>>> with SmartAdaptiveBackend() as engine:
...     audio, sample_rate, metrics = engine.tts("Hello there.")

The engine's plan decides; an `OptimalConfig` is that plan under other names, and one of your own becomes overrides.
"""

from __future__ import annotations

from smart_backend.backend import SmartAdaptiveBackend, Speech, create_smart_backend
from smart_backend.config import OptimalConfig
from smart_backend.profile import HardwareProfile

__all__ = ["HardwareProfile", "OptimalConfig", "SmartAdaptiveBackend", "Speech", "create_smart_backend"]
