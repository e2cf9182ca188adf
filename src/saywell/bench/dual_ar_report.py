"""How the DualAR benchmark is shown: ceilings, tables, goals, plots; and how pieces of a run become one."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from saywell.bench.dual_ar_ceiling import Rates
from saywell.bench.dual_ar_codec import CHUNKS
from saywell.bench.dual_ar_goals import ratio
from saywell.errors import InvalidRequest
from saywell.machine import detect

PARTS = ("prefill", "ar", "codec", "rest")
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


def join(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pieces of one run, on one machine, as one; later ones win, but for the ceilings: those are of the piece that
    found the most. Raises InvalidRequest."""
    if any(piece["machine"] != pieces[0]["machine"] for piece in pieces):
        raise InvalidRequest("these pieces were not measured on the same machine", param="join")
    rows: dict[str, dict[str, Any]] = {}
    by_rate = sorted(pieces, key=lambda piece: float(piece["rates"]["gb_per_s"]))
    for row in (row for piece in pieces for row in piece["precisions"]):
        rows.setdefault(row["precision"], {}).update(row)
    for row in (row for piece in by_rate for row in piece["precisions"]):
        rows[row["precision"]]["ceiling"] = row["ceiling"]
    whole = {name: part for piece in pieces for name, part in piece.items()}
    return {**whole, "rates": by_rate[-1]["rates"], "precisions": list(rows.values())}


def show_rates(console: Console, found: Rates) -> None:
    each = ", ".join(f"{rate:.0f} GFLOP/s {kind}" for kind, rate in found.gflops.items())
    console.print(f"Ceilings with {found.threads} threads: {found.gb_per_s:.1f} GB/s read, {each}")


def show_ceiling(console: Console, precision: str, top: dict[str, Any]) -> None:
    console.print(
        f"  {precision}: {top['weights_mb']} MB of weights → {top['slow_ms']:.1f} ms a slow step, {top['fast_ms']:.1f} "
        f"ms for the fast ones, {top['ar']:.3f} s a second of audio; codec {top['gflop_per_audio_s']:.0f} GFLOP "
        f"({top['convolutions']}) → {top['codec']:.3f}\n"
        f"    one stream: RTF {top['one']:.3f}; eight: {top['streams']:.3f}, {top['one'] / top['streams']:.1f} times "
        f"as much; first sound: {top['first_s'] * 1e3:.0f} ms"
    )


def show_transformers(console: Console, row: dict[str, Any]) -> None:
    share = row["roofline"]
    console.print(
        f"Transformers: {share['slow_ms']:.0%} of the roofline in the slow one, {share['fast_ms']:.0%} in the fast "
        f"one; loaded in {row['load_s']:.1f} s, {row['resident_mb']} MB resident"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("batch", "context", "slow ms", "fast ms", "frame ms", "frames/s"):
        table.add_column(name, justify="right")
    for each in (*row["batch"], *row["context"]):
        numbers = (f"{each[name]:.1f}" for name in ("slow_ms", "fast_ms", "frame_ms"))
        rate = f"{each['batch'] * 1e3 / each['frame_ms']:.0f}"
        table.add_row(str(each["batch"]), str(each["context"]), *numbers, rate)
    console.print(table)
    console.print("  prompt: " + ", ".join(f"{size} → {value:.0f} ms" for size, value in row["prompt_ms"].items()))


def show_codec(console: Console, found: Sequence[dict[str, Any]]) -> None:
    table = Table(title="Decoder, seconds of work per second of audio", title_justify="left", box=None, pad_edge=False)
    for name in ("variant", "ceiling", "whole", *map(str, CHUNKS), "16/whole", "first 4", "MB", "load", "SNR"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for row in found:
        took = row["s_per_audio_s"]
        table.add_row(
            f"{row['convolutions']} {row['executor']}",
            f"{row['ceiling_s']:.3f}",
            *(f"{each:.3f}" for each in took.values()),
            f"{took['16'] / took['whole']:.2f}",
            f"{row['first_ms']:.0f} ms",
            str(row["resident_mb"]),
            f"{row['load_s']:.1f} s",
            f"{row['snr_db']} dB",
        )
    console.print(table)


def show_encoder(console: Console, row: dict[str, Any]) -> None:
    console.print(f"Encoder: {row['s_per_audio_s']:.2f} s per second of audio, {row['resident_mb']} MB")


def show_speech(console: Console, found: dict[str, Any]) -> None:
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


def show_distance(console: Console, precision: str, row: dict[str, Any]) -> None:
    console.print(
        f"{precision}, from fp32 over {row['prompts']} prompts: logits {row['logits']:.3f} (RMS of the difference over "
        f"their spread), same token {row['same_token']:.0%}, among the best five {row['token_in_best_5']:.0%}, same "
        f"first residual code {row['same_first_residual']:.0%}"
    )


def show_goals(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row["measured"]))
    table = Table(title="Goals", title_justify="left", box=None, pad_edge=False)
    for name in ("", "goal", *(f"{each}{kind}" for each in names for kind in (" ceiling", "")), "met"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        sign, bounds = "≥" if row["at_least"] else "≤", list(dict.fromkeys(row["goal"].values()))
        cells = [_number(row[kind].get(name)) for name in names for kind in ("ceiling", "measured")]
        goal = f"{sign} {' / '.join(f'{each:g}' for each in bounds)}"
        table.add_row(row["label"], goal, *cells, "met" if row["met"] else "missed")
    console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def plot(found: dict[str, Any], folder: Path) -> list[Path]:
    """PNG files of what grew with what."""
    return list(import_module("saywell.bench.dual_ar_plots").draw(found, folder))
