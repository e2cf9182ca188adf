"""What the DualAR benchmark must show, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound on a figure of each precision."""

    name: str
    label: str
    bound: float | Mapping[str, float]
    """By precision where they differ; one that is not named has none."""
    read: Callable[[Row], float]
    """Raises KeyError where it was not measured."""
    ceiling: Callable[[Row], float] | None = None
    """What memory and arithmetic allow."""
    at_least: bool = False
    either: bool = False
    """One precision that reaches it is enough."""

    def of(self, precision: str) -> float | None:
        return self.bound if isinstance(self.bound, float) else self.bound.get(precision)


GOALS = (
    Goal(
        name="roofline",
        label="slow step, share of the memory roofline",
        bound={"int8": 0.70, "int4": 0.60},
        read=lambda row: row["transformers"]["roofline"]["slow_ms"],
        ceiling=lambda _: 1.0,
        at_least=True,
    ),
    Goal(
        name="one",
        label="one stream, RTF (either precision)",
        bound=1.0,
        read=lambda row: row["one"]["rtf"],
        ceiling=lambda row: row["ceiling"]["one"],
        either=True,
    ),
    Goal(
        name="long",
        label="long text, sentences side by side, RTF (either)",
        bound=0.5,
        read=lambda row: min(each["rtf"] for each in row["long"]),
        ceiling=lambda row: row["ceiling"]["streams"],
        either=True,
    ),
    Goal(
        name="streams",
        label="eight streams over one, throughput (either)",
        bound=4.0,
        read=lambda row: ratio(row["one"], row["streams"]),
        ceiling=lambda row: round(row["ceiling"]["one"] / row["ceiling"]["streams"], 2),
        at_least=True,
        either=True,
    ),
    Goal(
        name="first_s",
        label="first sound, cached voice, median, s",
        bound=0.5,
        read=lambda row: row["first"]["median_s"],
        ceiling=lambda row: row["ceiling"]["first_s"],
    ),
    Goal(
        name="chunks",
        label="codec in 16-frame chunks over whole",
        bound=1.1,
        read=lambda row: _chunks(row["decoder"]),
        ceiling=lambda _: 1.0,
    ),
    Goal(
        name="memory_mb",
        label="resident while one sentence is spoken, MB",
        bound=1300.0,
        read=lambda row: row["load"]["speaking_mb"]["rss"],
    ),
    Goal(name="load_s", label="load a converted model, s", bound=5.0, read=lambda row: row["load"]["load_s"]),
    Goal(
        name="logits",
        label="distance of the logits from fp32",
        bound={"int8": 0.12, "int4": 0.5},
        read=lambda row: row["distance"]["logits"],
    ),
    Goal(
        name="snr_db",
        label="codec, SNR against fp32, dB",
        bound=15.0,
        read=lambda row: row["decoder"]["snr_db"],
        at_least=True,
    ),
)


def reached(found: Row) -> list[Row]:
    """Bound, ceiling and figure of each goal that was measured, by precision, and whether it is met."""
    rows = [{**row, **_planned(found, row)} for row in found["precisions"]]
    return [each for goal in GOALS if (each := _one(goal, rows))["measured"]]


def _planned(found: Row, row: Row) -> Row:
    """The codec's row for the way this precision's plan convolves."""
    wanted = (row["ceiling"]["convolutions"], row["ceiling"]["executor"])
    for each in found.get("codec", ()):
        if (each["convolutions"], each["executor"]) == wanted:
            return {"decoder": each}
    return {}


def _one(goal: Goal, rows: list[Row]) -> Row:
    measured, ceilings, verdicts = dict[str, float](), dict[str, float](), list[bool]()
    for row in rows:
        name, bound = row["precision"], goal.of(row["precision"])
        try:
            figure = goal.read(row)
        except KeyError:  # not among the sections of this run
            continue
        if bound is None:
            continue
        measured[name] = figure
        verdicts.append(figure >= bound if goal.at_least else figure <= bound)
        if goal.ceiling:
            ceilings[name] = goal.ceiling(row)
    met = any(verdicts) if goal.either else all(verdicts)
    bounds = {name: goal.of(name) for name in measured}
    shown = {"name": goal.name, "label": goal.label, "at_least": goal.at_least}
    return {**shown, "goal": bounds, "ceiling": ceilings, "measured": measured, "met": met}


def ratio(one: Row, many: Row) -> float:
    """Audio a second with many streams over that with one."""
    return round(float(one["rtf"] / many["rtf"]), 2)


def _chunks(row: Row) -> float:
    took = row["s_per_audio_s"]
    return round(float(took["16"] / took["whole"]), 3)
