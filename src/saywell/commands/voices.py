"""`saywell voices`: who can speak; recordings saved as voices by name."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

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
    """Encode a recording once and keep it as the voice `name`. Raises AlreadyExists, and what the sandbox refuses."""
    if name is None or recording is None:
        raise InvalidRequest("a voice is made of a recording: --save NAME --reference FILE", param="reference")
    reference = read_reference(recording, transcript)
    store = _store(settings)
    store.save(name, store.encode(reference))


def delete(settings: Settings, name: str) -> None:
    """Forget a saved voice. Raises UnknownVoice."""
    _store(settings).delete(name)


def _store(settings: Settings) -> VoiceStore:
    decision = launch.decide(settings)
    return open_voices(decision.spec, decision.plan)


def run(settings: Settings, *, as_json: bool) -> None:
    """Print the voices of a model, the default first."""
    with launch.open(settings=settings) as speaker:
        voices, model, family = speaker.voices(), speaker.spec.name, speaker.spec.family
    aliases = openai_voices(voices)
    if as_json:
        print(show.as_json({"model": model, "voices": voices, "openai": aliases}))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Voice", style="bold", no_wrap=True)
    table.add_column("Language", no_wrap=True)
    table.add_column("Who")
    for index, voice in enumerate(voices):
        who = ", ".join(part for part in (voice.name, voice.description) if part)
        table.add_row(voice.id, voice.language, f"{who} (default)" if index == 0 else who)
    console = show.console()
    console.print(table)
    if aliases:
        console.print("\nNames of OpenAI's voices, as its clients send them:")
    for meant in dict.fromkeys(aliases.values()):
        names = ", ".join(name for name, voice in aliases.items() if voice == meant)
        console.print(f"  {names} → {meant}", markup=False)
    there = {voice.id for voice in voices}
    more = [name for name, source in SOURCES.items() if source.family == family and name not in there]
    if more:
        console.print(f"\nMore voices: saywell pull NAME ({', '.join(more)})", markup=False)
