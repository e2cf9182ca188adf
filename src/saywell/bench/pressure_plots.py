"""Plots of `saywell bench pressure`: the memory, the steps and what speech costs, over time. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"memory": "#f3d9c4", "cpu": "#cfe0ec"}


def draw(result: dict[str, Any], folder: Path) -> Path:
    """`pressure.png`: a row for each engine."""
    runs = result["runs"]
    figure = Figure(figsize=(10, 2.6 * len(runs)), layout="constrained")
    rows = figure.subplots(len(runs), 1, squeeze=False)[:, 0]
    for axes, (name, run) in zip(rows, runs.items(), strict=True):
        _one(axes, run)
        axes.set_title(f"{result['model']}, {name}", fontsize=10)
    path = folder / "pressure.png"
    figure.savefig(path, dpi=110)
    return path


def _one(axes: Axes, run: dict[str, Any]) -> None:
    begin = run["pressures"][0]["calm_at"]
    for each in run["pressures"]:
        axes.axvspan(each["since"] - begin, each["released"] - begin, color=COLOURS[each["kind"]], label=each["kind"])
    kinds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("look", "level", "spoken")}
    for event in run["events"]:
        if event["event"] in kinds and event["at"] >= begin:
            kinds[event["event"]].append(event)
    looks, levels = kinds["look"], kinds["level"]
    good = [each for each in kinds["spoken"] if each["ok"]]
    axes.plot([e["at"] - begin for e in looks], [e["memory"] for e in looks], color="#a05a2c", label="memory, %")
    times = [0.0, *(e["at"] - begin for e in levels), max((e["at"] - begin for e in looks), default=0.0)]
    steps = [0, *(e["level"] for e in levels)]
    axes.step(times, [20 * each for each in (*steps, steps[-1])], where="post", color="#2f6f9f", label="level × 20")
    axes.set(xlabel="seconds", ylim=(0, 125))
    speech = axes.twinx()
    speech.plot([e["at"] - begin for e in good], [e["rtf"] for e in good], "k.", markersize=2, label="RTF")
    speech.set(ylabel="RTF of each request", ylim=(0, None))
    axes.legend(fontsize=7, loc="upper left", ncols=5)
