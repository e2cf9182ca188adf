"""The plot of the quality meter: word errors with what they may be by chance, and distances. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {"fp32": "#2f6f9f", "int8": "#e08e45", "int4": "#b5504b"}
_OTHER = "#9aa5b1"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """A bar for each row; the file written."""
    figure = Figure(figsize=(11, 1.2 + 0.3 * len(rows)), layout="constrained")
    errors, apart = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    places = list(range(len(rows)))
    colours = [COLOURS.get(row["precision"], _OTHER) for row in rows]
    rates = [100 * row["wer"] for row in rows]
    below = [max(0.0, rate - 100 * row["wer_interval"][0]) for rate, row in zip(rates, rows, strict=True)]
    above = [max(0.0, 100 * row["wer_interval"][1] - rate) for rate, row in zip(rates, rows, strict=True)]
    errors.barh(places, rates, xerr=(below, above), color=colours, capsize=2, error_kw={"linewidth": 0.8})
    errors.set(title="Word error rate on held-out text", xlabel="% (bars: 95 % by bootstrap)", xlim=(0, None))
    errors.set_yticks(places, [f"{row['model']} {row['voice']} {row['precision']}" for row in rows], fontsize=8)
    errors.invert_yaxis()
    for kind, marker in (("fp32_db", "o"), ("teacher_db", "s")):
        there = [(row[kind], place) for place, row in zip(places, rows, strict=True) if row[kind] is not None]
        if there:
            x, y = zip(*there, strict=True)
            apart.plot(x, y, marker, color="#444444", label=f"to {kind.removesuffix('_db')}")
    apart.set(title="Log-spectral distance", xlabel="dB", xlim=(0, 1.1 * apart.dataLim.x1 if apart.lines else 1))
    if apart.get_legend_handles_labels()[0]:
        apart.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return path
