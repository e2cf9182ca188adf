"""Chatterbox: a transformer over speech tokens, and flow matching with a vocoder that makes samples of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from saywell.errors import UnknownModel
from saywell.types import ModelSpec

if TYPE_CHECKING:
    from saywell.models.base import Model
    from saywell.plan.plan import Plan
    from saywell.voices.store import VoiceStore

NEEDS_FILES = True
"""No model comes with the program: each is the directory of a converted checkpoint."""


def spec(name: str, path: Path | None) -> ModelSpec:
    """The spec of a converted checkpoint. Raises UnknownModel, BadCheckpoint."""
    if path is None:
        raise UnknownModel(f"{name} needs the directory `saywell convert` wrote; give it as the model", param="model")
    from saywell.models.chatterbox.facts import facts

    return facts(name, path)


def load(spec: ModelSpec, plan: Plan) -> Model:
    """Map the weights and start the graphs. Raises GraphError, BadCheckpoint."""
    from saywell.models.chatterbox.model import ChatterboxModel

    return ChatterboxModel(spec, plan)


def language(spec: ModelSpec, voice: str | None) -> str:  # noqa: ARG001 - any voice speaks all of a model's languages
    """BCP-47; `und`: the model speaks many."""
    from saywell.models.chatterbox.config import Config

    assert spec.path is not None
    return "und" if Config.read(spec.path).kind == "multilingual" else "en-US"


def missing() -> str:
    """What this family needs and is not installed; empty if nothing is missing."""
    return "" if find_spec("tokenizers") else "Chatterbox needs tokenizers: pip install 'saywell[chatterbox]'"


def voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """The voices saved from recordings. Raises BadCheckpoint."""
    from saywell.models.chatterbox.speakers import voice_store

    return voice_store(spec, plan)
