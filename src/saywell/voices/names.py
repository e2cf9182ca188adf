"""Aliases of voices: the names of OpenAI and Kokoro, and retired names of earlier versions."""

from __future__ import annotations

import logging
import re

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
"""Each of OpenAI's voices → the most similar voices, best first. A model without them uses its default voice."""

TEACHERS = {"af_heart": "heart", "bf_emma": "emma", "am_fenrir": "fenrir", "bm_fable": "fable", "af_kore": "kore"}
"""Kokoro's names of the voices that these were trained on."""

RETIRED = ("wren", "rms", "slt", "awb", "kal16")
"""Voices of earlier versions, replaced by heart. These names are removed in the next release."""
_warned: set[str] = set()


_KOKORO = re.compile(r"[abefhijpz][fm]_")
"""Language and sex before the name of Kokoro's voices."""
_PART = re.compile(r"\s*([a-z]{2}_[a-z0-9]{1,32})\s*(?:\(\s*(\d{1,4}(?:\.\d{1,4})?|\.\d{1,4})\s*\))?\s*", re.IGNORECASE)


def parse_blend(name: str) -> tuple[tuple[str, float], ...]:
    """Voices and weights of `af_heart(2)+af_bella`; a comma is a plus. Empty: this is no blend."""
    parts = re.split(r"[+,]", name)
    found = [_PART.fullmatch(part) for part in parts]
    if len(parts) < 2 and "(" not in name:
        return ()
    weighed = [(part[1].lower(), float(part[2] or 1)) for part in found if part]
    return tuple(weighed) if len(weighed) == len(parts) <= 8 and all(weight > 0 for _, weight in weighed) else ()


def resolve_voice(name: str | None, voices: tuple[Voice, ...], default: str | None) -> str | None:
    """The id of a voice by id or alias. Ids take precedence over aliases; an unknown name is returned unchanged."""
    if name is None or not voices:
        return name or default
    known = {voice.id.lower(): voice.id for voice in voices}
    wanted = name.lower()
    if wanted in known:
        return known[wanted]
    if wanted in RETIRED and _WOMAN[0] in known:
        _warn_once(wanted)
        return known[_WOMAN[0]]
    if wanted in TEACHERS:
        return known.get(TEACHERS[wanted], name)
    if same := next((known[key] for key in known if key[2:] == f"_{wanted}" and _KOKORO.match(key)), None):
        return same
    if wanted in OPENAI_VOICES:
        return next((known[nearest] for nearest in OPENAI_VOICES[wanted] if nearest in known), default)
    return name


def openai_voices(voices: tuple[Voice, ...]) -> dict[str, str]:
    """Each of OpenAI's voices → the voice of the model used for it."""
    return {name: resolve_voice(name, voices, voices[0].id) or "" for name in OPENAI_VOICES} if voices else {}


def _warn_once(name: str) -> None:
    if name not in _warned:
        _warned.add(name)
        _log.warning("the voice %s was removed and heart is used instead; the next version rejects the name", name)
