"""The synthesisers of the system as a model family: CMU Flite and eSpeak NG, each utterance in a child process.

    process.py    the child: reads Speak, writes Piece          messages.py   what goes over the pipe
    flite.py      Flite through ctypes                          pool.py       the children, seen from the engine
    espeak.py     eSpeak NG through ctypes                      model.py      the Model of the engine
    english.py    what Flite is given to read                   libraries.py  where shared libraries lie

The child imports this package, so nothing here may import numpy or the engine before it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saywell.models.base import Model
    from saywell.plan import Plan
    from saywell.types import ModelSpec

MIB = 1 << 20
FRAME_RATE = 10.0
"""Pieces of PCM per second of audio."""


def spec(name: str, path: Path | None) -> ModelSpec:
    """The facts, without starting anything: looks for library files at most. Bytes as measured on x86-64 Linux."""
    from saywell.models.builtin import flite
    from saywell.types import ModelSpec

    voices = flite.installed()
    return ModelSpec(
        name=name,
        family="builtin",
        kind="single-shot",
        sample_rate=16000 if voices else 22050,
        frame_rate=FRAME_RATE,
        executors=("process",),
        precisions=("fp32",),
        weight_bytes={"fp32": 4 * MIB},
        overhead_bytes=8 * MIB,
        slot_bytes=32 * MIB,
        honours=(),
        default_voice=voices[0] if voices else "espeak:en-us",
        path=path,
    )


def load(spec: ModelSpec, plan: Plan) -> Model:
    """Start the first child and ask it for its voices.

    Raises MissingDependency when no synthesiser is installed, ModelFailure when the child cannot be started.
    """
    from saywell.models.builtin.model import BuiltinModel

    return BuiltinModel(spec, plan)
