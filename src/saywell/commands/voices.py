"""`saywell voices`: who can speak."""

from __future__ import annotations

from rich.table import Table

from saywell.commands import show
from saywell.engine import launch
from saywell.settings import Settings


def run(settings: Settings, *, as_json: bool) -> None:
    """Print the voices of a model, the default first."""
    with launch.open(settings=settings) as speaker:
        voices, model = speaker.voices(), speaker.spec.name
    if as_json:
        print(show.as_json({"model": model, "voices": voices}))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Voice", style="bold", no_wrap=True)
    table.add_column("Language", no_wrap=True)
    table.add_column("Who")
    for index, voice in enumerate(voices):
        who = ", ".join(part for part in (voice.name, voice.description) if part)
        table.add_row(voice.id, voice.language, f"{who} (default)" if index == 0 else who)
    show.console().print(table)
