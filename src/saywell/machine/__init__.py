"""Hardware detection. `detect()` returns frozen facts; the limits of a container count, not the host's size."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

from saywell.machine.facts import CPU, GIB, Cache, Cpu, Device, Gpu, Hardware, Limits, Runtime

__all__ = ["CPU", "GIB", "Cache", "Cpu", "Device", "Gpu", "Hardware", "Limits", "Runtime", "detect"]

ARCHES = {"AMD64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "ARM64": "arm64", "arm64": "arm64"}


def detect(root: Path = Path("/")) -> Hardware:
    """Facts of this machine, or of a recorded Linux file tree below another root (without GPUs and sensors).

    Raises Unavailable on Linux without /proc.
    """
    from saywell.machine import devices

    live = root == Path("/")
    system = platform.system() if live else "Linux"
    hardware = _macos() if system == "Darwin" else _windows() if system == "Windows" else _linux(root, live)
    gpus, gpu_note = devices.read_gpus() if live else ((), "")
    runtimes, damaged = devices.read_runtimes()
    return replace(hardware, gpus=gpus, gpu_note=gpu_note, runtimes=runtimes, damaged=damaged)


def _linux(root: Path, live: bool) -> Hardware:
    from saywell.machine import linux, monitor
    from saywell.machine.sensors.linux import temperatures

    memory, _ = monitor.machine_memory(root)
    limits = linux.read_limits(root, memory)
    return Hardware(
        os="linux" if not live or sys.platform.startswith("linux") else "other",
        arch=_arch() if live else _recorded_arch(root),
        python=platform.python_version(),
        product=linux.read_product(root),
        cpu=linux.read_cpu(root, limits.cpus),
        memory=memory,
        limits=limits,
        thermal=tuple(sorted({chip for chip, _, _ in temperatures()})) if live else (),
    )


def _macos() -> Hardware:
    from saywell.machine import macos, monitor

    facts = macos.sysctl()
    return Hardware(
        os="darwin",
        arch=_arch(),
        python=platform.python_version(),
        product=macos.read_product(facts),
        cpu=macos.read_cpu(facts),
        memory=monitor.machine_memory()[0],
        mps=_arch() == "arm64",
    )


def _windows() -> Hardware:
    from saywell.machine import monitor, windows

    return Hardware(
        os="windows",
        arch=_arch(),
        python=platform.python_version(),
        product=windows.read_product(),
        cpu=windows.read_cpu(),
        memory=monitor.machine_memory()[0],
        limits=Limits(cpus=tuple(sorted(monitor.affinity()))),
    )


def _arch() -> str:
    return ARCHES.get(platform.machine(), platform.machine())


def _recorded_arch(root: Path) -> Literal["x86_64", "arm64"]:
    """The architecture of a recorded tree, by the fields in its /proc/cpuinfo."""
    cpuinfo = root / "proc/cpuinfo"
    return "arm64" if cpuinfo.exists() and "CPU implementer" in cpuinfo.read_text(encoding="utf-8") else "x86_64"
