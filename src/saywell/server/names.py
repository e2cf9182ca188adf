"""Names of models that clients of OpenAI send, and what they mean here."""

from __future__ import annotations

from saywell.errors import UnknownModel
from saywell.types import ModelSpec

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Each means whatever model is loaded; a dated name (gpt-4o-mini-tts-2025-12-15) means the same."""


def check_model(name: str | None, spec: ModelSpec) -> None:
    """Raise UnknownModel unless `name` means the loaded model."""
    if name is None or name.lower() == spec.name.lower():
        return
    if any(name == known or name.startswith(f"{known}-20") for known in OPENAI_MODELS):
        return
    some = ", ".join((spec.name, *OPENAI_MODELS))
    raise UnknownModel(f"there is no such model here; this server has {some}", param="model")
