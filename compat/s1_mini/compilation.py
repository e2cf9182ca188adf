"""Support for torch.compile on this machine, detected without loading torch."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import util

from saywell.machine import Hardware, detect


@dataclass(frozen=True)
class PlatformInfo:
    """The platform, as far as it matters for compilation."""

    system: str
    python_version: str
    torch_version: str | None
    """None: not installed."""
    cuda_available: bool
    triton_available: bool
    recommended_backend: str
    """inductor, eager, or (without torch) disabled."""


def get_platform_info(hardware: Hardware | None = None) -> PlatformInfo:
    """The platform of `hardware`, by default of this machine."""
    facts = hardware or detect()
    torch = facts.runtimes.get("torch")
    cuda = bool(facts.gpus) and torch is not None and "cuda" in torch.devices
    triton = facts.os == "linux" and util.find_spec("triton") is not None
    backend = "disabled" if torch is None else "inductor" if triton else "eager"
    return PlatformInfo(
        system=platform.system() if hardware is None else facts.os.capitalize(),
        python_version=facts.python,
        torch_version=torch.version if torch else None,
        cuda_available=cuda,
        triton_available=triton,
        recommended_backend=backend,
    )


def get_compilation_recommendations(info: PlatformInfo | None = None) -> list[str]:
    """Recommendations as sentences, at least one."""
    info = info or get_platform_info()
    if info.torch_version is None:
        return ["torch is not installed: models run on other runtimes, which need no compilation"]
    if info.triton_available:
        advice = ['Triton is installed: models that run on torch are fastest with compile_backend="inductor"']
    elif info.system == "Windows":
        advice = ['Triton does not run on Windows: for models that run on torch use compile_backend="eager", or WSL2']
    else:
        advice = ['Triton is not installed: for models that run on torch use compile_backend="eager"']
    if not info.cuda_available:
        advice.append("no NVIDIA GPU usable by torch: compiling gains little")
    return advice
