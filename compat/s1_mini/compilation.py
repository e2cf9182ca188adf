"""What torch.compile can do on this machine, found out without loading torch."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import util

from saywell.machine import Hardware, detect


@dataclass(frozen=True)
class PlatformInfo:
    """The platform as far as compilation goes."""

    system: str
    python_version: str
    torch_version: str | None
    """None: not installed."""
    cuda_available: bool
    triton_available: bool
    recommended_backend: str
    """inductor, eager, or disabled where there is no torch to compile with."""


def get_platform_info(hardware: Hardware | None = None) -> PlatformInfo:
    """For this machine, or for `hardware`."""
    found = hardware or detect()
    torch = found.runtimes.get("torch")
    cuda = bool(found.gpus) and torch is not None and "cuda" in torch.devices
    triton = found.os == "linux" and util.find_spec("triton") is not None
    backend = "disabled" if torch is None else "inductor" if triton else "eager"
    return PlatformInfo(
        system=platform.system() if hardware is None else found.os.capitalize(),
        python_version=found.python,
        torch_version=torch.version if torch else None,
        cuda_available=cuda,
        triton_available=triton,
        recommended_backend=backend,
    )


def get_compilation_recommendations(info: PlatformInfo | None = None) -> list[str]:
    """Sentences for people, at least one."""
    info = info or get_platform_info()
    if info.torch_version is None:
        return ["torch is not installed: models run on ONNX Runtime or by themselves, and nothing has to be compiled"]
    if info.triton_available:
        found = ['Triton is here: models that run on torch are fastest with compile_backend="inductor"']
    elif info.system == "Windows":
        found = ['Triton does not run on Windows: models that run on torch take compile_backend="eager", or WSL2']
    else:
        found = ['Triton is not installed: models that run on torch take compile_backend="eager"']
    if not info.cuda_available:
        found.append("no NVIDIA GPU that torch can use: compiling gains little here")
    return found
