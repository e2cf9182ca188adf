"""Frozen facts about a machine, their JSON and their fingerprint. Nothing here reads a machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

GIB = 1 << 30
BF16 = frozenset({"amx_bf16", "avx512_bf16"})
"""Instructions with which bf16 in OpenVINO was measured to be the fastest convolution."""
DOT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 instructions that sum products of 8-bit numbers in 32 bits. Without them pairs are summed in 16 and overflow."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model runs."""

    kind: str = "cpu"
    """cpu, cuda, mps."""
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> Device:
        """From `cpu`, `cuda`, `cuda:1`. Raises ValueError."""
        kind, colon, index = text.partition(":")
        if not kind.isidentifier() or (colon and not (index.isascii() and index.isdigit())):
            raise ValueError(text)
        return cls(kind, int(index or 0))

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.index else self.kind


CPU = Device()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A kind of CPU cache: `count` instances of `size` bytes each."""

    name: str
    """L1d, L1i, L2, L3."""
    size: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor as the system describes it; `Limits` says what of it may be used."""

    model: str
    vendor: str
    sockets: int
    physical: int
    """Cores."""
    logical: int
    """Hardware threads."""
    performance: int
    """Performance cores; all cores if there is one kind."""
    efficiency: int
    """Efficiency cores."""
    performance_cpus: tuple[int, ...] = ()
    """The first logical CPU of each performance core, preferably one this process may use; empty if the system does not
    number them."""
    efficiency_cpus: tuple[int, ...] = ()
    features: tuple[str, ...] = ()
    """Instruction sets relevant for speed, sorted: avx2, avx512_vnni, amx_int8, neon, asimddp, …"""
    caches: tuple[Cache, ...] = ()
    max_mhz: int = 0
    """0 if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this process may use of the machine."""

    cgroup: Literal["", "v1", "v2", "hybrid"] = ""
    cpus: tuple[int, ...] = ()
    """Logical CPUs allowed by affinity and cpuset; empty if unknown, which means all."""
    quota: float | None = None
    """CPU time per second of wall time, such as 1.5; None without a quota."""
    memory: int | None = None
    """Bytes; None without a limit below the machine's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str
    memory: int
    """Bytes."""
    capability: tuple[int, int]
    """CUDA compute capability: (8, 9) is Ada, (12, 0) Blackwell (RTX 50)."""
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An installed package that can run a model."""

    version: str
    devices: tuple[str, ...] = ("cpu",)
    """Devices this build supports: cpu, cuda, rocm, mps, directml, coreml, openvino, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """All facts about a machine. Decisions based on them are made in `plan`."""

    os: Literal["linux", "darwin", "windows", "other"]
    arch: str
    """x86_64, arm64, or the system's name for another architecture."""
    python: str
    product: str
    """Vendor and product name of the machine; may be empty."""
    cpu: Cpu
    memory: int
    """RAM of the machine in bytes."""
    limits: Limits = Limits()
    gpus: tuple[Gpu, ...] = ()
    gpu_note: str = ""
    """Why no NVIDIA GPU is listed."""
    mps: bool = False
    """Whether there is an Apple GPU that Metal can use."""
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    """By package name (`saywell.runtimes`)."""
    damaged: dict[str, str] = field(default_factory=dict)
    """The same packages, if installed but unusable → the reason."""
    thermal: tuple[str, ...] = ()
    """Names of the temperature sensors."""

    @property
    def usable_cpus(self) -> int:
        """Whole CPUs this process may keep busy, by affinity, cpuset and quota (rounded down); at least 1."""
        allowed = len(self.limits.cpus) or self.cpu.logical
        quota = allowed if self.limits.quota is None else int(self.limits.quota)
        return max(1, min(allowed, quota))

    @property
    def usable_cores(self) -> int:
        """Performance cores this process may keep busy, hardware threads of one core counted once; at least 1."""
        allowed = set(self.limits.cpus)
        fast = self.cpu.performance
        if allowed and self.cpu.performance_cpus:
            fast = len(allowed & set(self.cpu.performance_cpus)) or len(allowed)
        return max(1, min(fast, self.usable_cpus))

    @property
    def usable_memory(self) -> int:
        """Bytes of RAM this process may use: at most the container's limit."""
        return self.memory if self.limits.memory is None else min(self.memory, self.limits.memory)

    def gpu(self, device: Device) -> Gpu | None:
        """The NVIDIA GPU of a device; None for other kinds and for an index without a GPU."""
        present = device.kind == "cuda" and device.index < len(self.gpus)
        return self.gpus[device.index] if present else None

    @property
    def devices(self) -> tuple[Device, ...]:
        """Devices a model might run on: GPUs by memory, largest first; the CPU last."""
        order = sorted(range(len(self.gpus)), key=lambda index: -self.gpus[index].memory)
        return (*(Device("cuda", index) for index in order), *([Device("mps")] if self.mps else []), CPU)

    def memory_of(self, device: Device) -> int:
        """Bytes a model may use on a device: the GPU's memory, or the RAM this process may use."""
        gpu = self.gpu(device)
        return gpu.memory if gpu is not None else self.usable_memory

    @property
    def contained(self) -> bool:
        """Whether memory or CPU time is limited below what the machine has."""
        return self.usable_memory < self.memory or self.limits.quota is not None

    @property
    def traits(self) -> frozenset[str]:
        """What a model's variant may require: CPU features; `fast-bf16` if an x86 processor multiplies bf16;
        `exact-int8` if sums of products of unsigned and signed 8-bit numbers do not overflow."""
        traits = set(self.cpu.features)
        if BF16 & traits:
            traits.add("fast-bf16")
        if self.arch != "x86_64" or DOT & traits:
            traits.add("exact-int8")
        return frozenset(traits)

    @property
    def cpu_tier(self) -> str:
        from saywell.machine.tier import cpu_tier

        return cpu_tier(self)

    def fingerprint(self) -> str:
        """16 hex digits that depend on every fact relevant for speed.

        Memory is rounded to half gibibytes, since a kernel update changes it by a few megabytes.
        """
        cpu = self.cpu
        memory = [round(size / GIB * 2) for size in (self.memory, self.usable_memory)]
        facts = [
            [self.os, self.arch, cpu.model, cpu.sockets, cpu.physical, cpu.logical, cpu.performance, cpu.features],
            [self.usable_cpus, self.usable_cores, self.limits.quota, *memory],
            [[gpu.name, gpu.memory, gpu.capability, gpu.driver] for gpu in self.gpus],
            [self.mps, sorted((name, runtime.version, runtime.devices) for name, runtime in self.runtimes.items())],
        ]
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]

    def to_json(self) -> str:
        """Indented JSON with all fields."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    @staticmethod
    def from_json(text: str | bytes) -> Hardware:
        """Raises msgspec.ValidationError naming the field."""
        return msgspec.json.decode(text, type=Hardware)
