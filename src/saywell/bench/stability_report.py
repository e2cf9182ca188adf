"""Figures of `saywell bench stability`: the table, and in words what each thing switched on did or did not do."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table


def merge(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs of one set-up saved one by one, as one."""
    runs: dict[str, dict[str, Any]] = {}
    for run in (run for result in results for run in result["runs"]):
        name = run["variant"]
        runs[name] = _both(runs[name], run) if name in runs else run
    repeats = sum(result["repeats"] for result in results) * len(runs) // sum(len(r["runs"]) for r in results)
    return {**results[0], "repeats": repeats, "runs": list(runs.values())}


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two runs of one variant as one."""
    most = {name: max(one[name], other[name]) for name in ("peak_mb", "own_peak_mb")}
    sums = {name: one[name] + other[name] for name in ("kills", "starts", "rows")}
    steps = list(dict.fromkeys(one["steps"] + other["steps"]))
    return {**one, **most, **sums, "steps": steps, "refused": one["refused"] or other["refused"]}


def figures(run: dict[str, Any]) -> dict[str, Any]:
    """Of one variant. Latency in seconds; its spread is around the mean of each length, which texts of other lengths
    say nothing about."""
    rows = run["rows"]
    good = [row for row in rows if row["ok"]]
    by_length: defaultdict[int, list[float]] = defaultdict(list)
    for row in good:
        by_length[row["chars"]].append(row["latency_s"])
    means = {chars: statistics.fmean(times) for chars, times in by_length.items()}
    off = [row["latency_s"] - means[row["chars"]] for row in good]
    return {
        "variant": run["variant"],
        "requests": len(rows),
        "success": round(len(good) / len(rows), 4) if rows else 0.0,
        "latency_s": round(statistics.fmean(row["latency_s"] for row in good), 4) if good else None,
        "spread_s": round(statistics.fmean(each * each for each in off) ** 0.5, 4) if good else None,
        "first_s": round(statistics.median(row["first_s"] for row in good), 4) if good else None,
        "rtf": round(sum(r["latency_s"] for r in good) / sum(r["audio_s"] for r in good), 4) if good else None,
        "by_length_s": {chars: round(mean, 4) for chars, mean in sorted(means.items())},
        "peak_mb": run["peak_mb"],
        "own_peak_mb": run["own_peak_mb"],
        "kills": run["kills"],
        "failures": dict(Counter(row["error"] for row in rows if not row["ok"])),
        "steps": run["steps"],
    }


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """Without the single answers."""
    about = {name: value for name, value in result.items() if name != "runs"}
    return {**about, "limited_by": result["runs"][0]["kind"], "rows": [figures(run) for run in result["runs"]],
            "verdicts": verdicts(result)}  # fmt: skip


def verdicts(result: dict[str, Any]) -> list[str]:
    """One sentence for each thing switched on, against what was there before it."""
    found = [figures(run) for run in result["runs"]]
    return [_verdict(before, after) for before, after in pairwise(found)]


def _verdict(before: dict[str, Any], after: dict[str, Any]) -> str:
    parts = [f"succeeds {after['success']:.1%} of the time ({before['success']:.1%} before)"]
    if before["latency_s"] and after["latency_s"]:
        parts.append(f"latency {_ratio(before, after, 'latency_s')}, its spread {_ratio(before, after, 'spread_s')}")
    gained = after["success"] > before["success"]
    faster = bool(before["latency_s"] and after["latency_s"]) and _clearly(before, after)
    return f"{after['variant']}: {', '.join(parts)}" + ("" if gained or faster else "; it did not help here")


def _clearly(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether the mean fell by more than the spread of a mean explains."""
    n = max(1, round(min(before["requests"] * before["success"], after["requests"] * after["success"])))
    doubt = 2 * max(before["spread_s"], after["spread_s"]) / n**0.5
    return bool(before["latency_s"] - after["latency_s"] > doubt)


def _ratio(before: dict[str, Any], after: dict[str, Any], name: str) -> str:
    return f"× {after[name] / before[name]:.2f}" if before[name] else "unchanged"


def met(result: dict[str, Any]) -> bool:
    """The last variant answers at least as often as the first."""
    found = [figures(run)["success"] for run in result["runs"]]
    return bool(found[-1] >= found[0])


def show(console: Console, result: dict[str, Any]) -> None:
    here = result["machine"]
    console.print(f"{here['cpu']}, {here['cpus']} CPUs, {here['memory_gb']} GiB; {result['model']}")
    console.print(f"Each under {result['runs'][0]['limit']}; {result['clients']} at once.")
    table = Table(
        "", "requests", "success", "latency s", "± s", "first s", "RTF", "own MB", "peak MB", "killed", "failures"
    )
    for run in result["runs"]:
        row = figures(run)
        failed = ", ".join(f"{count} {name}" for name, count in row["failures"].items())
        names = ("latency_s", "spread_s", "first_s", "rtf", "own_peak_mb", "peak_mb", "kills")
        cells = ["–" if row[name] is None else str(row[name]) for name in names]
        table.add_row(row["variant"], str(row["requests"]), f"{row['success']:.1%}", *cells, failed)
    console.print(table)
    console.print("own MB: what its processes held that was theirs alone; peak MB: with the pages of files they read.")
    for run in result["runs"]:
        if run["refused"]:
            console.print(f"{run['variant']}: {run['refused']}")
        if run["steps"]:
            console.print(f"{run['variant']}: under pressure it gave up {', '.join(run['steps'])}")
    for sentence in verdicts(result):
        console.print(sentence)
