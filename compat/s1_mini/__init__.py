"""The S1-Mini engine's API on top of Saywell.

>>> from s1_mini import ProductionTTSEngine, EngineConfig
>>> with ProductionTTSEngine(EngineConfig()) as engine:
...     sample_rate, audio = engine.generate("Hello world!").audio

Programs written for that engine run on any device; unsupported options cause warnings. The named model is used,
converted on first use; only without a named model is the built-in voice used.
"""

from __future__ import annotations

from s1_mini.config import EngineConfig
from s1_mini.engine import GenerationResponse, ProductionTTSEngine

__all__ = ["EngineConfig", "GenerationResponse", "ProductionTTSEngine"]
