"""`saywell models`: the installed models, and which of them a server on this machine has loaded."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from saywell.commands import show
from saywell.errors import SaywellError
from saywell.models.base import find_spec
from saywell.models.installed import Installed, installed
from saywell.plan.memory import mb
from saywell.server.service import DEFAULT_HOST, DEFAULT_PORT
from saywell.settings import Settings, default_data_dir

_TIMEOUT_S = 1.0


def run(settings: Settings, *, as_json: bool) -> None:
    """Print the installed models, by name."""
    loaded = _loaded(settings)
    rows = [_row(model, loaded) for model in installed(settings.data_dir or default_data_dir()).values()]
    if as_json:
        print(show.as_json({"models": rows}))  # noqa: T201
        return
    table = show.table("Model", "Weights", "State", "Location")
    for row in rows:
        weights = ", ".join(f"{precision} {mb(size)}" for precision, size in row.weights.items())
        state = {True: "loaded", False: "not loaded", None: ""}[row.loaded]
        location = str(row.path) if row.path else f"a package ({row.family})"
        table.add_row(row.name, weights, state, f"{location}: {row.problem}" if row.problem else location)
    console = show.console()
    console.print(table)
    console.print('\nTo use one: saywell say -m MODEL "Hello." · more: saywell pull s1-mini', markup=False)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    family: str
    path: Path | None
    loaded: bool | None
    """Whether a server on this machine has loaded it; None: no server answers."""
    weights: dict[str, int]
    """Bytes by precision."""
    problem: str = ""
    """Why it cannot be loaded; empty if it can."""


def _row(model: Installed, loaded: dict[str, bool] | None) -> _Row:
    state = loaded.get(model.name, False) if loaded is not None else None
    weights: dict[str, int] = {}
    problem = ""
    try:
        for variant in find_spec(model.name, model.path).variants:
            weights.setdefault(variant.precision, variant.weight_bytes)
    except SaywellError as error:
        problem = error.message
    return _Row(model.name, model.family, model.path, state, weights, problem)


def _loaded(settings: Settings) -> dict[str, bool] | None:
    """Which models the server of these settings has loaded; None: no server answers, or it needs a key we lack."""
    host = settings.host if settings.host not in (None, "0.0.0.0", "::") else DEFAULT_HOST  # noqa: S104
    port = DEFAULT_PORT if settings.port is None else settings.port
    request = urllib.request.Request(f"http://{f'[{host}]' if ':' in str(host) else host}:{port}/v1/models")
    if settings.api_keys:
        request.add_header("Authorization", f"Bearer {settings.api_keys[0]}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - http, by its own settings
            listed = json.loads(response.read(1 << 20))["data"]
        return {model["id"]: bool(model["loaded"]) for model in listed if "loaded" in model}
    except (OSError, ValueError, KeyError, TypeError):
        return None
