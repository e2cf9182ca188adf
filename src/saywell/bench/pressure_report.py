"""Figures of `saywell bench pressure`: the goals first, then what each pressure did, in a table and in words."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from saywell.plan.degradation import Thresholds

DOWN_S, BACK_S, WATCH_PERCENT = 2.0, 30.0, 1.0
REASON = {"memory": "of memory is in use", "cpu": "other programs take"}
"""In the reason of a step taken for this pressure and not for what else was going on."""
_SETTLED_S = 4.0
"""After the last step, or the beginning of the pressure, what is spoken tells what it is like from then on."""


def figures(run: dict[str, Any], pressure: dict[str, Any]) -> dict[str, Any]:
    """Of one pressure on one engine. Seconds; RTF and seconds a frame are medians over whole requests."""
    since, released, until = _begins(run, pressure), pressure["released"], pressure["until"]
    moves = [each for each in run["events"] if each["event"] == "level" and since <= each["at"] <= until]
    downs = [each for each in _downs(moves) if REASON[pressure["kind"]] in each["reason"]]
    spoken = [
        each for each in run["events"] if each["event"] == "spoken" and pressure["calm_at"] <= each["at"] <= until
    ]
    good = [each for each in spoken if each["ok"]]
    back = next((each["at"] for each in moves if each["at"] > released and each["level"] == 0), None)
    settled = max([since, *(each["at"] for each in downs if each["at"] <= released)])
    if settled + _SETTLED_S < released:
        settled += _SETTLED_S
    calm = [each for each in good if each["at"] <= since]
    pressed = [each for each in good if each["began"] >= settled and each["at"] <= released]
    return {
        "kind": pressure["kind"],
        "down_s": round(downs[0]["at"] - since, 2) if downs else None,
        "steps": max((each["steps"] for each in moves), key=len, default=[]),
        "why": downs[0]["reason"] if downs else "",
        "back_s": None if back is None else round(back - released, 2),
        "requests": len(spoken),
        "failed": len(spoken) - len(good),
        "errors": sorted({each["error"] for each in spoken if not each["ok"]}),
        "changed": sum(not each["same"] and not each["audible"] for each in good),
        "audible": sum(each["audible"] for each in good),
        "rtf_calm": _median(calm, "rtf"),
        "rtf_pressed": _median(pressed, "rtf"),
        "frame_ms_calm": _median(calm, "frame_s", 1000),
        "frame_ms_pressed": _median(pressed, "frame_s", 1000),
        "first_ms_calm": _median(calm, "first_s", 1000),
        "first_ms_pressed": _median(pressed, "first_s", 1000),
    }


def _begins(run: dict[str, Any], pressure: dict[str, Any]) -> float:
    """When it pressed: hogs at once, memory when it was first seen fuller than the engine allows."""
    if pressure["kind"] == "cpu":
        return float(pressure["since"])
    full = (
        each["at"]
        for each in run["events"]
        if each["event"] == "look" and each["at"] >= pressure["since"] and each["memory"] > Thresholds().memory
    )
    return float(next(full, pressure["since"]))


def _downs(moves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that gave something up."""
    levels = [0, *(each["level"] for each in moves)]
    return [each for each, before in zip(moves, levels, strict=False) if each["level"] > before]


def _median(rows: list[dict[str, Any]], name: str, scale: float = 1.0) -> float | None:
    return round(scale * statistics.median(row[name] for row in rows), 4) if rows else None


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """Without the single events."""
    about = {name: value for name, value in result.items() if name != "runs"}
    runs = {
        name: {
            **{key: run[key] for key in ("plan", "watch_percent", "kills", "limit")},
            "pressures": [figures(run, each) for each in run["pressures"]],
        }
        for name, run in result["runs"].items()
    }
    return {**about, "runs": runs, "won_back": won_back(result), "goals": [
        {"goal": text, "met": good} for text, good in goals(result)
    ]}  # fmt: skip


