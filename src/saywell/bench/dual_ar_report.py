"""How the whole part of the DualAR benchmark is shown: goals, tables, plots."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import import_module, util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from saywell.errors import MissingDependency
from saywell.hardware import detect

PARTS = ("prefill", "ar", "codec", "rest")
GOALS = {
    "load_s": ("load a converted model, s", 5.0),
    "memory_mb": ("resident while one sentence is spoken, MB", 1300.0),
    "first_s": ("first sound, cached voice, median, s", 0.5),
    "one": ("one stream, RTF", 1.0),
    "long": ("long text, sentences side by side, RTF", 0.5),
    "streams": ("throughput of eight streams over one", 4.0),
}
"""What is shown, and the bound: an upper one, but for `streams`."""
_DISTURBED = 0.1
"""Share of the CPUs that others may take before a figure is marked."""


def machine() -> dict[str, Any]:
    """Where this was measured."""
    found = detect()
    packages = {name: _version(name) for name in ("onnxruntime", "openvino", "numpy")}
    return {
        "cpu": found.cpu.model,
        "cpus": found.usable_cpus,
        "features": list(found.cpu.features),
        "memory_gb": found.usable_memory >> 30,
        "system": platform.platform(),
        "python": platform.python_version(),
        **packages,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def goals(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Goal, ceiling and measured value of whatever was measured."""
    top, reached = found["ceiling"], dict[str, tuple[float, float | None]]()
    if "one" in found:
        reached["load_s"] = found["load"]["load_s"], None
        reached["memory_mb"] = found["load"]["speaking_mb"]["rss"], None
        reached["first_s"] = found["first"]["median_s"], top["first_s"]
        reached["one"] = found["one"]["rtf"], top["one"]
        reached["streams"] = ratio(found["one"], found["streams"]), round(top["one"] / top["streams"], 2)
    if "long" in found:
        reached["long"] = min(row["rtf"] for row in found["long"]), top["streams"]
    return [
        {
            "name": name,
            "goal": goal,
            "ceiling": reached[name][1],
            "measured": reached[name][0],
            "met": bool(reached[name][0] >= goal if name == "streams" else reached[name][0] <= goal),
        }
        for name, (_, goal) in GOALS.items()
        if name in reached
    ]


def ratio(one: dict[str, Any], many: dict[str, Any]) -> float:
    """Audio a second with many streams over that with one."""
    return round(float(one["rtf"] / many["rtf"]), 2)


def show_ceiling(console: Console, top: dict[str, Any]) -> None:
    console.print(
        f"Ceiling with {top['threads']} threads: {top['gb_per_s']} GB/s → {top['frame_ms']} ms a frame, "
        f"{top['ar']:.3f} s a second of audio; {top['gflops']} GFLOP/s ({top['arithmetic']}) → "
        f"{top['codec']:.3f} s a second of audio.\n"
        f"  One stream: RTF {top['one']:.3f}. Eight: {top['streams']:.3f}, {top['one'] / top['streams']:.1f} times as "
        f"much. First sound: {top['first_s'] * 1e3:.0f} ms."
    )


def show_first(console: Console, found: dict[str, Any]) -> None:
    load, first, one, many = (found[name] for name in ("load", "first", "one", "streams"))
    console.print(f"Loaded in {load['load_s']:.1f} s ({load['load_peak_mb']} MB at most meanwhile)")
    for label, row, pss in (
        ("after loading", load["loaded_mb"], load["loaded_pss_mb"]),
        ("speaking", load["speaking_mb"], load["speaking_mb"]["pss_mb"]),
    ):
        kinds = ", ".join(f"{row[kind]} MB {kind}" for kind in ("anonymous", "file") if kind in row)
        console.print(f"  {label}: {row['rss']} MB resident ({kinds}); {pss or '?'} MB proportional")
    spent = ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in first["parts_s"].items())
    console.print(
        f"First sound: {first['median_s'] * 1e3:.0f} ms (median of {first['n']}, worst {first['worst_s'] * 1e3:.0f}), "
        f"{first['cold_s'] * 1e3:.0f} ms the first time a voice speaks. Of it, ms: {spent}"
    )
    show_rows(console, "One sentence, and eight at once", "streams", [{"streams": 1, **one}, many])
    bound = one["rtf"] / many["codec"]
    console.print(
        f"  Eight streams: {ratio(one, many):.2f} times the throughput of one. The codec takes "
        f"{many['codec'] / many['rtf']:.0%} of the time with eight; were all else free, it would be {bound:.1f} times."
    )


def show_rows(console: Console, title: str, label: str, rows: Sequence[dict[str, Any]]) -> None:
    """RTF and its parts, seconds of work a second of audio."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in (label, "RTF", *PARTS, "mean batch", "first s", "audio s", "peak MB", "others"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = [f"{row[name]:.3f}" for name in ("rtf", *PARTS)]
        others = f"{row['others']:.0%}{' !' if row['others'] > _DISTURBED else ''}"
        more = [
            f"{row['mean_batch']:.1f}",
            f"{row['first_s']:.2f}",
            f"{row['audio_s']:.1f}",
            f"{row['peak_mb']['rss']}",
        ]
        table.add_row(str(row[label]), *numbers, *more, others)
    console.print(table)


def show_goals(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title="Goals", title_justify="left", box=None, pad_edge=False)
    for name in ("", "ceiling", "goal", "measured", "reached"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        sign = "≥" if row["name"] == "streams" else "≤"
        ceiling = "" if row["ceiling"] is None else f"{row['ceiling']:g}"
        reached = "yes" if row["met"] else "no"
        table.add_row(GOALS[row["name"]][0], ceiling, f"{sign} {row['goal']:g}", f"{row['measured']:g}", reached)
    console.print(table)


def plot(found: dict[str, Any], folder: Path) -> list[Path]:
    """PNG files of what grew with what. `found`: results by part. Raises MissingDependency."""
    if util.find_spec("matplotlib") is None:
        raise MissingDependency("plots need matplotlib, which is not installed: pip install 'saywell[bench]'")
    folder.mkdir(parents=True, exist_ok=True)
    return list(import_module("saywell.bench.dual_ar_plots").draw(found, folder))
