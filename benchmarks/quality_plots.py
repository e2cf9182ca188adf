"""The plot of the quality benchmark: word errors, sound and speed side by side, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

OURS, THEIRS, TEXT, GRID = "#1f6feb", "#8b949e", "#24292f", "#e6e8eb"
_PANELS = (
    ("wer", "Word error rate, %", "lower is better", 100.0, "{:.1f}"),
    ("p808", "Sound, DNSMOS P.808", "1 to 5, higher is better", 1.0, "{:.2f}"),
    ("rtf", "Real-time factor", "lower is better, logarithmic", 1.0, "{:.2g}"),
)
"""Figure of a row, title, note, unit, form of its label."""


def draw(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """A line for each row, ours above the others; returns `path`."""
    ordered = sorted(rows, key=lambda row: not _ours(row))
    figure = Figure(figsize=(12, 1.7 + 0.42 * len(rows)), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, panel in zip(panels, _PANELS, strict=True):
        _panel(axes, ordered, *panel)
    panels[0].set_yticks(range(len(ordered)), [_name(row) for row in ordered], fontsize=10, color=TEXT)
    panels[0].set_ylim(len(ordered) - 0.4, -0.6)
    for tick, row in zip(panels[0].get_yticklabels(), ordered, strict=True):
        tick.set_fontweight("bold" if _ours(row) else "normal")
    figure.savefig(path, dpi=160)
    return path


def _panel(axes: Axes, rows: Sequence[dict[str, Any]], key: str, title: str, note: str, unit: float, form: str) -> None:
    for place, row in enumerate(rows):
        if row[key] is None:
            continue
        value, (low, high) = unit * row[key], (unit * bound for bound in row[f"{key}_interval"])
        colour = OURS if _ours(row) else THEIRS
        axes.plot((low, high), (place, place), color=colour, linewidth=3, alpha=0.35, solid_capstyle="round")
        axes.plot(value, place, "o", color=colour, markersize=7)
        axes.annotate(
            form.format(value), (value, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9,
            color=TEXT,
        )  # fmt: skip
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=TEXT, pad=20)
    axes.text(0, 1.02, note, transform=axes.transAxes, fontsize=9, color=THEIRS, va="bottom")
    if key == "rtf":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif key == "wer":
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.margins(x=0.12)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=9, colors=TEXT)
    axes.spines[:].set_visible(False)


def _ours(row: dict[str, Any]) -> bool:
    return "saywell" in row["packages"]


def _name(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['voice']}, {row['precision']}"
