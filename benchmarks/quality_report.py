"""How the quality meter is shown: a line as each row comes, the table, the plot."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from saywell.bench.dual_ar_report import machine as machine
from saywell.errors import MissingDependency

COLUMNS = (
    "model",
    "voice",
    "precision",
    "WER",
    "95 %",
    "CER",
    "teacher",
    "dB fp32",
    "dB teacher",
    "speaker",
    "clipped",
    "pause s",
    "s/word",
    "streamed",
    "batched",
    "gate",
)
_NAMED = 3


def show_line(console: Console, row: dict[str, Any]) -> None:
    """One row as soon as it is known."""
    failed = f", {row['failed']} could not be spoken" if row["failed"] else ""
    console.print(f"{label(row)}: WER {row['wer']:.1%}{failed}", highlight=False)


def show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """The table, then what the long texts and the gate say."""
    table = Table(
        title=f"Held-out text, {rows[0]['words'] if rows else 0} words a row",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:3] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for row in rows:
        if row["long"]:
            console.print(_about_long(row), highlight=False)
        if row["verdict"]:
            console.print(_about_verdict(row), highlight=False)


def label(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['voice']} {row['precision']}"


def plot(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """A PNG of word errors and distances. Raises MissingDependency."""
    if util.find_spec("matplotlib") is None:
        raise MissingDependency("plots need matplotlib, which is not installed: pip install 'saywell[bench]'")
    folder.mkdir(parents=True, exist_ok=True)
    return [import_module("saywell.bench.quality_plots").draw(rows, folder / "quality.png")]


def _cells(row: dict[str, Any]) -> list[str]:
    low, high = row["wer_interval"]
    judged = row["verdict"]
    return [
        row["model"],
        row["voice"],
        row["precision"] + (" *" if row["default"] else ""),
        f"{row['wer']:.1%}",
        f"{low:.1%}–{high:.1%}",
        f"{row['cer']:.1%}",
        _number(row["teacher_added"], "{:+.1%}"),
        _number(row["fp32_db"], "{:.2f}"),
        _number(row["teacher_db"], "{:.2f}"),
        _number(row["speaker"], "{:.0%}"),
        _number(row["clipped"], "{:.2%}"),
        _number(row["pause_s"], "{:.2f}"),
        _number(row["s_per_word"], "{:.2f}"),
        *("same" if row[name] else "DIFFERENT" for name in ("streamed", "batched")),
        "" if judged is None else "passed" if judged["passed"] else "FAILED",
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _about_long(row: dict[str, Any]) -> str:
    found = row["long"]
    lost = ", ".join(
        f"{len(found[kind])} sentences {kind}{_which(found[kind])}" for kind in ("skipped", "repeated") if found[kind]
    )
    minutes = found["seconds"] / 60
    return f"{label(row)}: {minutes:.1f} minutes, {found['matched']:.1%} of the words; {lost or 'no sentence lost'}"


def _which(places: Sequence[int]) -> str:
    named = ", ".join(str(place + 1) for place in places[:_NAMED])
    return f" (number {named}{', …' if len(places) > _NAMED else ''})"


def _about_verdict(row: dict[str, Any]) -> str:
    judged = row["verdict"]
    low, high = judged["interval"]
    sure = (
        "" if judged["certain"] else f"; {100 * low:+.1f} to {100 * high:+.1f} is possible, more sentences would tell"
    )
    return f"{label(row)}: {judged['reason']}{sure}"
