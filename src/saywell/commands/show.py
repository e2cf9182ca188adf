"""Facts, plans and figures on a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from saywell.plan.memory import mb

if TYPE_CHECKING:
    from saywell.engine.performance import Performance
    from saywell.machine import Hardware
    from saywell.plan.plan import Plan
    from saywell.types import Summary

SOURCE_STYLE = {"setting": "magenta", "measurement": "green", "rule": "dim", "pressure": "yellow"}
QUIET = {
    "model",
    "compile",
    "options",
    "affinity",
    "kv_length",
    "max_frames",
    "hang_s",
    "stall_s",
    "buffer_s",
    "first_frames",
    "chunk_frames",
    "data_dir",
    "cache_entries",
    "cache_bytes",
    "thermal",
    "adapt",
    "check_memory",
    "idle_unload_s",
}
"""Fields of a plan that only the full table shows."""


class _Screen(Console):
    """Raises BrokenPipeError for a closed pipe, which the command line handles; rich would exit."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    return _Screen(stderr=stderr, highlight=False, soft_wrap=soft_wrap)


def as_json(value: Any, indent: int | None = 2) -> str:
    """JSON in ASCII, so that an output stream of any encoding takes it."""
    separators = (",", ":") if indent is None else None
    return json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=indent, separators=separators)


def table(*columns: str, gap: int = 2, header: bool = True) -> Table:
    """A borderless table: the first column bold, the last one wrapped, those between on one line."""
    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=header)
    for number, name in enumerate(columns):
        last = number == len(columns) - 1
        made.add_column(name, style="bold" if number == 0 else "", no_wrap=not last, overflow="fold")
    return made


def _panel(lines: list[tuple[str, str]], title: str, colour: str) -> Panel:
    grid = table("", "", header=False)
    for name, text in lines:
        grid.add_row(name, Text(text))
    return Panel(grid, title=title, title_align="left", border_style=colour)


def hardware_panel(hardware: Hardware) -> RenderableType:
    """The machine in a few lines."""
    return _panel(hardware_lines(hardware), "Hardware", "cyan")


def hardware_lines(hardware: Hardware) -> list[tuple[str, str]]:
    """Name and description of each fact."""
    cpu = hardware.cpu
    kinds = f" ({cpu.performance} performance, {cpu.efficiency} efficiency)" if cpu.efficiency else ""
    lines = [
        ("System", f"{hardware.os} {hardware.arch}, Python {hardware.python}"),
        ("Processor", f"{cpu.model} [{hardware.cpu_tier}]"),
        ("Cores", f"{cpu.physical} physical{kinds}, {cpu.logical} logical, {hardware.usable_cpus} usable"),
        ("Instructions", ", ".join(cpu.features) or "none that matter here"),
        (
            "Caches",
            ", ".join(f"{item.count} × {cache_size(item.size)} {item.name}" for item in cpu.caches) or "unknown",
        ),
        ("Memory", mb(hardware.memory)),
    ]
    if hardware.product:
        lines.insert(0, ("Machine", hardware.product))
    if hardware.contained:
        lines.append(("Container", _container(hardware)))
    lines.append(("GPU", _gpus(hardware)))
    runtimes = [f"{name} {item.version} ({', '.join(item.devices)})" for name, item in hardware.runtimes.items()]
    lines.append(("Runtimes", ", ".join(runtimes) or "none"))
    lines.append(("Sensors", ", ".join(hardware.thermal) or "no temperature sensor"))
    return lines


def cache_size(size: int) -> str:
    """For example 48 KB or 2 MB."""
    return f"{size >> 10} KB" if size < 1 << 20 else f"{size / (1 << 20):g} MB"


def plan_panel(plan: Plan, *, full: bool) -> RenderableType:
    """The decision as a table with reasons."""
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=full)
    rows.add_column("Field", style="bold", no_wrap=True)
    rows.add_column("Value", style="cyan", overflow="fold", max_width=20)
    rows.add_column("Why")
    for reason in plan.reasons:
        if full or reason.field not in QUIET:
            why = Text(reason.why)
            if reason.source != "rule":
                why.append(f"  [{reason.source}]", style=SOURCE_STYLE[reason.source])
            rows.add_row(reason.field, Text(reason.value), why)
    return Panel(rows, title=f"Plan for {plan.model}", title_align="left", border_style="cyan")


def result_panel(summary: Summary, report: Performance, where: str, voice: str) -> RenderableType:
    """The result of `saywell say`: speed, length and memory."""
    speed = f"{1 / summary.rtf:.0f} times faster than speech" if 0 < summary.rtf < 1 else "slower than speech"
    lines = [
        ("First audio", f"{1000 * summary.first_audio_s:.0f} ms after the request (TTFA)"),
        ("RTF", f"{summary.rtf:.3f} seconds of work per second of audio: {speed}"),
        ("Audio", f"{summary.audio_s:.2f} s spoken by {voice} in {summary.total_s:.2f} s"),
        ("Memory", f"{mb(report.memory_bytes)}, {report.memory_delta_bytes / 1e6:+.1f} MB while speaking"),
        ("GPU", "none in use" if report.gpu_util is None else f"{report.gpu_util:.0f} % of its time"),
        ("File", where),
    ]
    return _panel(lines, "Result", "green")


def _container(hardware: Hardware) -> str:
    parts = []
    if hardware.usable_memory < hardware.memory:
        parts.append(f"{mb(hardware.usable_memory)} of memory")
    if hardware.limits.quota is not None:
        parts.append(f"{hardware.limits.quota:g} CPUs of time")
    return f"limited to {' and '.join(parts)} (control groups {hardware.limits.cgroup})"


def _gpus(hardware: Hardware) -> str:
    names = [
        f"{gpu.name}, {mb(gpu.memory)}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, driver {gpu.driver}"
        for gpu in hardware.gpus
    ]
    if hardware.mps:
        names.append("Apple GPU (Metal)")
    return "; ".join(names) or f"none: {hardware.gpu_note or 'not looked for'}"
