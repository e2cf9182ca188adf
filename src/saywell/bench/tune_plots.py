"""A plot of the trials of `saywell tune`. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from saywell.plan.measured import Record, Trial

_BEST, _OTHER = "#e08e45", "#2f6f9f"
_MOST = 24
"""Trials shown, the best ones: more cannot be read."""


def draw(record: Record, path: Path) -> Path:
    """Each trial's rounds, RTF and first sound, best on top; the one that was kept in another colour. The file."""
    ran = sorted((each for each in record.trials if each.rtf and not each.failed), key=lambda each: median(each.rtf))
    shown = ran[:_MOST][::-1]
    figure = Figure(figsize=(10, 1.4 + 0.32 * len(shown)), layout="constrained")
    speed, first = figure.subplots(1, 2, sharey=True)
    for place, trial in enumerate(shown):
        colour = _BEST if trial.values == record.best else _OTHER
        for axes, figures, scale in ((speed, trial.rtf, 1), (first, trial.first_s, 1000)):
            axes.barh(place, scale * median(figures), color=colour, height=0.6)
            axes.plot([scale * each for each in figures], [place] * len(figures), ".", color="black", markersize=3)
    speed.set_yticks(range(len(shown)), [_name(each) for each in shown], fontsize=8)
    speed.set(xlabel="RTF: seconds of work per second of audio (lower is better)", title="All streams busy")
    first.set(xlabel="milliseconds", title="First sound of a lone request")
    figure.suptitle(f"{record.model}: trials for {record.goal}, each dot a round", fontsize=11)
    figure.savefig(path, dpi=110)
    return path


def _name(trial: Trial) -> str:
    return ", ".join(f"{name}={value}" for name, value in trial.values.items()) or "the rules' plan"
