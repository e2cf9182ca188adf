"""What a machine is: frozen facts, JSON both ways, one fingerprint. Nothing here looks at a machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

GIB = 1 << 30
BF16 = frozenset({"amx_bf16", "avx512_bf16"})
"""Instructions with which OpenVINO's bf16 is the fastest way to convolve that was measured."""
DOT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 instructions that add products of 8-bit numbers in 32 bits. Without them pairs are added in 16 and overflow."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model runs: a kind, and which of several."""

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
    """One kind of cache: `count` instances of `size` bytes each."""

    name: str
    """L1d, L1i, L2, L3."""
    size: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor as the system describes it; a container may be allowed less (see `Limits`)."""

    model: str
    vendor: str
    sockets: int
    physical: int
    """Cores."""
    logical: int
    """Hardware threads."""
    performance: int
    """Cores of the fast kind; all of them where there is one kind."""
    efficiency: int
    """Cores of the frugal kind."""
    performance_cpus: tuple[int, ...] = ()
    """The first logical CPU of each performance core, of those that may be used if any may; empty where the system does
    not number them."""
    efficiency_cpus: tuple[int, ...] = ()
    features: tuple[str, ...] = ()
    """Instruction sets that matter here, by name, sorted: avx2, avx512_vnni, amx_int8, neon, asimddp, …"""
    caches: tuple[Cache, ...] = ()
    max_mhz: int = 0
    """0: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this process may use of the machine."""

    cgroup: Literal["", "v1", "v2", "hybrid"] = ""
    cpus: tuple[int, ...] = ()
    """Logical CPUs allowed by affinity and cpuset; empty: not known, all."""
    quota: float | None = None
    """CPUs' worth of time; None: no quota."""
    memory: int | None = None
    """Bytes; None: no limit below the machine's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str
    memory: int
    """Bytes."""
    capability: tuple[int, int]
    """CUDA compute capability: (8, 9) is Ada, (12, 0) Blackwell of the RTX 50 kind."""
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An installed package that can run a model."""

    version: str
    devices: tuple[str, ...] = ("cpu",)
    """What this build can use: cpu, cuda, rocm, mps, directml, coreml, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Everything known about a machine. Facts only: what to do with them is the plan's business."""

    os: Literal["linux", "darwin", "windows", "other"]
    arch: str
    """x86_64 or arm64, or what the system says."""
    python: str
    product: str
    """The maker's name for the machine, where it tells; may be empty."""
    cpu: Cpu
    memory: int
    """Bytes of RAM in the machine."""
    limits: Limits = Limits()
    gpus: tuple[Gpu, ...] = ()
    gpu_note: str = ""
    """Why no NVIDIA GPU is listed."""
    mps: bool = False
    """An Apple GPU that Metal can use."""
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    """By package name (`saywell.runtimes`)."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Of the same packages, those of which something is there that cannot be used: why not."""
    thermal: tuple[str, ...] = ()
    """Names of the temperature sensors."""

    @property
    def usable_cpus(self) -> int:
        """Whole CPUs this process may keep busy: affinity, cpuset and quota (rounded down), at least 1."""
        allowed = len(self.limits.cpus) or self.cpu.logical
        quota = allowed if self.limits.quota is None else int(self.limits.quota)
        return max(1, min(allowed, quota))

    @property
    def usable_cores(self) -> int:
        """Performance cores this process may keep busy, at least 1: hardware threads of one core count once."""
        allowed = set(self.limits.cpus)
        fast = self.cpu.performance
        if allowed and self.cpu.performance_cpus:
            fast = len(allowed & set(self.cpu.performance_cpus)) or len(allowed)
        return max(1, min(fast, self.usable_cpus))

    @property
    def usable_memory(self) -> int:
        """Bytes of RAM this process may use: the container's limit where there is one."""
        return self.memory if self.limits.memory is None else min(self.memory, self.limits.memory)

    def gpu(self, device: Device) -> Gpu | None:
        """The NVIDIA GPU that a device is; None: it is none, or not here."""
        there = device.kind == "cuda" and device.index < len(self.gpus)
        return self.gpus[device.index] if there else None

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those a model might run on, the one with the most memory of its own first, the CPU last."""
        order = sorted(range(len(self.gpus)), key=lambda index: -self.gpus[index].memory)
        return (*(Device("cuda", index) for index in order), *([Device("mps")] if self.mps else []), CPU)

    def memory_of(self, device: Device) -> int:
        """Bytes a model may use there: a GPU's own memory, or the RAM this process may use."""
        gpu = self.gpu(device)
        return gpu.memory if gpu is not None else self.usable_memory

    @property
    def contained(self) -> bool:
        """True where memory or CPU time is limited below what the machine has."""
        return self.usable_memory < self.memory or self.limits.quota is not None

    @property
    def traits(self) -> frozenset[str]:
        """What a variant of a model may require of the machine: the features of its processor, `fast-bf16` where an
        x86 processor multiplies bf16, `exact-int8` where sums of products of unsigned and signed 8-bit numbers come
        out right."""
        found = set(self.cpu.features)
        if BF16 & found:
            found.add("fast-bf16")
        if self.arch != "x86_64" or DOT & found:
            found.add("exact-int8")
        return frozenset(found)

    @property
    def cpu_tier(self) -> str:
        from saywell.machine.tier import cpu_tier

        return cpu_tier(self)

    def fingerprint(self) -> str:
        """16 hex digits that change when something that matters for speed does.

        Memory counts in half gibibytes, since a kernel update shifts it by a few megabytes.
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
        """Indented JSON with every field."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    @staticmethod
    def from_json(text: str | bytes) -> Hardware:
        """Raises msgspec.ValidationError naming the field."""
        return msgspec.json.decode(text, type=Hardware)