def goals(result: dict[str, Any]) -> list[tuple[str, bool]]:
    """What it must do, with the figures, and whether it did."""
    run = result["runs"]["adapts"]
    found = [figures(run, each) for each in run["pressures"]]
    told = []
    for row in found:
        down, back = row["down_s"], row["back_s"]
        told.append((f"{row['kind']}: first step down after {_s(down)} (goal {DOWN_S:g} s)", _within(down, DOWN_S)))
        told.append(
            (f"{row['kind']}: as planned again {_s(back)} after relief (goal {BACK_S:g} s)", _within(back, BACK_S))
        )
        told.append(
            (f"{row['kind']}: {row['failed']} of {row['requests']} requests failed (goal 0)", not row["failed"])
        )
        said = f"{row['kind']}: {row['changed']} sounded different though no step taken may be heard (goal 0)"
        told.append((said, not row["changed"]))
    cost = run["watch_percent"]
    told.append((f"watching takes {cost:.2f} % of one CPU (goal {WATCH_PERCENT:g} %)", cost < WATCH_PERCENT))
    told.append((f"{run['kills']} processes killed for memory (goal 0)", not run["kills"]))
    return told


def met(result: dict[str, Any]) -> bool:
    return all(good for _, good in goals(result))


def won_back(result: dict[str, Any]) -> float | None:
    """How many times faster speech is made beside the hogs than by an engine that keeps to its plan."""
    rows = [
        next((row for row in (figures(run, each) for each in run["pressures"]) if row["kind"] == "cpu"), None)
        for name in ("as planned", "adapts")
        if (run := result["runs"].get(name)) is not None
    ]
    pressed = [row["rtf_pressed"] for row in rows if row is not None]
    if len(pressed) < 2 or None in pressed:
        return None
    return float(round(pressed[0] / pressed[1], 2))


def show(console: Console, result: dict[str, Any]) -> None:
    here = result["machine"]
    console.print(f"{here['cpu']}, {here['cpus']} CPUs, {here['memory_gb']} GiB; {result['model']}")
    console.print(f"Within {result['runs']['adapts']['limit']}; {result['readers']} readers, {result['hogs']} hogs.")
    for text, good in goals(result):
        console.print(f"[{'green' if good else 'red'}]{'met   ' if good else 'MISSED'}[/] {text}")
    table = Table("engine", "pressure", "down s", "gave up", "back s", "RTF calm", "RTF pressed", "first ms calm",
                  "pressed", "requests", "failed")  # fmt: skip
    for name, run in result["runs"].items():
        for row in (figures(run, each) for each in run["pressures"]):
            names = ("rtf_calm", "rtf_pressed", "first_ms_calm", "first_ms_pressed", "requests", "failed")
            cells = ["–" if row[each] is None else f"{row[each]:.4g}" for each in names]
            table.add_row(
                name, row["kind"], _n(row["down_s"]), ", ".join(row["steps"]) or "–", _n(row["back_s"]), *cells
            )
    console.print(table)
    for sentence in sentences(result):
        console.print(sentence)


def sentences(result: dict[str, Any]) -> list[str]:
    """What the table does not say."""
    run = result["runs"]["adapts"]
    found = [figures(run, each) for each in run["pressures"]]
    told = [f"{row['kind']}: {row['why']}" for row in found if row["why"]]
    told += [f"{row['kind']}: {error}" for row in found for error in row["errors"]]
    told += [
        f"{row['kind']}: {row['audible']} requests were spoken under a step that can be heard"
        for row in found
        if row["audible"]
    ]
    if (gain := won_back(result)) is not None:
        what = "win back" if gain >= 1.05 else "win nothing: they cost" if gain < 0.95 else "change nothing:"
        told.append(f"Beside the hogs the steps {what} a factor of {gain:g} against an engine that keeps to its plan.")
    return told


def _within(seconds: float | None, goal: float) -> bool:
    return seconds is not None and seconds <= goal


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def _n(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f}"
