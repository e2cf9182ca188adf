"""Names that clients of OpenAI send, and what they mean here."""

from __future__ import annotations

from saywell.errors import UnknownModel
from saywell.types import ModelSpec, Voice

_WOMAN = ("slt",)
_MAN = ("rms", "awb", "kal16")
_BRITON = ("awb", "rms", "kal16")

OPENAI_VOICES: dict[str, tuple[str, ...]] = {
    "alloy": _WOMAN,
    "ash": _MAN,
    "ballad": _BRITON,
    "cedar": _MAN,
    "coral": _WOMAN,
    "echo": _MAN,
    "fable": _BRITON,
    "marin": _WOMAN,
    "nova": _WOMAN,
    "onyx": _MAN,
    "sage": _WOMAN,
    "shimmer": _WOMAN,
    "verse": _MAN,
}
"""Each of OpenAI's voices → the nearest voices here, best first. The model's default voice stands in if it has none."""

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Each means whatever model is loaded; a dated name (gpt-4o-mini-tts-2025-12-15) means the same."""


def resolve_voice(name: str | None, voices: tuple[Voice, ...], default: str | None) -> str | None:
    """The id to ask the engine for. A voice of the model wins over a name of OpenAI's; an unknown one is passed on."""
    if name is None or not voices:
        return name or default
    known = {voice.id.lower(): voice.id for voice in voices}
    wanted = name.lower()
    if wanted in known or wanted not in OPENAI_VOICES:
        return known.get(wanted, name)
    return next((known[nearest] for nearest in OPENAI_VOICES[wanted] if nearest in known), default)


def check_model(name: str | None, spec: ModelSpec) -> None:
    """Raise UnknownModel unless `name` means the loaded model."""
    if name is None or name.lower() == spec.name.lower():
        return
    if any(name == known or name.startswith(f"{known}-20") for known in OPENAI_MODELS):
        return
    some = ", ".join((spec.name, *OPENAI_MODELS))
    raise UnknownModel(f"there is no such model here; this server has {some}", param="model")
