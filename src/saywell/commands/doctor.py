"""`saywell doctor`: what is here, what is missing, what would help."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from typing import Literal

from rich.table import Table
from rich.text import Text

from saywell import __version__
from saywell.commands import play, show
from saywell.hardware import Hardware, detect
from saywell.memory import mb
from saywell.monitor import resources
from saywell.settings import Settings, default_data_dir, default_file

GIB = 1 << 30
MARK = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "problem": ("✗", "red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `missing` is optional, `problem` keeps something from working."""

    state: Literal["ok", "missing", "problem"]
    name: str
    found: str
    advice: str = ""


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the report. Exit code 0: it can speak."""
    hardware = detect()
    findings = [*_speech(), *_machine(hardware), *_packages(hardware), *_places(settings)]
    if as_json:
        report = {"version": __version__, "hardware": hardware, "findings": findings}
        print(show.as_json(report))  # noqa: T201
    else:
        console = show.console()
        console.print(show.hardware_panel(hardware))
        console.print(_table(findings))
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = MARK[finding.state]
        about = Text(finding.found)
        if finding.advice:
            about.append(f"\n→ {finding.advice}", style="cyan")
        table.add_row(Text(mark, style=colour), finding.name, about)
    return table


def _speech() -> Iterator[Finding]:
    from saywell.models import wren
    from saywell.models.builtin import flite

    if wren.spec("wren", None).weight_bytes["fp32"]:
        yield Finding("ok", "wren", f"the voices of this package: {', '.join(wren.VOICES)}")
    else:
        yield Finding("problem", "wren", "its weights are missing", "install the package again")
    voices = flite.installed()
    if voices:
        yield Finding("ok", "Flite", f"voices {', '.join(voices)} of the model builtin")
    else:
        yield Finding("missing", "Flite", "not installed, not needed", "for --model builtin: apt install flite")
    if util.find_spec("espeakng_loader") is not None:
        yield Finding("ok", "eSpeak NG", "about a hundred languages")
    else:
        advice = "other languages than English: pip install 'saywell[espeak]' (GPL)"
        yield Finding("missing", "eSpeak NG", "not installed", advice)


def _machine(hardware: Hardware) -> Iterator[Finding]:
    now = resources()
    low = now.memory_available < GIB
    said = f"{mb(now.memory_available)} free of {mb(now.memory_limit)}"
    said += " (the container's limit)" if hardware.usable_memory < hardware.memory else ""
    yield Finding("missing" if low else "ok", "Memory", said, "close other programs" if low else "")
    if hardware.limits.quota is not None and hardware.limits.quota < 2:
        yield Finding("missing", "CPU time", f"{hardware.limits.quota:g} CPUs", "give the container two CPUs: --cpus 2")
    if hardware.gpus:
        yield Finding("ok", "GPU", ", ".join(gpu.name for gpu in hardware.gpus))
    elif hardware.os != "darwin":
        yield Finding("missing", "GPU", hardware.gpu_note or "none", "not needed: the built-in voices use the CPU")
    heat = ", ".join(f"{name} {value:.0f} °C" for name, value in now.temperatures.items())
    yield Finding("ok" if heat else "missing", "Temperature", heat or now.temperature_note)


def _packages(hardware: Hardware) -> Iterator[Finding]:
    player = play.find()
    if player:
        yield Finding("ok", "Player", player)
    else:
        yield Finding("missing", "Player", "none", "to hear it at once: pip install 'saywell[play]'")
    for name, package, advice in (
        ("AAC", "av", "for .aac files: pip install 'saywell[aac]'"),
        ("ONNX Runtime", "onnxruntime", "pip install onnxruntime"),
        ("PyTorch", "torch", "only for models on a GPU: pip install 'saywell[torch]'"),
    ):
        runtime = hardware.runtimes.get(package)
        there = util.find_spec(package) is not None
        found = f"{runtime.version} for {', '.join(runtime.devices)}" if runtime else ("installed" if there else "no")
        yield Finding("ok" if there else "missing", name, found, "" if there else advice)


def _places(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "Python", f"{sys.version.split()[0]} in {sys.prefix}")
    file = default_file()
    yield Finding("ok", "Settings", f"{file} ({'read' if file.is_file() else 'not there, not needed'})")
    wishes = {name: settings.origin(name) for name in settings.wishes()}
    if wishes:
        yield Finding("ok", "Wishes", ", ".join(f"{name} by {origin}" for name, origin in wishes.items()))
    place = settings.data_dir or default_data_dir()
    nearest = next(path for path in (place, *place.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        yield Finding("ok", "Cache", str(place))
    else:
        yield Finding("problem", "Cache", f"{place} cannot be written", "set SAYWELL_DATA_DIR to a place that can")
