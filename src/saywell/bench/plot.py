"""Plots of benchmarks: panels of series in a PNG file. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from saywell.commands.sinks import check_place
from saywell.errors import MissingDependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2f6f9f", "#e08e45", "#5b8c5a", "#9aa5b1", "#8a4f7d", "#a05a2c")
_BARS = 0.8
"""Share of an x position that its bars fill together."""
_LONG = 6
"""Length of a label from which labels are rotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values over numbers, or over labels, which are placed side by side."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    mark: Literal["line", "dots", "bars", "step"] = "line"
    interval: Sequence[tuple[float, float]] = ()
    """Low and high bound of each value."""
    under: Sequence[float] = ()
    """Bottom of each bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    title: str
    series: Sequence[Series]
    x: str = ""
    y: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)
    """Dotted horizontal lines, such as ceilings."""
    spans: Sequence[tuple[str, float, float]] = ()
    """Shaded ranges of x."""
    log: bool = False
    """A logarithmic y axis."""


def check(file: Path) -> None:
    """Before measuring. Raises InvalidRequest if `file` cannot be written, and MissingDependency without matplotlib."""
    check_place(file, "--plot")
    if util.find_spec("matplotlib") is None:
        raise MissingDependency("a plot needs matplotlib, which is not installed: pip install 'saywell[bench]'")


def draw(panels: Sequence[Panel], file: Path, title: str = "") -> None:
    """Draw the panels in rows of two."""
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for each, panel in zip(axes, panels, strict=False):
        _panel(each, panel)
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=110, format="png")


def _panel(axes: Axes, panel: Panel) -> None:
    labels = list(dict.fromkeys(x for series in panel.series for x in series.x if isinstance(x, str)))
    side_by_side = [series for series in panel.series if series.mark == "bars" and not series.under]
    for number, series in enumerate(panel.series):
        positions = [labels.index(x) if isinstance(x, str) else x for x in series.x]
        index = side_by_side.index(series) if series in side_by_side else 0
        _series(axes, series, positions, COLOURS[number % len(COLOURS)], index, max(1, len(side_by_side)))
    for number, (name, value) in enumerate(panel.levels.items()):
        axes.axhline(value, color=COLOURS[number % len(COLOURS)], linestyle=":", label=name)
    for number, (name, begin, end) in enumerate(panel.spans):
        axes.axvspan(begin, end, color=COLOURS[number % len(COLOURS)], alpha=0.2, label=name)
    if labels:
        axes.set_xticks(range(len(labels)), labels, fontsize=8)
        axes.tick_params("x", rotation=25 if max(map(len, labels)) > _LONG else 0)
    if panel.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    if len(panel.series) + len(panel.levels) + len(panel.spans) > 1:
        axes.legend(fontsize=7)


def _series(axes: Axes, series: Series, positions: Sequence[float], colour: str, index: int, count: int) -> None:
    """`index` of `count`: which of the bars at each position are this series'."""
    width = _BARS / count
    if series.mark == "bars":
        positions = [position + (index - (count - 1) / 2) * width for position in positions]
        axes.bar(positions, series.y, width, bottom=series.under or None, color=colour, label=series.name)
    elif series.mark == "step":
        axes.step(positions, series.y, where="post", color=colour, label=series.name)
    else:
        marker = "o" if series.mark == "dots" else "o-"
        axes.plot(positions, series.y, marker, color=colour, markersize=4, label=series.name)
    for position, bounds in zip(positions, series.interval, strict=False):
        axes.plot((position, position), bounds, color=colour, linewidth=3, alpha=0.35)
