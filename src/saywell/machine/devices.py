"""NVIDIA GPUs through NVML, and installed runtimes. A missing driver is a fact, not an error."""

from __future__ import annotations

from typing import Any

from saywell.machine.facts import Gpu, Runtime
from saywell.machine.sensors.nvidia import close_nvml, decoded, open_nvml
from saywell.runtimes import runtimes


def read_gpus() -> tuple[tuple[Gpu, ...], str]:
    """NVIDIA GPUs, or the reason why there are none."""
    nvml, note = open_nvml()
    if nvml is None:
        return (), note
    try:
        gpus = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        return gpus, "" if gpus else "the NVIDIA driver lists no GPU"
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver failed ({error})"
    finally:
        close_nvml(nvml)


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    return Gpu(
        name=decoded(nvml.nvmlDeviceGetName(device)),
        memory=int(nvml.nvmlDeviceGetMemoryInfo(device).total),
        capability=(int(major), int(minor)),
        driver=decoded(nvml.nvmlSystemGetDriverVersion()),
    )


def read_runtimes() -> tuple[dict[str, Runtime], dict[str, str]]:
    """Installed runtimes with the devices each build supports, and packages that cannot be used with the reason."""
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
