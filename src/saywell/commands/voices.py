"""`saywell voices`: list voices; save recordings as voices, and delete them."""

from __future__ import annotations

from pathlib import Path

from saywell.commands import show
from saywell.commands.say import read_reference
from saywell.engine import launch
from saywell.errors import InvalidRequest
from saywell.hub.sources import SOURCES
from saywell.models.base import open_voices
from saywell.settings import Settings
from saywell.voices.names import openai_voices
from saywell.voices.store import VoiceStore


def save(settings: Settings, name: str | None, recording: Path | None, transcript: str) -> None:
    """Encode a recording and save it as the voice `name`. Raises InvalidRequest and AlreadyExists."""
    if name is None or recording is None:
        raise InvalidRequest("to save a voice, give both: --save NAME --reference FILE", param="reference")
    reference = read_reference(recording, transcript)
    store = _store(settings)
    store.save(name, store.encode(reference))


def delete(settings: Settings, name: str) -> None:
    """Delete a saved voice. Raises UnknownVoice."""
    _store(settings).delete(name)


def _store(settings: Settings) -> VoiceStore:
    decision = launch.decide(settings)
    return open_voices(decision.spec, decision.plan)


def run(settings: Settings, *, as_json: bool) -> None:
    """Print the voices of a model, the default first."""
    with launch.open(settings=settings) as tts:
        voices, model, family = tts.voices(), tts.spec.name, tts.spec.family
    aliases = openai_voices(voices)
    if as_json:
        print(show.as_json({"model": model, "voices": voices, "openai": aliases}))  # noqa: T201
        return
    table = show.table("Voice", "Language", "Description")
    for index, voice in enumerate(voices):
        description = ", ".join(part for part in (voice.name, voice.description) if part)
        table.add_row(voice.id, voice.language, f"{description} (default)" if index == 0 else description)
    console = show.console()
    console.print(table)
    if aliases:
        console.print("\nOpenAI's voice names are mapped to:")
    for target in dict.fromkeys(aliases.values()):
        names = ", ".join(name for name, voice in aliases.items() if voice == target)
        console.print(f"  {names} → {target}", markup=False)
    known = {voice.id for voice in voices}
    available = [name for name, source in SOURCES.items() if source.family == family and name not in known]
    if available:
        console.print(f"\nMore voices: saywell pull NAME ({', '.join(available)})", markup=False)
