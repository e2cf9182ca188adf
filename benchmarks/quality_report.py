"""Output of the quality benchmark: a line per row, tables, and plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from saywell.bench import report
from saywell.bench.plot import Panel, Series

PACKAGES = ("saywell", "numpy", "onnxruntime", "faster-whisper", "ctranslate2", "speechmos")
_SHOWN_NUMBERS = 3


def show_line(console: Console, row: dict[str, Any]) -> None:
    """One row, as soon as it has been measured."""
    failed = f", {len(row['failed'])} sentences failed: {row['failed'][0]}" if row["failed"] else ""
    console.print(f"{label(row)}: WER {row['wer']:.1%}, P.808 {row['p808']:.2f}{failed}", highlight=False)


def show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """The figures, the differences on the same sentences, and the result of the long text."""
    spoken = f"{rows[0]['sentences']} sentences, {rows[0]['words']} words" if rows else "nothing measured"
    report.show(console, [_figures(row) for row in rows], f"{spoken}; * default precision")
    if differences := _differences(rows):
        report.show(console, differences, "Differences on the same sentences, with 95 % intervals")
    for row in rows:
        if row["long"]:
            console.print(_long(row), highlight=False)


def label(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['voice']} {row['precision']}"


def panels(rows: Sequence[dict[str, Any]]) -> list[Panel]:
    """Plots of word errors, sound and speed with intervals, for our voices and other engines."""
    shown = (("wer", "Word error rate, % (lower is better)", 100.0), ("p808", "Sound, DNSMOS P.808, 1 to 5", 1.0),
             ("rtf", "Real-time factor (lower is better)", 1.0))  # fmt: skip
    ours = [row for row in rows if "saywell" in row["packages"]]
    groups = {"ours": ours, "others": [row for row in rows if row not in ours]}
    present = {group: members for group, members in groups.items() if members}
    return [
        Panel(title=title, log=name == "rtf", series=[_series(*each, name, unit) for each in present.items()])
        for name, title, unit in shown
    ]


def _series(group: str, rows: Sequence[dict[str, Any]], name: str, unit: float) -> Series:
    known = [row for row in rows if row[name] is not None]
    bounds = [(unit * row[f"{name}_interval"][0], unit * row[f"{name}_interval"][1]) for row in known]
    return Series(name=group, x=[label(row) for row in known], y=[unit * row[name] for row in known], mark="dots",
                  interval=bounds)  # fmt: skip


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    equal = {
        name: None if row[name] is None else "same" if row[name] else "DIFFERENT" for name in ("streamed", "batched")
    }
    return {
        "model": row["model"],
        "voice": row["voice"],
        "precision": row["precision"] + (" *" if row["default"] else ""),
        "WER %": 100 * row["wer"],
        "WER 95 %": _interval(row["wer_interval"], "{:.1f}", 100),
        "CER %": 100 * row["cer"],
        "P.808": row["p808"],
        "P.808 95 %": _interval(row["p808_interval"], "{:.2f}"),
        **{scale: row[scale] for scale in ("ovrl", "sig", "bak")},
        "RTF": row["rtf"],
        "audible ms": row["first_audible_ms"],
        "MB": row["memory_mb"],
        "speaker": row["speaker"],
        **equal,
        "gates": _gates(row),
    }


def _interval(bounds: Sequence[float], form: str, unit: float = 1.0) -> str:
    return " to ".join(form.format(unit * bound) for bound in bounds)


def _gates(row: dict[str, Any]) -> str:
    if not row["gates"]:
        return ""
    return "passed" if all(row["against"][name]["verdict"]["passed"] for name in row["gates"]) else "FAILED"


def _differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "": label(row),
            "minus": name,
            "WER, points": f"{100 * compared['verdict']['added']:+.1f} "
            f"({_interval(compared['verdict']['interval'], '{:+.1f}', 100)})",
            **{scale: f"{compared[scale]:+.2f} ({_interval(compared[f'{scale}_interval'], '{:+.2f}')})"
               for scale in ("p808", "ovrl")},
            "gate": _gate(compared["verdict"]) if name in row["gates"] else "",
        }
        for row in rows
        for name, compared in row["against"].items()
    ]  # fmt: skip


def _gate(verdict: dict[str, Any]) -> str:
    return ("passed" if verdict["passed"] else "FAILED") + ("" if verdict["certain"] else ", uncertain")


def _long(row: dict[str, Any]) -> str:
    result = row["long"]
    lost = ", ".join(
        f"{len(result[kind])} {kind}{_which(result[kind])}" for kind in ("skipped", "repeated") if result[kind]
    )
    minutes = result["seconds"] / 60
    even = f"{result['chunks']} chunks, spread {result['loudness_db']} dB and {result['rate_percent']} % of the rate"
    words = f"{result['matched']:.1%} of the words"
    return f"{label(row)}: {minutes:.1f} minutes, {words}; {lost or 'no sentence lost'}; {even}"


def _which(indices: Sequence[int]) -> str:
    numbers = ", ".join(str(index + 1) for index in indices[:_SHOWN_NUMBERS])
    return f" (number {numbers}{', …' if len(indices) > _SHOWN_NUMBERS else ''})"
