"""What this machine is. `detect()` looks once and returns frozen facts; limits of a container count, not the host's."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any, Literal

from saywell.errors import Unavailable
from saywell.machine.facts import CPU, GIB, Cache, Cpu, Device, Gpu, Hardware, Limits, Runtime

__all__ = ["CPU", "GIB", "Cache", "Cpu", "Device", "Gpu", "Hardware", "Limits", "Runtime", "detect"]

ARCHES = {"AMD64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "ARM64": "arm64", "arm64": "arm64"}


def detect(root: Path = Path("/")) -> Hardware:
    """Look at this machine, or at a recorded Linux tree of files below another root (which shows no GPU)."""
    here = platform.system() if root == Path("/") else "Linux"
    if here == "Darwin":
        return _macos()
    return _windows() if here == "Windows" else _linux(root)


def _linux(root: Path) -> Hardware:
    from saywell.machine import devices, linux

    live = root == Path("/")
    gpus, note = devices.read_gpus() if live else ((), "")
    limits = linux.read_limits(root)
    runtimes, damaged = devices.read_runtimes()
    return Hardware(
        os="linux" if not live or sys.platform.startswith("linux") else "other",
        arch=_arch() if live else _recorded_arch(root),
        python=platform.python_version(),
        product=linux.read_product(root),
        cpu=linux.read_cpu(root, limits.cpus),
        memory=linux.read_memory(root) or _memory(),
        limits=limits,
        gpus=gpus,
        gpu_note=note,
        runtimes=runtimes,
        damaged=damaged,
        thermal=linux.read_thermal(root),
    )


def _macos() -> Hardware:
    from saywell.machine import devices, macos

    facts = macos.sysctl()
    runtimes, damaged = devices.read_runtimes()
    return Hardware(
        os="darwin",
        arch=_arch(),
        python=platform.python_version(),
        product=macos.read_product(facts),
        cpu=macos.read_cpu(facts),
        memory=macos.read_memory(facts) or _memory(),
        gpu_note="macOS has no NVIDIA driver",
        mps=_arch() == "arm64",
        runtimes=runtimes,
        damaged=damaged,
    )


def _windows() -> Hardware:
    from saywell.machine import devices, windows

    gpus, note = devices.read_gpus()
    runtimes, damaged = devices.read_runtimes()
    return Hardware(
        os="windows",
        arch=_arch(),
        python=platform.python_version(),
        product=windows.read_product(),
        cpu=windows.read_cpu(),
        memory=_memory(),
        limits=Limits(cpus=_affinity()),
        gpus=gpus,
        gpu_note=note,
        runtimes=runtimes,
        damaged=damaged,
    )


def _arch() -> str:
    return ARCHES.get(platform.machine(), platform.machine())


def _recorded_arch(root: Path) -> Literal["x86_64", "arm64"]:
    """A recorded tree tells its architecture by how its processors describe themselves."""
    text = (root / "proc/cpuinfo").read_text(encoding="utf-8") if (root / "proc/cpuinfo").exists() else ""
    return "arm64" if "CPU implementer" in text else "x86_64"


def _memory() -> int:
    import psutil

    try:
        return int(psutil.virtual_memory().total)
    except FileNotFoundError as error:
        raise Unavailable(
            "Linux tells of memory and processors in /proc, which is not here; mount it "
            "(mount -t proc proc /proc), in a container or chroot, too"
        ) from error


def _affinity() -> tuple[int, ...]:
    import psutil

    process: Any = psutil.Process()  # macOS has no affinity, so its stubs lack the method
    return tuple(process.cpu_affinity())
