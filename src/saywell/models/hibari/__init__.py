"""The default voice, `heart` of the PyPI package hibari-tts, and four more voices that can be pulled.

package.py    the package: its files, verified          acoustic.py   phones → samples, window by window
tables.py     its dictionaries, searched as JSON text   model.py      the Model
reader.py     spoken text → phones                      names.tsv     names and brands missing in its dictionaries
sources.json  the voices to pull
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saywell.errors import UnknownModel
from saywell.types import SEED, SPEED, ModelSpec, Variant

if TYPE_CHECKING:
    from saywell.models.base import About, Model
    from saywell.plan.plan import Plan

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class HibariVoice:
    """One voice. The graph of the default is part of the package, the others are pulled (`sources.json`)."""

    name: str
    language: str
    description: str

    @property
    def british(self) -> bool:
        return self.language == "en-GB"


VOICES = {
    "heart": HibariVoice("Heart", "en-US", "US English, female"),
    "emma": HibariVoice("Emma", "en-GB", "British English, female"),
    "fenrir": HibariVoice("Fenrir", "en-US", "US English, male"),
    "fable": HibariVoice("Fable", "en-GB", "British English, male"),
    "kore": HibariVoice("Kore", "en-US", "US English, female"),
}
"""By id, the default first."""
DEFAULT = next(iter(VOICES))
WEIGHTS = 7_936_868
"""Bytes of the default voice's graph."""


def spec(name: str, path: Path | None) -> ModelSpec:
    """The package need not be installed. Bytes other than weights as measured on x86-64 Linux.

    `path`: the directory of a pulled voice, which becomes the default. Raises UnknownModel for any other.
    """
    voice = DEFAULT if path is None else path.name
    if voice not in VOICES:
        raise UnknownModel(
            f"{path} is not a voice of hibari; name a directory that `saywell pull` made: {', '.join(VOICES)}",
            param="model_path",
        )
    return ModelSpec(
        name=name,
        family="hibari",
        kind="single-shot",
        sample_rate=24000,
        frame_rate=0.3,
        variants=(
            Variant(
                executor="onnx",
                package="onnxruntime",
                precision="int8",
                weight_bytes=WEIGHTS,
                about="ONNX Runtime: fast on every CPU, and small",
            ),
        ),
        overhead_bytes=152 * MIB,
        slot_bytes=7 * MIB,
        max_threads=8,
        options={**SEED, **SPEED},
        timestamps=True,
        phones=True,
        default_voice=voice,
        path=path,
    )


def load(spec: ModelSpec, plan: Plan) -> Model:
    """Load the default voice. Raises MissingDependency if the package is missing or of another version."""
    from saywell.models.hibari.model import HibariModel

    return HibariModel(spec, plan)


def language(spec: ModelSpec, voice: str | None) -> str:
    """That of `voice`, or of the default one."""
    return _voice(spec, voice).language


def phones(spec: ModelSpec, voice: str | None, texts: list[str]) -> list[str]:
    """The phones of spoken texts, for `say --explain`. Raises MissingDependency without the package."""
    from saywell.models.hibari.reader import phones_of

    return phones_of(texts, british=_voice(spec, voice).british)


def _voice(spec: ModelSpec, voice: str | None) -> HibariVoice:
    return VOICES.get((voice or "").lower()) or VOICES[spec.default_voice]


def missing() -> str:
    from saywell.models.hibari import package

    return package.problem()


def about() -> About:
    from saywell.models.base import About
    from saywell.models.hibari import package

    return About(
        title="heart",
        found=f"the first voice, of the package hibari-tts {package.VERSION}",
        purpose="the first voice",
        example='saywell say "Hello there."',
        install=f"{sys.executable} -m {package.INSTALL}",
    )
