"""OpenAI's model names, accepted as aliases of the server's own model."""

from __future__ import annotations

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Aliases of the server's own model; so are dated names such as gpt-4o-mini-tts-2025-12-15."""


def is_openai(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}-20") for known in OPENAI_MODELS)
