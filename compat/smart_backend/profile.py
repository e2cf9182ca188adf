"""HardwareProfile: the machine's facts under the smart backend's names."""

from __future__ import annotations

from dataclasses import dataclass

from saywell.machine import GIB, Hardware
from saywell.plan.plan import Plan

RULE = "=" * 60
_SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "windows": "Windows"}
_MACHINES = {("windows", "x86_64"): "AMD64", ("windows", "arm64"): "ARM64", ("linux", "arm64"): "aarch64"}
"""The system's own name of an architecture."""


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """The hardware and the model's device. Memory is the container's limit if it has one."""

    system: str
    machine: str
    cpu_model: str
    cpu_tier: str
    cores_physical: int
    cores_logical: int
    memory_gb: float
    has_gpu: bool
    gpu_name: str
    gpu_memory_gb: float
    compute_capability: tuple[int, int] | None
    device_type: str
    """The planned device: cpu, cuda or mps."""
    device_name: str
    thermal_capable: bool
    """Whether a temperature sensor is readable."""
    avx512_vnni: bool

    @staticmethod
    def of(hardware: Hardware, plan: Plan) -> HardwareProfile:
        gpu = max(hardware.gpus, key=lambda gpu: gpu.memory, default=None)
        name = gpu.name if gpu else f"the GPU of the {hardware.cpu.model}" if hardware.mps else "None"
        return HardwareProfile(
            system=_SYSTEMS.get(hardware.os, hardware.os),
            machine=_MACHINES.get((hardware.os, hardware.arch), hardware.arch),
            cpu_model=hardware.cpu.model,
            cpu_tier=hardware.cpu_tier,
            cores_physical=hardware.cpu.physical,
            cores_logical=hardware.cpu.logical,
            memory_gb=hardware.usable_memory / GIB,
            has_gpu=gpu is not None or hardware.mps,
            gpu_name=name,
            gpu_memory_gb=gpu.memory / GIB if gpu else 0.0,
            compute_capability=gpu.capability if gpu else None,
            device_type=plan.device.kind,
            device_name=hardware.cpu.model if plan.device.kind == "cpu" else name,
            thermal_capable=bool(hardware.thermal),
            avx512_vnni="avx512_vnni" in hardware.cpu.features,
        )

    def block(self) -> str:
        """The lines printed at start."""
        return "\n".join(
            (
                "🔍 Hardware detection complete",
                RULE,
                "DETECTED HARDWARE PROFILE",
                RULE,
                f"System: {self.system} ({self.machine})",
                f"CPU: {self.cpu_model}",
                f"CPU Tier: {self.cpu_tier}",
                f"Cores: {self.cores_physical} physical, {self.cores_logical} logical",
                f"RAM: {self.memory_gb:.1f} GB",
                "",
                f"GPU: {self.gpu_name}",
                f"GPU Memory: {self.gpu_memory_gb:.1f} GB",
                f"Device: {self.device_type}",
                "",
                f"Thermal Monitoring: {'✅ Available' if self.thermal_capable else '❌ Not Available'}",
                f"AVX-512 VNNI: {'✅ Supported' if self.avx512_vnni else '❌ Not Supported'}",
                RULE,
            )
        )
