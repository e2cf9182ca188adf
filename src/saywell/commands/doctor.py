"""`saywell doctor`: what is installed, what is missing, and the command to run for it."""

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

MARK = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "problem": ("✗", "red")}
HELLO = 'saywell say "Hello there."'
CONVERSION_BYTES = 8 << 30
"""Disk space for downloading and converting S1-mini."""
BUSY_PERCENT = 25.0
"""CPU use by other programs from which measurements are unreliable."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `missing`: optional; `problem`: the program cannot speak."""

    state: Literal["ok", "missing", "problem"]
    name: str
    found: str
    advice: str = ""
    command: str = ""
    """The command that follows the advice; empty if there is none."""


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the report. Exit code 0 if the program can speak, else 1."""
    hardware, now = detect(), resources()
    findings = list(report(settings, hardware, now))
    following = next_command(findings)
    if as_json:
        document = {"version": __version__, "hardware": hardware, "findings": findings, "next": following}
        print(show.as_json(document))  # noqa: T201
    else:
        console = show.console()
        console.print(show.hardware_panel(hardware))
        _print(findings)
        console.print(Text.assemble("Next: ", (following, "bold cyan")))
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def report(settings: Settings, hardware: Hardware, now: Resources) -> Iterator[Finding]:
    """All findings, in the order they are printed."""
    yield from _speech()
    yield from _damaged(hardware)
    yield from _plan(settings, hardware, now)
    yield from _machine(hardware, now)
    yield from _packages(hardware)
    yield from _environment(settings)


def next_command(findings: list[Finding]) -> str:
    """The command to run next: for the first problem, else to measure this machine, else to speak a sentence."""
    for finding in findings:
        if finding.state == "problem":
            return finding.command or finding.advice
    unmeasured = [finding.command for finding in findings if finding.name == "Measured" and finding.state != "ok"]
    return unmeasured[0] if unmeasured else HELLO


def _print(findings: list[Finding]) -> None:
    table = show.table("", "", "", gap=1, header=False)
    for finding in findings:
        mark, colour = MARK[finding.state]
        description = Text(finding.found)
        way_out = ": ".join(part for part in (finding.advice, finding.command) if part)
        if way_out:
            description.append(f"\n→ {way_out}", style="cyan")
        table.add_row(Text(mark, style=colour), Text(finding.name, style="bold"), description)
    show.console().print(table)


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
        yield Finding("problem", package, f"damaged: {why}", "reinstall it", command)


def _plan(settings: Settings, hardware: Hardware, now: Resources) -> Iterator[Finding]:
    """The plan, whether it fits into memory, and whether it rests on measurements."""
    try:
        decision = decide(settings, hardware)
    except SaywellError as error:
        yield Finding("problem", "Plan", error.message, "see what can be chosen here", "saywell plan")
        return
    plan, spec = decision.plan, decision.spec
    chosen = settings.model_path or settings.model
    option = f" --model {shlex.quote(str(chosen))}" if chosen else ""
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    summary = f"{spec.name}: {plan.device}, {plan.executor}, {plan.precision}, {threads}"
    yield Finding("ok", "Plan", summary, "with every reason", f"saywell plan{option}")
    needed = estimate(plan, spec, plan.first_chunk_chars).total
    free = f"{mb(now.memory_available)} free of {mb(now.memory_limit)}"
    free += " (the container's limit)" if hardware.usable_memory < hardware.memory else ""
    if needed > now.memory_available:
        advice = f"{spec.name} needs {mb(needed)}; close other programs, raise the container's limit or use less"
        smaller = f"saywell say --model {DEFAULT_MODEL} …" if spec.name != DEFAULT_MODEL else ""
        yield Finding("problem", "Memory", free, advice, smaller)
    else:
        yield Finding("ok", "Memory", f"{free}; {spec.name} needs {mb(needed)}")
    if decision.record is None:
        advice = "plans use rules until the choices have been timed on this machine, which takes a minute"
        yield Finding("missing", "Measured", "not yet", advice, f"saywell tune{option}")
    else:
        record = decision.record
        yield Finding("ok", "Measured", f"{len(record.trials)} plans on {record.when[:10]}, for {record.goal}")


def _machine(hardware: Hardware, now: Resources) -> Iterator[Finding]:
    if hardware.limits.quota is not None and hardware.limits.quota < 2:
        quota = f"{hardware.limits.quota:g} CPUs"
        yield Finding("missing", "CPU time", quota, "give the container two CPUs", "docker run --cpus 2 …")
    others = now.cpu_percent - now.cpu_own_percent
    if others > BUSY_PERCENT:
        yield Finding("missing", "Load", f"other programs use {others:.0f} % of the CPUs", "measure when it is quiet")
    yield _gpu(hardware)
    temperatures = ", ".join(f"{name} {value:.0f} °C" for name, value in now.temperatures.items())
    if temperatures:
        yield Finding("ok", "Temperature", temperatures)
    else:
        yield Finding("missing", "Temperature", now.temperature_note, "optional; heat is not taken into account")


def _gpu(hardware: Hardware) -> Finding:
    if not hardware.gpus:
        note = "Metal, which no model here uses yet" if hardware.mps else hardware.gpu_note or "none"
        return Finding("missing", "GPU", note, "optional: every model runs on the CPU")
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


def _environment(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "Python", f"{sys.version.split()[0]} in {sys.prefix}")
    file = default_file()
    yield Finding("ok", "Settings", f"{file} ({_state(file)})")
    origins = [f"{name} by {settings.origin(name)}" for name in settings.overrides()]
    if origins:
        yield Finding("ok", "Settings", ", ".join(origins))
    yield _data_dir(settings.data_dir or default_data_dir())
    yield _server(settings)


def _state(file: Path) -> str:
    try:
        return "read" if file.is_file() else "does not exist, optional"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _data_dir(path: Path) -> Finding:
    existing = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        advice = "speech works without it; to keep measurements and voices, choose another directory"
        return Finding("missing", "Cache", f"{path} cannot be written", advice, "export SAYWELL_DATA_DIR=…")
    free = shutil.disk_usage(existing).free
    if free < CONVERSION_BYTES:
        advice = f"downloading and converting S1-mini takes {mb(CONVERSION_BYTES)}; choose a directory on a larger disk"
        return Finding("missing", "Cache", f"{path}, {mb(free)} free", advice, "export SAYWELL_DATA_DIR=…")
    return Finding("ok", "Cache", f"{path}, {mb(free)} free")


def _server(settings: Settings) -> Finding:
    """Whether the server could listen now."""
    host, port = settings.host or DEFAULT_HOST, DEFAULT_PORT if settings.port is None else settings.port
    try:
        listen(host, port).close()
    except PlanError as error:
        other = port + 1 if port < 65_535 else DEFAULT_PORT
        return Finding("missing", "Server", error.message, "use another port", f"saywell serve --port {other}")
    return Finding("ok", "Server", f"{host}:{port} is free", "to serve speech", "saywell serve")
