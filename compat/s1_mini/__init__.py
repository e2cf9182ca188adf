"""The names of the S1-Mini engine, on Saywell.

>>> from s1_mini import ProductionTTSEngine, EngineConfig
>>> with ProductionTTSEngine(EngineConfig()) as engine:
...     sample_rate, audio = engine.generate("Hello world!").audio

Programs written for that engine run on whatever device is there; what could not be had is said in a warning. The
model is the one they name, converted when it is first used; only if they name none may the built-in voice speak.
"""

from __future__ import annotations

from s1_mini.config import EngineConfig
from s1_mini.engine import GenerationResponse, ProductionTTSEngine

__all__ = ["EngineConfig", "GenerationResponse", "ProductionTTSEngine"]
