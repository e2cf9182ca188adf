"""Linux facts from /proc and /sys below a root, so that a recorded tree can be read like a live machine."""

from __future__ import annotations

import re
from pathlib import Path

from saywell.machine import cgroup
from saywell.machine.cgroup import parse_cpus, read_int, read_text
from saywell.machine.facts import Cache, Cpu, Limits

X86_FEATURES = {
    "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16",
}  # fmt: skip
ARM_FEATURES = {
    "neon", "asimd", "asimdhp", "asimddp", "asimdfhm", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16",
    "sme", "sme2",
}  # fmt: skip
ARM_VENDORS = {
    0x41: "ARM",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x51: "Qualcomm",
    0x61: "Apple",
    0xC0: "Ampere",
}
ARM_CORES = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2", 0xD84: "Neoverse-V3", 0xD8E: "Neoverse-N3",
}  # fmt: skip
CACHE_KINDS = {"Data": "d", "Instruction": "i"}
SLOW_CORE = 0.7
"""A core below this share of the fastest core's capacity or clock is an efficiency core; turbo clocks differ less."""
DENSE_CORE = 0.5
"""The same for AMD: its dense cores (Zen 5c) are as wide as the others and run at two thirds of their clock."""


def read_cpu(root: Path, allowed: tuple[int, ...] = ()) -> Cpu:
    """The processor. Without topology in /sys, each logical CPU counts as a core.

    `allowed`: the CPUs this process may use; a core is identified by its first thread among them.
    """
    blocks = _cpuinfo(root)
    cpus = online(root)
    cores = _cores(root, cpus)
    slow = _efficiency(root, cpus, DENSE_CORE if _vendor(blocks) == "AuthenticAMD" else SLOW_CORE)
    names = [next((cpu for cpu in core if cpu in allowed), core[0]) for core in cores]
    fast_cpus = tuple(cpu for cpu in names if cpu not in slow)
    slow_cpus = tuple(cpu for cpu in names if cpu in slow)
    return Cpu(
        model=_model(blocks, cpus),
        vendor=_vendor(blocks),
        sockets=_sockets(root, cpus),
        physical=len(cores),
        logical=len(cpus),
        performance=len(fast_cpus),
        efficiency=len(slow_cpus),
        performance_cpus=fast_cpus,
        efficiency_cpus=slow_cpus,
        features=_features(blocks),
        caches=_caches(root, cpus),
        max_mhz=max((_max_khz(root, cpu) for cpu in cpus), default=0) // 1000,
    )


