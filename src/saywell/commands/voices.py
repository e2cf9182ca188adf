"""`saywell voices`: who can speak."""

from __future__ import annotations

import msgspec
from rich.table import Table

from saywell.commands import show
from saywell.engine import launch
from saywell.settings import Settings


def run(settings: Settings, *, as_json: bool) -> None:
    """Print the voices of a model, the default first."""
    with launch.open(settings=settings) as speaker:
        voices, model = speaker.voices(), speaker.spec.name
    if as_json:
        print(msgspec.json.format(msgspec.json.encode({"model": model, "voices": voices}), indent=2).decode())  # noqa: T201
        return
    table = Table(title=f"Voices of {model}", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("Id", "Name", "Language", "Rate", "About"):
        table.add_column(name, no_wrap=name == "Id")
    for index, voice in enumerate(voices):
        about = f"{voice.description} (default)".strip() if index == 0 else voice.description
        table.add_row(voice.id, voice.name, voice.language, f"{voice.sample_rate} Hz", about)
    show.console().print(table)
