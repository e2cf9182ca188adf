"""`saywell doctor`: what is here, what is missing, and for each of it what to type next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from saywell import __version__
from saywell.commands import play, show
from saywell.engine.launch import decide
from saywell.errors import PlanError, SaywellError
from saywell.machine import Hardware, detect
from saywell.machine.monitor import Resources, resources
from saywell.models.base import DEFAULT_MODEL, built_in, describe, missing
from saywell.plan.memory import estimate, mb
from saywell.runtimes import runtimes
from saywell.server.service import DEFAULT_HOST, DEFAULT_PORT, listen
from saywell.settings import Settings, default_data_dir, default_file

GIB = 1 << 30
MARK = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "problem": ("✗", "red")}
HELLO = 'saywell say "Hello there."'
ROOM = 8 * GIB
"""Disk space that pulling and converting S1-mini takes."""
BUSY = 25.0
"""Percent of the CPUs that other programs may take before measurements mean little."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `missing` is optional, `problem` keeps something from working."""

    state: Literal["ok", "missing", "problem"]
    name: str
    found: str
    advice: str = ""
    """What would help, in words."""
    command: str = ""
    """What to type for it; empty where no command does it."""


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the report. Exit code 0: it can speak."""
    hardware, now = detect(), resources()
    findings = [
        *_speech(),
        *_damaged(hardware),
        *_decision(settings, hardware, now),
        *_machine(hardware, now),
        *_packages(hardware),
        *_places(settings),
    ]
    following = _next(findings)
    if as_json:
        report = {"version": __version__, "hardware": hardware, "findings": findings, "next": following}
        print(show.as_json(report))  # noqa: T201
    else:
        console = show.console()
        console.print(show.hardware_panel(hardware))
        console.print(_table(findings))
        console.print(Text.assemble("Next: ", (following, "bold cyan")))
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def _next(findings: list[Finding]) -> str:
    """The one thing to type now: what solves a problem, else what measures this machine, else a first sentence."""
    for finding in findings:
        if finding.state == "problem":
            return finding.command or finding.advice
    untuned = [finding.command for finding in findings if finding.name == "Measured" and finding.state != "ok"]
    return untuned[0] if untuned else HELLO


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = MARK[finding.state]
        about = Text(finding.found)
        help_ = ": ".join(part for part in (finding.advice, finding.command) if part)
        if help_:
            about.append(f"\n→ {help_}", style="cyan")
        table.add_row(Text(mark, style=colour), finding.name, about)
    return table


def _speech() -> Iterator[Finding]:
    for name, family in built_in().items():
        lacking, about = missing(family), describe(name)
        if not lacking:
            yield Finding("ok", about.title, about.found, "to hear it", about.example)
        else:
            state: Literal["problem", "missing"] = "problem" if name == DEFAULT_MODEL else "missing"
            yield Finding(state, about.title, lacking, about.purpose, about.install)


def _damaged(hardware: Hardware) -> Iterator[Finding]:
    for package, why in hardware.damaged.items():
        command = f"{sys.executable} -m pip install --force-reinstall {package}"
        yield Finding("problem", package, f"damaged: {why}", "pip must write it anew", command)


def _decision(settings: Settings, hardware: Hardware, now: Resources) -> Iterator[Finding]:
    """What would be loaded, whether it fits, and whether it rests on measurements."""
    try:
        decision = decide(settings, hardware)
    except SaywellError as error:
        yield Finding("problem", "Plan", error.message, "see what can be chosen here", "saywell plan")
        return
    plan, spec = decision.plan, decision.spec
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    how = f"{spec.name}: {plan.device}, {plan.executor}, {plan.precision}, {threads}"
    yield Finding("ok", "Plan", how, "with every reason", f"saywell plan{_model(settings)}")
    whole = estimate(plan, spec, plan.first_chunk_chars).total
    said = f"{mb(now.memory_available)} free of {mb(now.memory_limit)}"
    said += " (the container's limit)" if hardware.usable_memory < hardware.memory else ""
    if whole > now.memory_available:
        advice = f"{spec.name} takes {mb(whole)}; close other programs, raise the container's limit or take less"
        smaller = f"saywell say --model {DEFAULT_MODEL} …" if spec.name != DEFAULT_MODEL else ""
        yield Finding("problem", "Memory", said, advice, smaller)
    else:
        yield Finding("ok", "Memory", f"{said}; {spec.name} takes {mb(whole)}")
    if decision.record is None:
        advice = "plans rest on rules until the choices are timed here, which takes a minute"
        yield Finding("missing", "Measured", "not yet", advice, f"saywell tune{_model(settings)}")
    else:
        kept = decision.record
        yield Finding("ok", "Measured", f"{len(kept.trials)} plans on {kept.when[:10]}, for {kept.goal}")


def _model(settings: Settings) -> str:
    chosen = settings.model_path or settings.model
    return f" --model {shlex.quote(str(chosen))}" if chosen else ""


def _machine(hardware: Hardware, now: Resources) -> Iterator[Finding]:
    if hardware.limits.quota is not None and hardware.limits.quota < 2:
        few = f"{hardware.limits.quota:g} CPUs"
        yield Finding("missing", "CPU time", few, "give the container two CPUs", "docker run --cpus 2 …")
    others = now.cpu_percent - now.cpu_own_percent
    if others > BUSY:
        yield Finding("missing", "Load", f"other programs take {others:.0f} % of the CPUs", "measure when it is quiet")
    yield _gpu(hardware)
    heat = ", ".join(f"{name} {value:.0f} °C" for name, value in now.temperatures.items())
    if heat:
        yield Finding("ok", "Temperature", heat)
    else:
        yield Finding("missing", "Temperature", now.temperature_note, "not needed; nothing can be said about heat")


def _gpu(hardware: Hardware) -> Finding:
    if not hardware.gpus:
        note = "Metal, which no model here uses yet" if hardware.mps else hardware.gpu_note or "none"
        return Finding("missing", "GPU", note, "not needed: the voices here use the CPU")
    names = ", ".join(gpu.name for gpu in hardware.gpus)
    if not any("cuda" in runtime.devices for runtime in hardware.runtimes.values()):
        package = next(runtime.package for runtime in runtimes() if "cuda" in runtime.devices)
        return Finding("missing", "GPU", names, "for models that use it", f"pip install 'saywell[{package}]'")
    return Finding("ok", "GPU", names)


def _packages(hardware: Hardware) -> Iterator[Finding]:
    player = play.find()
    if player:
        yield Finding("ok", "Player", player, "to hear it at once", HELLO)
    else:
        yield Finding("missing", "Player", "none", "to hear it at once", "pip install 'saywell[play]'")
    yield _package("AAC", "av", "for .aac files", "pip install 'saywell[aac]'")
    for runtime in runtimes():
        if runtime.package not in hardware.damaged and runtime.useful(hardware.traits):
            installed = hardware.runtimes.get(runtime.package)
            version = f"{installed.version} for {', '.join(installed.devices)}" if installed else ""
            yield _package(runtime.title, runtime.package, runtime.purpose, runtime.install, version)


def _package(name: str, package: str, purpose: str, install: str, version: str = "") -> Finding:
    if version or util.find_spec(package) is not None:
        return Finding("ok", name, version or "installed")
    return Finding("missing", name, "no", purpose, install)


def _places(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "Python", f"{sys.version.split()[0]} in {sys.prefix}")
    file = default_file()
    yield Finding("ok", "Settings", f"{file} ({_seen(file)})")
    overrides = {name: settings.origin(name) for name in settings.overrides()}
    if overrides:
        yield Finding("ok", "Settings", ", ".join(f"{name} by {origin}" for name, origin in overrides.items()))
    place = settings.data_dir or default_data_dir()
    nearest = next(path for path in (place, *place.parents) if os.path.lexists(path))
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        yield _disk(place, nearest)
    else:
        advice = "it speaks without; to keep measurements and voices name another place"
        yield Finding("missing", "Cache", f"{place} cannot be written", advice, "export SAYWELL_DATA_DIR=…")
    yield _door(settings)


def _seen(file: Path) -> str:
    try:
        return "read" if file.is_file() else "not there, not needed"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _disk(place: Path, nearest: Path) -> Finding:
    free = shutil.disk_usage(nearest).free
    if free < ROOM:
        advice = f"pulling and converting S1-mini takes {mb(ROOM)}; name a place that has it"
        return Finding("missing", "Cache", f"{place}, {mb(free)} free", advice, "export SAYWELL_DATA_DIR=…")
    return Finding("ok", "Cache", f"{place}, {mb(free)} free")


def _door(settings: Settings) -> Finding:
    """Whether the server could listen now."""
    host, port = settings.host or DEFAULT_HOST, DEFAULT_PORT if settings.port is None else settings.port
    try:
        listen(host, port).close()
    except PlanError as error:
        another = port + 1 if port < 65_535 else DEFAULT_PORT
        return Finding("missing", "Server", error.message, "take another port", f"saywell serve --port {another}")
    return Finding("ok", "Server", f"{host}:{port} is free", "to serve it", "saywell serve")
