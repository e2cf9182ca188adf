"""What the names of voices mean that other programs use, and those this program used before."""

from __future__ import annotations

import logging

from saywell.types import Voice

_log = logging.getLogger(__name__)

_WOMAN = ("heart",)
_OTHER_WOMAN = ("kore", "heart")
_MAN = ("fenrir", "fable", "heart")
_BRITON = ("fable", "fenrir", "heart")

OPENAI_VOICES: dict[str, tuple[str, ...]] = {
    "alloy": _WOMAN,
    "ash": _MAN,
    "ballad": _BRITON,
    "cedar": _MAN,
    "coral": _OTHER_WOMAN,
    "echo": _MAN,
    "fable": _BRITON,
    "marin": _OTHER_WOMAN,
    "nova": _WOMAN,
    "onyx": _MAN,
    "sage": _OTHER_WOMAN,
    "shimmer": _WOMAN,
    "verse": _MAN,
}
"""Each of OpenAI's voices → the nearest voices here, best first. The model's default voice stands in if it has none."""

TEACHERS = {"af_heart": "heart", "bf_emma": "emma", "am_fenrir": "fenrir", "bm_fable": "fable", "af_kore": "kore"}
"""Kokoro's names of the voices that ours were learned from."""

RETIRED = ("wren", "rms", "slt", "awb", "kal16")
"""Voices of earlier versions, which heart speaks for now. They go with the next release."""
_told: set[str] = set()


def resolve_voice(name: str | None, voices: tuple[Voice, ...], default: str | None) -> str | None:
    """The id to ask the engine for. A voice of the model wins over a name of OpenAI's; an unknown one is passed on."""
    if name is None or not voices:
        return name or default
    known = {voice.id.lower(): voice.id for voice in voices}
    wanted = name.lower()
    if wanted in known:
        return known[wanted]
    if wanted in RETIRED and _WOMAN[0] in known:
        _retired(wanted)
        return known[_WOMAN[0]]
    if wanted in TEACHERS:
        return known.get(TEACHERS[wanted], name)
    if wanted in OPENAI_VOICES:
        return next((known[nearest] for nearest in OPENAI_VOICES[wanted] if nearest in known), default)
    return name


def openai_voices(voices: tuple[Voice, ...]) -> dict[str, str]:
    """Each of OpenAI's voices → the voice that speaks for it here."""
    return {name: resolve_voice(name, voices, voices[0].id) or "" for name in OPENAI_VOICES} if voices else {}


def _retired(name: str) -> None:
    if name not in _told:
        _told.add(name)
        _log.warning("the voice %s is gone and heart speaks for it; from the next version on its name is refused", name)
