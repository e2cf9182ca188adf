"""One way to draw what benchmarks find: panels of series in a PNG file. Needs matplotlib; `check` says so in time."""

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
"""Of the room for a value on the x axis, what its bars take together."""

_LONG = 6
"""Characters of a word that has room without leaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values over places: numbers, or words, which stand in a row."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    mark: Literal["line", "dots", "bars", "step"] = "line"
    interval: Sequence[tuple[float, float]] = ()
    """Low and high of each value."""
    under: Sequence[float] = ()
    """What each bar stands on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    series: Sequence[Series]
    x: str = ""
    y: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)
    """Dotted lines across, such as ceilings."""
    spans: Sequence[tuple[str, float, float]] = ()
    """Shaded from one x to another."""
    log: bool = False
    """A logarithmic y axis."""


def check(file: Path) -> None:
    """Before anything is measured. Raises InvalidRequest for a place that cannot be written, and MissingDependency."""
    check_place(file, "--plot")
    if util.find_spec("matplotlib") is None:
        raise MissingDependency("a plot needs matplotlib, which is not installed: pip install 'saywell[bench]'")


def draw(panels: Sequence[Panel], file: Path, title: str = "") -> None:
    """Two panels beside each other, row under row."""
    from matplotlib.figure import Figure

    wide = min(2, len(panels))
    high = -(-len(panels) // wide)
    figure = Figure(figsize=(5.5 * wide, 3.6 * high), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False).ravel()
    for place, panel in zip(axes, panels, strict=False):
        _panel(place, panel)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=110, format="png")


def _panel(axes: Axes, panel: Panel) -> None:
    words = list(dict.fromkeys(x for each in panel.series for x in each.x if isinstance(x, str)))
    bars = [each for each in panel.series if each.mark == "bars" and not each.under]
    for index, each in enumerate(panel.series):
        colour = COLOURS[index % len(COLOURS)]
        places = [words.index(x) if isinstance(x, str) else x for x in each.x]
        _series(axes, each, places, colour, bars.index(each) if each in bars else 0, max(1, len(bars)))
    for number, (name, value) in enumerate(panel.levels.items()):
        axes.axhline(value, color=COLOURS[number % len(COLOURS)], linestyle=":", label=name)
    for number, (name, begin, end) in enumerate(panel.spans):
        axes.axvspan(begin, end, color=COLOURS[number % len(COLOURS)], alpha=0.2, label=name)
    if words:
        axes.set_xticks(range(len(words)), words, fontsize=8)
        axes.tick_params("x", rotation=25 if max(map(len, words)) > _LONG else 0)
    if panel.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    if len(panel.series) + len(panel.levels) + len(panel.spans) > 1:
        axes.legend(fontsize=7)


def _series(axes: Axes, each: Series, places: Sequence[float], colour: str, index: int, count: int) -> None:
    """`index` of `count`: where its bars stand beside those of others."""
    width = _BARS / count
    if each.mark == "bars":
        places = [place + (index - (count - 1) / 2) * width for place in places]
        axes.bar(places, each.y, width, bottom=each.under or None, color=colour, label=each.name)
    elif each.mark == "step":
        axes.step(places, each.y, where="post", color=colour, label=each.name)
    else:
        axes.plot(places, each.y, "o" if each.mark == "dots" else "o-", color=colour, markersize=4, label=each.name)
    for place, bounds in zip(places, each.interval, strict=False):
        axes.plot((place, place), bounds, color=colour, linewidth=3, alpha=0.35)
