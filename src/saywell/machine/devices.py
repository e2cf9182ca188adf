"""GPUs through NVML, and the installed runtimes. An absent driver is a fact, not an error."""

from __future__ import annotations

import shutil
from importlib import import_module, util
from pathlib import Path
from typing import Any

from saywell.machine.facts import Gpu, Runtime
from saywell.runtimes import runtimes

NO_PACKAGE = "an NVIDIA driver is here but not the package that asks it (pip install 'saywell[nvidia]')"
NO_DRIVER = "no NVIDIA driver"


def read_gpus() -> tuple[tuple[Gpu, ...], str]:
    """NVIDIA GPUs, and why there are none."""
    if util.find_spec("pynvml") is None:
        return (), NO_PACKAGE if _driver_files() else NO_DRIVER
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        return (), f"the package that asks the NVIDIA driver is damaged ({error})"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"{NO_DRIVER} answers ({error})" if _driver_files() else NO_DRIVER
    try:
        gpus = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        return gpus, "" if gpus else "the NVIDIA driver lists no GPU"
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver failed ({error})"
    finally:
        nvml.nvmlShutdown()


def _driver_files() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(device)),
        memory=int(nvml.nvmlDeviceGetMemoryInfo(device).total),
        capability=(int(major), int(minor)),
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def read_runtimes() -> tuple[dict[str, Runtime], dict[str, str]]:
    """By package name: the installed runtimes, with the devices each build can use; and why a damaged one cannot be
    used."""
    installed: dict[str, Runtime] = {}
    damaged: dict[str, str] = {}
    for runtime in runtimes():
        try:
            detected = runtime.detect()
        except (ImportError, AttributeError, OSError) as error:
            damaged[runtime.package] = str(error).strip().partition("\n")[0]
            continue
        if detected is not None:
            version, devices = detected
            installed[runtime.package] = Runtime(version=version, devices=devices)
    return installed, damaged
