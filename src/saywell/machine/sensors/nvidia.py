"""NVIDIA GPUs through NVML: load, memory, temperature, and reasons for throttling."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Any

NO_PACKAGE = "an NVIDIA driver is here but not the package that queries it (pip install 'saywell[nvidia]')"
NO_DRIVER = "no NVIDIA driver"
REASONS = {
    0x08: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "the external power brake",
}
"""NVML's clock event reasons that count as throttling; idle clocks and a configured power cap (0x04) do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """One GPU at one moment."""

    name: str
    index: int = 0
    """The driver's index."""
    utilisation: float
    """Percent of the time since the driver's last sample in which a kernel ran."""
    memory_used: int
    memory_total: int
    temperature: float | None = None
    """°C."""
    throttled: tuple[str, ...] = ()
    """Reasons for throttling."""


def driver_present() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def open_nvml() -> tuple[Any, str]:
    """The pynvml module with NVML initialised, or None and the reason."""
    if util.find_spec("pynvml") is None:
        return None, NO_PACKAGE if driver_present() else NO_DRIVER
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        return None, f"the package that queries the NVIDIA driver is damaged ({error})"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, f"the NVIDIA driver does not respond ({error})" if driver_present() else NO_DRIVER
    return nvml, ""


def close_nvml(nvml: Any) -> None:
    with suppress(nvml.NVMLError):
        nvml.nvmlShutdown()


def decoded(text: str | bytes) -> str:
    """Older releases of pynvml return bytes."""
    return text.decode() if isinstance(text, bytes) else text


class NvidiaSensors:
    """Keeps NVML open between readings. Without the package, a driver or a GPU there are no readings."""

    def __init__(self) -> None:
        self._nvml, _ = open_nvml()
        self._devices: dict[int, Any] = {}
        """By index."""
        if self._nvml is None:
            return
        with suppress(self._nvml.NVMLError):
            for index in range(self._nvml.nvmlDeviceGetCount()):
                with suppress(self._nvml.NVMLError):  # a GPU that is no longer on the bus
                    self._devices[index] = self._nvml.nvmlDeviceGetHandleByIndex(index)

    def read(self) -> tuple[GpuLoad, ...]:
        """All GPUs that respond."""
        loads = (self._load(index, device) for index, device in self._devices.items())
        return tuple(load for load in loads if load is not None)

    def close(self) -> None:
        if self._nvml is not None:
            close_nvml(self._nvml)
            self._nvml, self._devices = None, {}

    def _load(self, index: int, device: Any) -> GpuLoad | None:
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(device)
            return GpuLoad(
                name=decoded(nvml.nvmlDeviceGetName(device)),
                index=index,
                utilisation=float(nvml.nvmlDeviceGetUtilizationRates(device).gpu),
                memory_used=int(memory.used),
                memory_total=int(memory.total),
                temperature=float(nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)),
                throttled=self._throttled(device),
            )
        except nvml.NVMLError:
            return None

    def _throttled(self, device: Any) -> tuple[str, ...]:
        nvml = self._nvml
        bits = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device))
        return tuple(f"the GPU is slowed down by {text}" for bit, text in REASONS.items() if bits & bit)


def free_memory(index: int) -> int | None:
    """Free bytes of a GPU; None if it does not respond."""
    nvml, _ = open_nvml()
    if nvml is None:
        return None
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index))
        return int(memory.total) - int(memory.used)
    except nvml.NVMLError:
        return None
    finally:
        close_nvml(nvml)
