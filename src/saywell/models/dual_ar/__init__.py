"""DualAR: a slow transformer over frames, a fast one over a frame's codebooks, a causal codec (S1-mini, S2-Pro)."""

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
    """The spec of a converted checkpoint. Raises UnknownModel, BadConfig, BadCheckpoint."""
    if path is None:
        raise UnknownModel(f"{name} needs the directory `saywell convert` wrote; give it as the model", param="model")
    from saywell.models.dual_ar.facts import facts

    return facts(name, path)


def load(spec: ModelSpec, plan: Plan) -> Model:
    """Map the weights and start the graphs. Raises GraphError, BadConfig, BadCheckpoint."""
    from saywell.models.dual_ar.model import DualArModel

    return DualArModel(spec, plan)


def missing() -> str:
    """What this family needs and is not installed; empty if nothing is missing."""
    return "" if find_spec("tiktoken") else "DualAR models need tiktoken: pip install 'saywell[dualar]'"


def voice_store(spec: ModelSpec, plan: Plan) -> VoiceStore:
    """The voices saved from recordings. Raises BadConfig, BadCheckpoint."""
    from saywell.models.dual_ar.speakers import voice_store

    return voice_store(spec, plan)
