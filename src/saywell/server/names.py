"""Names of models that clients of OpenAI send, and what they mean here."""

from __future__ import annotations

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Each means the server's own model; a dated name (gpt-4o-mini-tts-2025-12-15) means the same."""


def is_openai(name: str) -> bool:
    """Whether a name of a model is one of OpenAI's."""
    return any(name == known or name.startswith(f"{known}-20") for known in OPENAI_MODELS)
