"""`saywell models`: which models are installed, and which a server on this machine has loaded."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from saywell.commands import show
from saywell.errors import SaywellError
from saywell.models.base import find_spec
from saywell.models.installed import Installed, installed
from saywell.plan.memory import mb
from saywell.server.service import DEFAULT_HOST, DEFAULT_PORT
from saywell.settings import Settings, default_data_dir

_ASK_S = 1.0


def run(settings: Settings, *, as_json: bool) -> None:
    """Print the installed models, by name."""
    there = installed(settings.data_dir or default_data_dir())
    loaded = _loaded(settings)
    rows = [_row(model, loaded) for model in there.values()]
    if as_json:
        print(show.as_json({"models": rows}))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Model", style="bold", no_wrap=True)
    table.add_column("Weights", no_wrap=True)
    table.add_column("Now", no_wrap=True)
    table.add_column("Where", overflow="fold")
    for row in rows:
        weights = ", ".join(f"{precision} {mb(size)}" for precision, size in row.weights.items())
        now = {True: "loaded", False: "not loaded", None: ""}[row.loaded]
        where = str(row.path) if row.path else f"a package ({row.family})"
        table.add_row(row.name, weights, now, f"{where}: {row.problem}" if row.problem else where)
    console = show.console()
    console.print(table)
    console.print('\nOne of them: saywell say -m MODEL "Hello." · more: saywell pull s1-mini', markup=False)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    family: str
    path: Path | None
    loaded: bool | None
    """By a server here; None: there is none to ask."""
    weights: dict[str, int]
    """Bytes by precision."""
    problem: str = ""
    """Why it cannot speak."""


def _row(model: Installed, loaded: dict[str, bool] | None) -> _Row:
    now = loaded.get(model.name, False) if loaded is not None else None
    weights: dict[str, int] = {}
    try:
        for variant in find_spec(model.name, model.path).variants:
            weights.setdefault(variant.precision, variant.weight_bytes)
    except SaywellError as error:
        return _Row(model.name, model.family, model.path, now, weights, error.message)
    return _Row(model.name, model.family, model.path, now, weights)


def _loaded(settings: Settings) -> dict[str, bool] | None:
    """What the server of these settings has loaded; None: there is none, or it lets nobody in without a key."""
    host = settings.host if settings.host not in (None, "0.0.0.0", "::") else DEFAULT_HOST  # noqa: S104
    port = DEFAULT_PORT if settings.port is None else settings.port
    address = f"http://{f'[{host}]' if ':' in str(host) else host}:{port}/v1/models"
    asked = urllib.request.Request(address)
    for key in (settings.api_keys or ())[:1]:
        asked.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(asked, timeout=_ASK_S) as answer:  # noqa: S310 - http, by its own settings
            found = json.loads(answer.read(1 << 20))
        return {each["id"]: bool(each["loaded"]) for each in found["data"] if "loaded" in each}
    except (OSError, ValueError, KeyError, TypeError):
        return None
