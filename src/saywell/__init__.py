"""Saywell: text-to-speech that adapts to the machine it runs on.

>>> import saywell
>>> with saywell.open() as tts:
...     tts.say("Hello there.").save("hello.wav")
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

RUNTIME_CAME_FIRST = "onnxruntime" in sys.modules
"""Whether the program imported ONNX Runtime before Saywell; the variable below then has no effect."""
# From 1.30 on, ONNX Runtime sends telemetry about each process and writes files about it, unless this is set before
# it is imported. Set here, it applies to all processes of ours and to programs that import saywell.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Loaded on first use, so that `import saywell` and `saywell --help` are fast.
_LAZY = {
    "open": "saywell.engine.launch",
    "Engine": "saywell.engine.engine",
    "EngineClient": "saywell.engine.worker.client",
    "Audio": "saywell.types",
    "AudioChunk": "saywell.types",
    "Request": "saywell.types",
    "SamplingParams": "saywell.types",
    "Voice": "saywell.types",
    "SaywellError": "saywell.errors",
    "Settings": "saywell.settings",
}
__all__ = ["__version__", *_LAZY]

if TYPE_CHECKING:
    from saywell.engine.engine import Engine as Engine
    from saywell.engine.launch import open as open
    from saywell.engine.worker.client import EngineClient as EngineClient
    from saywell.errors import SaywellError as SaywellError
    from saywell.settings import Settings as Settings
    from saywell.types import Audio as Audio
    from saywell.types import AudioChunk as AudioChunk
    from saywell.types import Request as Request
    from saywell.types import SamplingParams as SamplingParams
    from saywell.types import Voice as Voice


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'saywell' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
