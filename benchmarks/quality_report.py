"""How the quality benchmark is shown: a line for each row, the table, the plot, and the machine it ran on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from saywell.machine import detect

_PACKAGES = ("saywell", "numpy", "onnxruntime", "faster-whisper", "ctranslate2", "speechmos")
_LEFT = ("model", "voice", "precision")
COLUMNS = (
    *_LEFT, "WER %", "95 %", "CER %", "P.808", "95 %", "ovrl", "sig", "bak", "RTF", "audible ms", "MB", "speaker",
    "streamed", "batched", "gates",
)  # fmt: skip
_NAMED = 3


def machine() -> dict[str, Any]:
    """Hardware, versions, and the load at this moment."""
    found = detect()
    return {
        "cpu": found.cpu.model,
        "cpus": found.usable_cpus,
        "memory_gb": round(found.usable_memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "load": load(),
    }


def load() -> list[float]:
    """Load averages over 1, 5 and 15 minutes."""
    return [round(average, 2) for average in psutil.getloadavg()]


def show_line(console: Console, row: dict[str, Any]) -> None:
    """One row as soon as it is known."""
    failed = f", {len(row['failed'])} sentences failed: {row['failed'][0]}" if row["failed"] else ""
    console.print(f"{label(row)}: WER {row['wer']:.1%}, P.808 {row['p808']:.2f}{failed}", highlight=False)


def show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """The figures, the differences on the same sentences, and what became of the long text."""
    spoken = f"{rows[0]['sentences']} sentences, {rows[0]['words']} words" if rows else "nothing measured"
    table = Table(title=f"{spoken}; * default precision", title_justify="left", box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    if any(row["against"] for row in rows):
        console.print(_differences(rows))
    for row in rows:
        if row["long"]:
            console.print(_long(row), highlight=False)


def label(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['voice']} {row['precision']}"


def plot(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Write `quality.png`."""
    from benchmarks import quality_plots

    folder.mkdir(parents=True, exist_ok=True)
    return quality_plots.draw(rows, folder / "quality.png")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["model"],
        row["voice"],
        row["precision"] + (" *" if row["default"] else ""),
        f"{100 * row['wer']:.1f}",
        _interval(row["wer_interval"], "{:.1f}", 100),
        f"{100 * row['cer']:.1f}",
        f"{row['p808']:.2f}",
        _interval(row["p808_interval"], "{:.2f}"),
        *(f"{row[scale]:.2f}" for scale in ("ovrl", "sig", "bak")),
        _number(row["rtf"], "{:.3f}"),
        _number(row["first_audible_ms"], "{:.0f}"),
        str(row["memory_mb"]),
        _number(row["speaker"], "{:.3f}"),
        *("" if row[name] is None else "same" if row[name] else "DIFFERENT" for name in ("streamed", "batched")),
        _gates(row),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _interval(bounds: Sequence[float], form: str, unit: float = 1.0) -> str:
    return " to ".join(form.format(unit * bound) for bound in bounds)


def _gates(row: dict[str, Any]) -> str:
    if not row["gates"]:
        return ""
    return "passed" if all(row["against"][name]["verdict"]["passed"] for name in row["gates"]) else "FAILED"


def _differences(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="\nDifferences on the same sentences, with 95 % intervals", title_justify="left", box=None)
    for name in ("", "minus", "WER, points", "P.808", "ovrl", "gate"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        for name, found in row["against"].items():
            judged = found["verdict"]
            points = f"{100 * judged['added']:+.1f} ({_interval(judged['interval'], '{:+.1f}', 100)})"
            opinions = (
                f"{found[scale]:+.2f} ({_interval(found[f'{scale}_interval'], '{:+.2f}')})"
                for scale in ("p808", "ovrl")
            )
            table.add_row(label(row), name, points, *opinions, _gate(judged) if name in row["gates"] else "")
    return table


def _gate(judged: dict[str, Any]) -> str:
    return ("passed" if judged["passed"] else "FAILED") + ("" if judged["certain"] else ", uncertain")


def _long(row: dict[str, Any]) -> str:
    found = row["long"]
    lost = ", ".join(
        f"{len(found[kind])} {kind}{_which(found[kind])}" for kind in ("skipped", "repeated") if found[kind]
    )
    minutes = found["seconds"] / 60
    return f"{label(row)}: {minutes:.1f} minutes, {found['matched']:.1%} of the words; {lost or 'no sentence lost'}"


def _which(places: Sequence[int]) -> str:
    named = ", ".join(str(place + 1) for place in places[:_NAMED])
    return f" (number {named}{', …' if len(places) > _NAMED else ''})"
