"""NVIDIA GPUs through NVML: how busy, how full, how hot, and why they are slowed down."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, util
from typing import Any

REASONS = {
    0x08: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "the external power brake",
}
"""NVML's clock event reasons that cost speed unasked. Idle, and a power cap somebody set (0x04), are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """One GPU at one moment."""

    name: str
    index: int = 0
    """Which of several, as the driver counts them."""
    utilisation: float
    """Percent of the time since the driver's last sample in which a kernel ran."""
    memory_used: int
    memory_total: int
    temperature: float | None = None
    """°C."""
    throttled: tuple[str, ...] = ()
    """Why it is slowed down, in words."""


class NvidiaSensors:
    """Keeps NVML open between readings. Without the package, a driver or a GPU it reads nothing."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: dict[int, Any] = {}
        """By index."""
        if util.find_spec("pynvml") is None:
            return
        try:
            nvml = import_module("pynvml")
        except ImportError:
            return  # damaged; `hardware` has said so
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return  # no driver; `hardware` has said so
        self._nvml = nvml
        try:
            devices = range(nvml.nvmlDeviceGetCount())
        except nvml.NVMLError:
            return
        self._devices = {index: device for index in devices if (device := self._device(index)) is not None}

    def _device(self, index: int) -> Any:
        """None for one that has fallen off the bus."""
        try:
            return self._nvml.nvmlDeviceGetHandleByIndex(index)
        except self._nvml.NVMLError:
            return None

    def read(self) -> tuple[GpuLoad, ...]:
        """All that answer; one that has fallen off the bus is left out."""
        found = (self._load(index, device) for index, device in self._devices.items())
        return tuple(load for load in found if load is not None)

    def close(self) -> None:
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml, self._devices = None, {}

    def _load(self, index: int, device: Any) -> GpuLoad | None:
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(device)
            name = nvml.nvmlDeviceGetName(device)
            return GpuLoad(
                name=name.decode() if isinstance(name, bytes) else name,
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
    """Bytes nobody has on a GPU; None: it does not tell."""
    sensors = NvidiaSensors()
    try:
        load = next((each for each in sensors.read() if each.index == index), None)
        return None if load is None else load.memory_total - load.memory_used
    finally:
        sensors.close()
