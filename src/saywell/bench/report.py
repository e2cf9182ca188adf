"""How a benchmark is shown: the machine and its load, and tables of rows."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saywell.machine import detect
from saywell.runtimes import runtimes

Row = Mapping[str, Any]


def machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The hardware, what computes on it, and the load averages at this moment."""
    found = detect()
    return {
        "cpu": found.cpu.model,
        "cpus": found.usable_cpus,
        "features": list(found.cpu.features),
        "memory_gb": round(found.usable_memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {
            name: _version(name)
            for name in packages or ("saywell", *(runtime.package for runtime in runtimes()), "numpy")
        },
        "load": load(),
    }


def load() -> list[float]:
    """Load averages over 1, 5 and 15 minutes."""
    return [round(average, 2) for average in psutil.getloadavg()]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def about(here: Row) -> str:
    """A machine in one line."""
    return f"{here['cpu']}, {here['cpus']} CPUs, {here['memory_gb']:g} GiB; load {here['load'][0]:g}"


def show(console: Console, rows: Sequence[Row], title: str = "", columns: Sequence[str] = ()) -> None:
    """Print a table of `columns`, by default all that any row has. `_` in a name is shown as a space."""
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        is_text = any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name.replace("_", " "), justify="left" if is_text else "right", no_wrap=not is_text)
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(count)} {name}" for name, count in value.items())
    return ", ".join(map(_cell, value)) if isinstance(value, list | tuple) else str(value)
