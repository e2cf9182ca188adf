"""macOS facts from sysctl. `sysctl()` runs it; the other functions read its output."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from saywell.machine.facts import Cache, Cpu

ARM_FEATURES = {
    "hw.optional.AdvSIMD": ("asimd", "neon"),
    "hw.optional.neon": ("asimd", "neon"),
    "hw.optional.arm.FEAT_DotProd": ("asimddp",),
    "hw.optional.arm.FEAT_FP16": ("asimdhp",),
    "hw.optional.arm.FEAT_I8MM": ("i8mm",),
    "hw.optional.arm.FEAT_BF16": ("bf16",),
    "hw.optional.arm.FEAT_SME": ("sme",),
    "hw.optional.arm.FEAT_SME2": ("sme2",),
}
X86_FEATURES = {
    "SSE4.1": "sse4_1", "SSE4.2": "sse4_2", "AVX1.0": "avx", "F16C": "f16c", "FMA": "fma", "AVX2": "avx2",
    "AVX512F": "avx512f", "AVX512BW": "avx512bw", "AVX512VNNI": "avx512_vnni",
}  # fmt: skip


def sysctl() -> dict[str, str]:
    """All names below `hw` and `machdep.cpu`."""
    command = ["/usr/sbin/sysctl", "hw", "machdep.cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return parse(done.stdout)


def parse(text: str) -> dict[str, str]:
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_cpu(facts: Mapping[str, str]) -> Cpu:
    physical, logical = _number(facts, "hw.physicalcpu"), _number(facts, "hw.logicalcpu")
    fast = _number(facts, "hw.perflevel0.physicalcpu") or physical
    return Cpu(
        model=facts.get("machdep.cpu.brand_string", "") or facts.get("hw.model", ""),
        vendor=facts.get("machdep.cpu.vendor", "") or "Apple",
        sockets=max(1, _number(facts, "hw.packages")),
        physical=max(1, physical),
        logical=max(1, logical),
        performance=max(1, fast),
        efficiency=sum(_number(facts, f"hw.perflevel{level}.physicalcpu") for level in range(1, levels(facts))),
        features=_features(facts),
        caches=_caches(facts),
        max_mhz=_number(facts, "hw.cpufrequency_max") // 1_000_000,
    )


def levels(facts: Mapping[str, str]) -> int:
    """Kinds of cores; 1 if the system does not distinguish them."""
    return max(1, _number(facts, "hw.nperflevels"))


def read_product(facts: Mapping[str, str]) -> str:
    """Such as `MacBookAir10,1`."""
    return facts.get("hw.model", "")


def _number(facts: Mapping[str, str], name: str) -> int:
    value = facts.get(name, "")
    return int(value) if value.isdigit() else 0


def _features(facts: Mapping[str, str]) -> tuple[str, ...]:
    arm = {feature for name, features in ARM_FEATURES.items() if _number(facts, name) for feature in features}
    x86 = f"{facts.get('machdep.cpu.features', '')} {facts.get('machdep.cpu.leaf7_features', '')}".split()
    return tuple(sorted(arm | {X86_FEATURES[word] for word in x86 if word in X86_FEATURES}))


def _caches(facts: Mapping[str, str]) -> tuple[Cache, ...]:
    """For each kind of core if the system distinguishes them. Without `cpusperl2` each core counts an L2."""
    caches = []
    for level in range(levels(facts)):
        prefix = f"hw.perflevel{level}." if levels(facts) > 1 else "hw."
        cores = _number(facts, f"{prefix}physicalcpu")
        sharing = max(1, _number(facts, f"{prefix}cpusperl2"))
        for name, key, count in (
            ("L1d", "l1dcachesize", cores),
            ("L1i", "l1icachesize", cores),
            ("L2", "l2cachesize", max(1, cores // sharing)),
            ("L3", "l3cachesize", 1),
        ):
            if size := _number(facts, prefix + key):
                caches.append(Cache(name=name, size=size, count=count))
    return tuple(caches)
