"""Plots of the DualAR benchmark: what a second of audio costs, part by part, as something grows. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

PARTS = {"prefill": "#9aa5b1", "ar": "#2f6f9f", "codec": "#e08e45", "rest": "#5b8c5a"}
NAMES = {"prefill": "prompt", "ar": "transformers", "codec": "codec", "rest": "engine"}
SECTIONS = {
    "batch": ("streams", "sentences at once"),
    "long": ("lookahead", "sentences of one text side by side"),
    "text": ("chars", "characters of the text"),
}


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """A PNG for each part in `found["whole"]` that grows with something; the files written."""
    whole = found["whole"]
    return [
        _grown(whole[section], key, label, whole["precision"], folder / f"dual-ar-{whole['precision']}-{section}.png")
        for section, (key, label) in SECTIONS.items()
        if section in whole
    ]


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
