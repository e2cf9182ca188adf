"""Plots of the DualAR benchmark: what a step and a second of audio cost as something grows. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PARTS = {"prefill": "#9aa5b1", "ar": "#2f6f9f", "codec": "#e08e45", "rest": "#5b8c5a"}
NAMES = {"prefill": "prompt", "ar": "transformers", "codec": "codec", "rest": "engine"}
SECTIONS = {
    "batch": ("streams", "sentences at once"),
    "long": ("lookahead", "sentences of one text side by side"),
    "text": ("chars", "characters of the text"),
}
_COLOURS = {"int8": PARTS["ar"], "int4": PARTS["codec"]}


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """A PNG for whatever grows with something; the files written."""
    rows = found["precisions"]
    stepped = [row for row in rows if "transformers" in row]
    drawn = [_steps(stepped, folder / "dual-ar-steps.png")] if stepped else []
    return drawn + [
        _grown(row[section], key, label, row["precision"], folder / f"dual-ar-{row['precision']}-{section}.png")
        for row in rows
        for section, (key, label) in SECTIONS.items()
        if section in row
    ]


def _steps(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Milliseconds of the transformers over context and over batch, the memory ceiling beneath."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    context, batch = figure.subplots(1, 2)
    for row in rows:
        colour, name = _COLOURS.get(row["precision"]), row["precision"]
        found, top = row["transformers"], row["ceiling"]
        _line(context, found["context"], "context", "slow_ms", f"{name}, slow step", colour)
        context.axhline(top["slow_ms"], color=colour, linestyle=":", label=f"{name}, weights read once")
        _line(batch, found["batch"], "batch", "frame_ms", f"{name}, frame", colour)
        batch.axhline(top["slow_ms"] + top["fast_ms"], color=colour, linestyle=":")
    context.set(title="Slow step, one sequence", xlabel="positions behind it", ylabel="ms", ylim=(0, None))
    batch.set(title="A frame of all of a batch", xlabel="sequences", ylabel="ms", ylim=(0, None))
    for axes in (context, batch):
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def _line(axes: Axes, rows: Sequence[dict[str, Any]], x: str, y: str, label: str, colour: str | None) -> None:
    axes.plot([row[x] for row in rows], [row[y] for row in rows], marker="o", color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks([row[x] for row in rows], [str(row[x]) for row in rows])


def _grown(rows: Sequence[dict[str, Any]], key: str, label: str, precision: str, path: Path) -> Path:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    cost, wait = figure.subplots(1, 2)
    places, names = range(len(rows)), [str(row[key]) for row in rows]
    bottom = [0.0] * len(rows)
    for part, colour in PARTS.items():
        heights = [row[part] for row in rows]
        cost.bar(places, heights, bottom=bottom, color=colour, label=NAMES[part])
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    cost.axhline(1.0, color="black", linewidth=0.8, linestyle="--")
    cost.annotate("real time", (len(rows) - 0.5, 1.0), ha="right", va="bottom", fontsize=8)
    cost.set(title=f"Work per second of audio, {precision}", ylabel="RTF (lower is better)", xlabel=label)
    cost.legend(fontsize=8)
    first = [row["first_s"] * 1000 for row in rows]
    wait.plot(places, first, marker="o", color=PARTS["ar"])
    wait.set(title="First audio and memory", ylabel="first audio, ms", xlabel=label, ylim=(0, 1.4 * max(first)))
    memory = wait.twinx()
    held = [row["peak_mb"]["rss"] for row in rows]
    memory.plot(places, held, marker="s", color=PARTS["codec"])
    memory.set(ylabel="peak memory, MB", ylim=(0, 1.2 * max(held)))
    memory.yaxis.label.set_color(PARTS["codec"])
    wait.yaxis.label.set_color(PARTS["ar"])
    for axes in (cost, wait):
        axes.set_xticks(list(places), names)
    figure.savefig(path, dpi=110)
    return path
