"""Windows facts from the registry and GetLogicalProcessorInformationEx. Parsing runs on any system, for its tests."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from saywell.machine.facts import Cache, Cpu

RELATION_CORE, RELATION_CACHE, RELATION_PACKAGE, RELATION_ALL = 0, 2, 3, 0xFFFF
CACHE_KINDS = {1: "i", 2: "d"}
PRESENT = {
    37: "sse4_1", 38: "sse4_2", 39: "avx", 40: "avx2", 41: "avx512f",
    19: "neon", 43: "asimddp", 46: "sve", 47: "sve2", 66: "i8mm", 68: "bf16",
}  # fmt: skip
"""Arguments of IsProcessorFeaturePresent, which has none for VNNI and AMX."""


@dataclass(frozen=True, slots=True)
class Core:
    cpus: tuple[int, ...]
    """Logical CPUs, numbered across processor groups."""
    efficiency_class: int
    """Higher is faster."""


@dataclass(frozen=True, slots=True)
class Topology:
    cores: tuple[Core, ...]
    caches: tuple[Cache, ...]
    packages: int


def read_cpu() -> Cpu:
    """The processor of this machine."""
    model, vendor, mhz = _registry()
    return describe(parse(_relations()), model=model, vendor=vendor, mhz=mhz, features=_features())


def describe(topology: Topology, *, model: str, vendor: str, mhz: int, features: tuple[str, ...]) -> Cpu:
    fastest = max((core.efficiency_class for core in topology.cores), default=0)
    fast = tuple(core.cpus[0] for core in topology.cores if core.efficiency_class == fastest)
    slow = tuple(core.cpus[0] for core in topology.cores if core.efficiency_class < fastest)
    return Cpu(
        model=model,
        vendor=vendor,
        sockets=max(1, topology.packages),
        physical=max(1, len(topology.cores)),
        logical=max(1, sum(len(core.cpus) for core in topology.cores)),
        performance=max(1, len(fast)),
        efficiency=len(slow),
        performance_cpus=fast,
        efficiency_cpus=slow,
        features=features,
        caches=topology.caches,
        max_mhz=mhz,
    )


def parse(buffer: bytes) -> Topology:
    """Read SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX records (64-bit layout): relation, size, then its structure."""
    cores: list[Core] = []
    caches: Counter[tuple[str, int]] = Counter()
    packages = offset = 0
    while offset + 8 <= len(buffer):
        relation, size = struct.unpack_from("<II", buffer, offset)
        if size < 8:
            break
        body = buffer[offset + 8 : offset + size]
        if relation == RELATION_CORE:
            cores.append(_core(body))
        elif relation == RELATION_CACHE:
            caches[_cache(body)] += 1
        packages += relation == RELATION_PACKAGE
        offset += size
    kinds = tuple(Cache(name=name, size=size, count=count) for (name, size), count in sorted(caches.items()))
    return Topology(tuple(sorted(cores, key=lambda core: core.cpus)), kinds, packages)


def _core(body: bytes) -> Core:
    # PROCESSOR_RELATIONSHIP: flags, efficiency class, 20 reserved bytes, group count, then 16-byte GROUP_AFFINITYs.
    efficiency, groups = body[1], struct.unpack_from("<H", body, 22)[0]
    cpus = []
    for index in range(groups):
        mask, group = struct.unpack_from("<QH", body, 24 + 16 * index)
        cpus += [64 * group + bit for bit in range(64) if mask >> bit & 1]
    return Core(tuple(cpus), efficiency)


def _cache(body: bytes) -> tuple[str, int]:
    # CACHE_RELATIONSHIP: level, associativity, line size (2 bytes), size (4), kind (4), …
    level, size, kind = body[0], *struct.unpack_from("<II", body, 4)
    return f"L{level}{CACHE_KINDS.get(kind, '')}", size


if sys.platform == "win32":

    def _relations() -> bytes:
        """The records; the first call asks for their size."""
        ask = ctypes.WinDLL("kernel32", use_last_error=True).GetLogicalProcessorInformationEx
        size = ctypes.c_uint32(0)
        ask(RELATION_ALL, None, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        if not ask(RELATION_ALL, buffer, ctypes.byref(size)):
            raise ctypes.WinError(ctypes.get_last_error())
        return buffer.raw[: size.value]

    def _registry() -> tuple[str, str, int]:
        import winreg

        path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            model, vendor, mhz = (
                winreg.QueryValueEx(key, name)[0] for name in ("ProcessorNameString", "VendorIdentifier", "~MHz")
            )
        return str(model).strip(), str(vendor), int(mhz)

    def _features() -> tuple[str, ...]:
        present = ctypes.WinDLL("kernel32").IsProcessorFeaturePresent
        names = {name for number, name in PRESENT.items() if present(number)}
        return tuple(sorted(names | ({"asimd"} if "neon" in names else set())))

    def read_product() -> str:
        """Vendor and product name from the firmware tables."""
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\BIOS") as key:
            names = [winreg.QueryValueEx(key, name)[0] for name in ("SystemManufacturer", "SystemProductName")]
        return " ".join(str(name) for name in names)

else:

    def _elsewhere() -> Any:
        raise NotImplementedError("this module reads Windows only")

    _relations = _registry = _features = read_product = _elsewhere
