"""Plots of `saywell bench stability`: what succeeded, how long it took and how much that varied. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from saywell.bench.stability_report import figures

COLOURS = ("#9aa5b1", "#2f6f9f", "#5b8c5a", "#e08e45")


def draw(result: dict[str, Any], folder: Path) -> Path:
    """`stability.png`: success and peak memory, latency by length with every single answer."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    found = [figures(run) for run in result["runs"]]
    names = [row["variant"].removeprefix("+ ") for row in found]
    left.bar(range(len(found)), [100 * row["success"] for row in found], color=COLOURS[: len(found)])
    left.set_xticks(range(len(found)), names, rotation=15, fontsize=8)
    left.set(ylabel="answered, %", ylim=(0, 105), title=f"Under {result['limit_mb']} MB")
    peaks = left.twinx()
    peaks.plot(range(len(found)), [row["own_peak_mb"] for row in found], "k_", markersize=24)
    peaks.set(ylabel="own memory at most, MB (dash)", ylim=(0, 1.1 * result["limit_mb"]))
    width = 0.8 / len(found)
    for index, (run, row) in enumerate(zip(result["runs"], found, strict=True)):
        places = {
            chars: place + (index - (len(found) - 1) / 2) * width for place, chars in enumerate(result["lengths"])
        }
        good = [answer for answer in run["rows"] if answer["ok"]]
        right.bar([places[chars] for chars in row["by_length_s"]], list(row["by_length_s"].values()), width,
                  color=COLOURS[index], label=names[index])  # fmt: skip
        right.plot([places[a["chars"]] for a in good], [a["latency_s"] for a in good], "k.", markersize=3)
    right.set_xticks(range(len(result["lengths"])), [str(chars) for chars in result["lengths"]])
    right.set(xlabel="characters", ylabel="seconds to the last sound", title="Latency of what was answered")
    right.legend(fontsize=8)
    path = folder / "stability.png"
    figure.savefig(path, dpi=110)
    return path