def meminfo(root: Path) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    pairs = re.findall(r"^(\w+):\s+(\d+) kB$", read_text(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(size) * 1024 for name, size in pairs}


def read_limits(root: Path, total_memory: int) -> Limits:
    """Affinity, cpuset, quota and memory limit of this process, over all levels of its control groups."""
    allowed = set(parse_cpus(_status(root, "Cpus_allowed_list")) or online(root)) & set(online(root))
    within = cgroup.cpuset(root)
    if within is not None and allowed & set(within):
        allowed &= set(within)
    memory = cgroup.memory_limit(root)
    return Limits(
        cgroup=cgroup.version(root),  # type: ignore[arg-type]
        cpus=tuple(sorted(allowed)),
        quota=cgroup.cpu_quota(root),
        memory=memory if memory is not None and memory < total_memory else None,
    )


def read_product(root: Path) -> str:
    """Vendor and product name: from DMI on PCs and clouds, from the device tree on boards."""
    board = read_text(root / "proc/device-tree/model") or read_text(root / "sys/firmware/devicetree/base/model")
    names = [read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return board or " ".join(name for name in names if name)


def online(root: Path) -> tuple[int, ...]:
    """Logical CPUs that are online."""
    listed = parse_cpus(read_text(root / "sys/devices/system/cpu/online"))
    return listed or tuple(range(max(1, len(_cpuinfo(root)))))


def _cpuinfo(root: Path) -> list[dict[str, str]]:
    """One mapping per logical CPU, keys in lower case, without the trailing board section."""
    blocks = []
    for block in read_text(root / "proc/cpuinfo").split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if fields.get("processor", "").isdigit():
            blocks.append(fields)
    return blocks


def _model(blocks: list[dict[str, str]], cpus: tuple[int, ...]) -> str:
    names = dict.fromkeys(block.get("model name") or _arm_name(block) for block in blocks)
    return " + ".join(name for name in names if name) or f"unknown processor with {len(cpus)} CPUs"


def _arm_name(block: dict[str, str]) -> str:
    part = _hex(block.get("cpu part"))
    vendor = ARM_VENDORS.get(_hex(block.get("cpu implementer")), "")
    return " ".join(word for word in (vendor, ARM_CORES.get(part, f"part {part:#x}" if part else "")) if word)


def _hex(text: str | None) -> int:
    return int(text, 16) if text and re.fullmatch(r"0x[0-9a-fA-F]+", text) else 0


def _vendor(blocks: list[dict[str, str]]) -> str:
    first = blocks[0] if blocks else {}
    return first.get("vendor_id") or ARM_VENDORS.get(_hex(first.get("cpu implementer")), "")


def _features(blocks: list[dict[str, str]]) -> tuple[str, ...]:
    """Features that all CPUs have: on some hybrid chips only part of the cores support an instruction."""
    by_cpu = [set((block.get("flags") or block.get("features") or "").split()) for block in blocks]
    common = set.intersection(*by_cpu) if by_cpu else set()
    if "asimd" in common:
        common.add("neon")
    return tuple(sorted(common & (X86_FEATURES | ARM_FEATURES)))


def _cores(root: Path, cpus: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Logical CPUs grouped into cores, in order of their first thread."""
    return sorted({_siblings(root, cpu, cpus) for cpu in cpus})


def _siblings(root: Path, cpu: int, cpus: tuple[int, ...]) -> tuple[int, ...]:
    topology = _cpu_dir(root, cpu) / "topology"
    text = read_text(topology / "core_cpus_list") or read_text(topology / "thread_siblings_list")
    return tuple(other for other in parse_cpus(text) if other in cpus) or (cpu,)


def _sockets(root: Path, cpus: tuple[int, ...]) -> int:
    ids = {read_text(_cpu_dir(root, cpu) / "topology/physical_package_id") for cpu in cpus}
    return max(1, len(ids - {"", "-1"}))


def _efficiency(root: Path, cpus: tuple[int, ...], share: float) -> set[int]:
    """Efficiency CPUs: as listed by the kernel on Intel, else those below this share of the highest capacity or
    clock."""
    fast = parse_cpus(read_text(root / "sys/devices/cpu_core/cpus"))
    if fast:
        return set(cpus) - set(fast)
    speed = {cpu: read_int(_cpu_dir(root, cpu) / "cpu_capacity") or 0 for cpu in cpus}
    if not all(speed.values()):
        speed = {cpu: _max_khz(root, cpu) for cpu in cpus}
    fastest = max(speed.values(), default=0)
    return {cpu for cpu, value in speed.items() if 0 < value < share * fastest}


def _max_khz(root: Path, cpu: int) -> int:
    return read_int(_cpu_dir(root, cpu) / "cpufreq/cpuinfo_max_freq") or 0


def _cpu_dir(root: Path, cpu: int) -> Path:
    return root / f"sys/devices/system/cpu/cpu{cpu}"


def _caches(root: Path, cpus: tuple[int, ...]) -> tuple[Cache, ...]:
    instances: dict[tuple[str, int], set[str]] = {}
    for cpu in cpus:
        for index in (_cpu_dir(root, cpu) / "cache").glob("index*"):
            name = f"L{read_text(index / 'level')}{CACHE_KINDS.get(read_text(index / 'type'), '')}"
            size = _cache_bytes(read_text(index / "size"))
            if size:
                instances.setdefault((name, size), set()).add(read_text(index / "shared_cpu_list") or str(cpu))
    return tuple(Cache(name=name, size=size, count=len(shared)) for (name, size), shared in sorted(instances.items()))


def _cache_bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(match[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[match[2]] if match else 0


def _status(root: Path, field: str) -> str:
    match = re.search(rf"^{field}:\s*(.*)$", read_text(root / "proc/self/status"), re.MULTILINE)
    return match[1] if match else ""
