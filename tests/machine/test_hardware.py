"""Hardware facts from constructed file trees, sysctl output and binary records, and from this machine."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from machines import MACHINES, S1_MINI
from saywell.machine import GIB, Cpu, Gpu, Hardware, Limits, Runtime, cgroup, detect, devices, macos, windows
from saywell.machine.sensors import nvidia
from saywell.machine.tier import cpu_tier, fanless
from saywell.plan.plan import make_plan
from saywell.runtimes import torch
from saywell.settings import Settings
from trees import MOUNT_V2, tree, v1_mount


def x86(count: int, flags: str = "fpu avx avx2 fma avx_vnni", model: str = "Intel(R) Core(TM) i5-1334U") -> str:
    block = "processor\t: {}\nvendor_id\t: GenuineIntel\nmodel name\t: {}\nflags\t\t: {}\n"
    return "\n".join(block.format(cpu, model, flags) for cpu in range(count))


def topology(cores: list[list[int]]) -> dict[str, str]:
    return {
        f"sys/devices/system/cpu/cpu{cpu}/topology/{name}": text
        for core in cores
        for cpu in core
        for name, text in (("thread_siblings_list", ",".join(map(str, core))), ("physical_package_id", "0"))
    }


HYBRID = {
    "proc/cpuinfo": x86(12),
    "proc/meminfo": "MemTotal:        8000000 kB\nMemFree:  100 kB\nMemAvailable:    5000000 kB\n",
    "proc/self/status": "Name:\tx\nCpus_allowed_list:\t0-11\n",
    "sys/devices/system/cpu/online": "0-11\n",
    "sys/devices/cpu_core/cpus": "0-3\n",
    "sys/devices/cpu_atom/cpus": "4-11\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "4600000\n",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1",
    "sys/devices/system/cpu/cpu0/cache/index0/type": "Data",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K",
    "sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list": "0-1",
    "sys/devices/system/cpu/cpu2/cache/index0/level": "1",
    "sys/devices/system/cpu/cpu2/cache/index0/type": "Data",
    "sys/devices/system/cpu/cpu2/cache/index0/size": "48K",
    "sys/devices/system/cpu/cpu2/cache/index0/shared_cpu_list": "2-3",
    "sys/devices/system/cpu/cpu0/cache/index3/level": "3",
    "sys/devices/system/cpu/cpu0/cache/index3/type": "Unified",
    "sys/devices/system/cpu/cpu0/cache/index3/size": "12288K",
    "sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list": "0-11",
    "sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "sys/class/dmi/id/product_name": "83A1\n",
    **topology([[0, 1], [2, 3], *([cpu] for cpu in range(4, 12))]),
}


def test_hybrid_intel(tmp_path: Path) -> None:
    hardware = detect(tree(tmp_path, HYBRID))
    cpu = hardware.cpu
    assert (cpu.physical, cpu.logical, cpu.performance, cpu.efficiency) == (10, 12, 2, 8)
    assert (cpu.performance_cpus, cpu.efficiency_cpus) == ((0, 2), tuple(range(4, 12)))
    assert [(item.name, item.size, item.count) for item in cpu.caches] == [("L1d", 49152, 2), ("L3", 12582912, 1)]
    assert cpu.max_mhz == 4600
    assert cpu.features == ("avx", "avx2", "avx_vnni", "fma")
    assert (hardware.arch, hardware.product) == ("x86_64", "LENOVO 83A1")
    assert hardware.memory == 8_000_000 * 1024
    assert (hardware.cpu_tier, hardware.usable_cpus, hardware.usable_cores, hardware.contained) == (
        "i5_baseline",
        12,
        2,
        False,
    )


def test_affinity_counts_cores_not_threads(tmp_path: Path) -> None:
    allowed = HYBRID | {"proc/self/status": "Cpus_allowed_list:\t0-1,4\n"}
    hardware = detect(tree(tmp_path, allowed))
    assert hardware.limits.cpus == (0, 1, 4)
    assert (hardware.usable_cpus, hardware.usable_cores) == (3, 1)


@pytest.mark.parametrize(("allowed", "cores"), [("0,3", 2), ("1,3", 2), ("1", 1), ("0-1", 1), ("0-3", 2), ("3,8", 1)])
def test_core_counts_if_any_of_its_threads_is_allowed(tmp_path: Path, allowed: str, cores: int) -> None:
    hardware = detect(tree(tmp_path, HYBRID | {"proc/self/status": f"Cpus_allowed_list:\t{allowed}\n"}))
    assert hardware.usable_cores == cores
    assert hardware.cpu.performance == 2


def test_dense_amd_cores_are_performance_cores(tmp_path: Path) -> None:
    """Ryzen AI 9 HX 370: four Zen 5 cores up to 5.1 GHz, eight Zen 5c cores up to 3.3."""
    flags = "fpu avx avx2 fma avx512f avx512_vnni"
    files = {"proc/cpuinfo": x86(12, flags, "AMD Ryzen AI 9 HX 370").replace("GenuineIntel", "AuthenticAMD")}
    for cpu in range(12):
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq"] = "5157000" if cpu < 4 else "3300000"
    hardware = detect(tree(tmp_path, {"sys/devices/system/cpu/online": "0-11\n", **files}))
    assert (hardware.cpu.performance, hardware.cpu.efficiency, hardware.usable_cores) == (12, 0, 12)


def test_plan_uses_efficiency_cores_with_a_single_performance_core(tmp_path: Path) -> None:
    hardware = detect(tree(tmp_path, HYBRID | {"proc/self/status": "Cpus_allowed_list:\t1,4-6\n"}))
    plan = make_plan(Settings(), replace(hardware, runtimes={"onnxruntime": Runtime(version="1.30.0")}), S1_MINI)
    assert plan.threads == 4


def test_only_efficiency_cores_allowed(tmp_path: Path) -> None:
    hardware = detect(tree(tmp_path, HYBRID | {"proc/self/status": "Cpus_allowed_list:\t8-9\n"}))
    assert (hardware.usable_cpus, hardware.usable_cores) == (2, 2)


def arm(parts: list[str], extra: str = "") -> str:
    block = "processor\t: {}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: {}\n"
    return "\n".join(block.format(cpu, part) for cpu, part in enumerate(parts)) + f"\n{extra}"


def test_raspberry_pi(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": arm(["0xd0b"] * 4, "Revision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"),
        "proc/meminfo": "MemTotal: 8245360 kB\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "sys/devices/system/cpu/online": "0-3",
    }
    hardware = detect(tree(tmp_path, files))
    assert (hardware.arch, hardware.cpu.model, hardware.cpu.vendor) == ("arm64", "ARM Cortex-A76", "ARM")
    assert hardware.product == "Raspberry Pi 5 Model B Rev 1.0"
    assert hardware.cpu.features == ("asimd", "asimddp", "neon")
    assert (hardware.cpu.performance, hardware.cpu.efficiency, hardware.cpu_tier) == (4, 0, "arm_board")


def test_arm_big_little_by_capacity(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": arm(["0xd05"] * 4 + ["0xd0b"] * 2), "sys/devices/system/cpu/online": "0-5"}
    for cpu in range(6):
        files[f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity"] = "1024" if cpu > 3 else "530"
    cpu = detect(tree(tmp_path, files)).cpu
    assert (cpu.performance_cpus, cpu.efficiency_cpus) == ((4, 5), (0, 1, 2, 3))
    assert cpu.model == "ARM Cortex-A55 + ARM Cortex-A76"


@pytest.mark.parametrize(("slow", "efficient"), [("5000000", 0), ("3000000", 2)])
def test_clock_distinguishes_core_kinds_only_by_a_large_difference(tmp_path: Path, slow: str, efficient: int) -> None:
    files = {"proc/cpuinfo": x86(4, model="AMD Ryzen 5 7545U"), "sys/devices/system/cpu/online": "0-3"}
    for cpu in range(4):
        path = f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq"
        files[path] = "5200000" if cpu < 2 else slow
    assert detect(tree(tmp_path, files)).cpu.efficiency == efficient


def test_empty_tree_gives_default_facts(tmp_path: Path) -> None:
    hardware = detect(tmp_path)
    assert hardware.usable_cpus == 1
    assert hardware.cpu.features == ()
    assert hardware.memory > 0
    assert Hardware.from_json(hardware.to_json()) == hardware


# -- control groups


def v2(levels: dict[str, dict[str, str]], own: str) -> dict[str, str]:
    files = {
        "proc/self/cgroup": f"0::{own}\n",
        "proc/self/mountinfo": MOUNT_V2,
        "proc/meminfo": "MemTotal: 65536000 kB\n",
    }
    for group, values in levels.items():
        files |= {f"sys/fs/cgroup{group}/{name}": value for name, value in values.items()}
    return files


def test_v2_takes_the_tightest_level(tmp_path: Path) -> None:
    levels = {
        "/pod": {"memory.max": f"{2 * GIB}\n", "cpu.max": "400000 100000\n", "memory.current": "100\n"},
        "/pod/box": {"memory.max": "max\n", "cpu.max": "150000 100000\n", "cpuset.cpus.effective": "0-1\n"},
    }
    root = tree(tmp_path, v2(levels, "/pod/box") | {"proc/cpuinfo": x86(8)})
    limits = detect(root).limits
    assert (limits.cgroup, limits.memory, limits.quota, limits.cpus) == ("v2", 2 * GIB, 1.5, (0, 1))
    assert detect(root).usable_cpus == 1


def test_v2_memory_high_is_a_limit_and_max_means_none(tmp_path: Path) -> None:
    levels = {"/a": {"memory.max": f"{4 * GIB}", "memory.high": f"{3 * GIB}", "cpu.max": "max 100000"}}
    root = tree(tmp_path, v2(levels, "/a"))
    assert cgroup.memory_limit(root) == 3 * GIB
    assert cgroup.cpu_quota(root) is None


def test_v2_root_of_a_namespace(tmp_path: Path) -> None:
    root = tree(tmp_path, v2({"": {"memory.max": f"{GIB}", "cpu.max": "50000 100000"}}, "/"))
    assert cgroup.memory_limit(root) == GIB
    assert detect(root).usable_cpus == 1
    assert detect(root).limits.quota == 0.5


def test_v2_group_outside_the_mount_falls_back_to_the_mount(tmp_path: Path) -> None:
    root = tree(tmp_path, v2({"": {"memory.max": f"{GIB}"}}, "/../../other"))
    assert cgroup.memory_limit(root) == GIB


def test_v1_nested_inside_a_container(tmp_path: Path) -> None:
    own = "/docker/abc/worker"
    files = {
        "proc/self/cgroup": f"4:memory:{own}\n2:cpu,cpuacct:{own}\n3:cpuset:{own}\n",
        "proc/self/mountinfo": v1_mount("memory", "/docker/abc")
        + v1_mount("cpu", "/docker/abc")
        + v1_mount("cpuset", "/docker/abc"),
        "proc/meminfo": "MemTotal: 65536000 kB\n",
        "proc/cpuinfo": x86(64),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory/worker/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/worker/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/worker/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpuset/worker/cpuset.cpus": "4-7\n",
    }
    hardware = detect(tree(tmp_path, files))
    assert (hardware.limits.cgroup, hardware.limits.memory, hardware.limits.quota) == ("v1", 4 * GIB, 2.5)
    assert (hardware.limits.cpus, hardware.usable_cpus, hardware.contained) == ((4, 5, 6, 7), 2, True)


def test_limit_above_the_memory_is_ignored(tmp_path: Path) -> None:
    hardware = detect(tree(tmp_path, v2({"/a": {"memory.max": f"{900 * GIB}"}}, "/a")))
    assert hardware.limits.memory is None
    assert not hardware.contained


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,8", (0, 1, 2, 3, 8)), ("5", (5,)), ("", ()), ("\n", ()), ("nonsense", ()), ("1,x,3", (1, 3))],
)
def test_cpu_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert cgroup.parse_cpus(text) == cpus


# -- macOS

M1 = """hw.ncpu: 8
hw.packages: 1
hw.physicalcpu: 8
hw.logicalcpu: 8
hw.model: MacBookAir10,1
hw.nperflevels: 2
hw.perflevel0.physicalcpu: 4
hw.perflevel0.cpusperl2: 4
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 12582912
hw.perflevel1.physicalcpu: 4
hw.perflevel1.cpusperl2: 4
hw.perflevel1.l2cachesize: 4194304
hw.optional.AdvSIMD: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_BF16: 0
machdep.cpu.brand_string: Apple M1
"""


def test_macos_m1() -> None:
    facts = macos.parse(M1)
    cpu = macos.read_cpu(facts)
    assert (cpu.model, cpu.performance, cpu.efficiency, cpu.physical, cpu.logical) == ("Apple M1", 4, 4, 8, 8)
    assert cpu.features == ("asimd", "asimddp", "neon")
    assert [(item.name, item.count) for item in cpu.caches] == [("L1d", 4), ("L2", 1), ("L2", 1)]
    assert macos.read_product(facts) == "MacBookAir10,1"


def test_macos_intel() -> None:
    cpu = macos.read_cpu(
        macos.parse(
            "hw.physicalcpu: 4\nhw.logicalcpu: 8\nhw.l2cachesize: 262144\n"
            "machdep.cpu.brand_string: Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz\nmachdep.cpu.vendor: GenuineIntel\n"
            "machdep.cpu.features: FPU SSE4.2 FMA AVX1.0\nmachdep.cpu.leaf7_features: BMI1 AVX2\n"
        )
    )
    assert (cpu.performance, cpu.efficiency, cpu.logical) == (4, 0, 8)
    assert cpu.features == ("avx", "avx2", "fma", "sse4_2")


# -- Windows


def relation(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, 8 + len(body)) + body


def core(efficiency: int, mask: int, group: int = 0) -> bytes:
    return relation(0, struct.pack("<BB20xH", 0, efficiency, 1) + struct.pack("<QH6x", mask, group))


def cache(level: int, size: int, kind: int) -> bytes:
    return relation(2, struct.pack("<BBHII", level, 8, 64, size, kind) + bytes(40))


def test_windows_records() -> None:
    buffer = core(1, 0b11) + core(1, 0b1100) + core(0, 0b10000) + core(0, 0b100000) + core(0, 1, group=1)
    buffer += cache(1, 49152, 2) + cache(1, 49152, 2) + cache(3, 12 << 20, 0) + relation(3, bytes(40))
    cpu = windows.describe(windows.parse(buffer), model="i5", vendor="GenuineIntel", mhz=1300, features=("avx2",))
    assert (cpu.physical, cpu.logical, cpu.performance, cpu.efficiency, cpu.sockets) == (5, 7, 2, 3, 1)
    assert (cpu.performance_cpus, cpu.efficiency_cpus) == ((0, 2), (4, 5, 64))
    assert [(item.name, item.size, item.count) for item in cpu.caches] == [("L1d", 49152, 2), ("L3", 12 << 20, 1)]


def test_truncated_windows_record_ends_parsing() -> None:
    assert len(windows.parse(core(0, 1) + struct.pack("<II", 0, 0)).cores) == 1


# -- GPUs and runtimes


class FakeNvml:
    """The used part of pynvml, with one GPU."""

    class NVMLError(Exception):
        pass

    def __init__(self, fail: str = "") -> None:
        self.fail = fail
        self.closed = 0

    def nvmlInit(self) -> None:
        if self.fail == "init":
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlDeviceGetCount(self) -> int:
        if self.fail == "count":
            raise self.NVMLError("GPU is lost")
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, device: int) -> bytes:
        return b"NVIDIA GeForce RTX 4090"

    def nvmlDeviceGetMemoryInfo(self, device: int) -> object:
        return type("Memory", (), {"total": 24 * GIB})

    def nvmlDeviceGetCudaComputeCapability(self, device: int) -> tuple[int, int]:
        return 8, 9

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"


def install(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, driver: bool = True) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(nvidia, "driver_present", lambda: driver)


def test_gpu_facts_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    install(monkeypatch, nvml)
    gpu = Gpu(name="NVIDIA GeForce RTX 4090", memory=24 * GIB, capability=(8, 9), driver="580.95.05")
    assert devices.read_gpus() == ((gpu,), "")
    assert nvml.closed == 1


@pytest.mark.parametrize(
    ("fail", "driver", "note"),
    [("init", True, "Driver Not Loaded"), ("init", False, "no NVIDIA driver"), ("count", True, "GPU is lost")],
)
def test_failing_driver_gives_a_note(monkeypatch: pytest.MonkeyPatch, fail: str, driver: bool, note: str) -> None:
    install(monkeypatch, FakeNvml(fail), driver)
    gpus, reason = devices.read_gpus()
    assert gpus == ()
    assert note in reason


def test_note_without_the_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(nvidia, "driver_present", lambda: True)
    assert "saywell[nvidia]" in devices.read_gpus()[1]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", ("cpu",)),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", ("cpu", "cuda")),
        ("cuda = None\nhip = '6.4'\n", ("cpu", "rocm")),
    ],
)
def test_torch_is_described_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, build: str, expected: tuple[str, ...]
) -> None:
    (tmp_path / "version.py").write_text(build)
    origin = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(torch.util, "find_spec", lambda name: origin)
    monkeypatch.setattr(torch, "installed_version", lambda name: "2.13.0")
    monkeypatch.setattr(torch.sys, "platform", "linux")
    assert torch.detect() == ("2.13.0", expected)


# -- this machine


def test_this_machine() -> None:
    hardware = detect()
    assert Hardware.from_json(hardware.to_json()) == hardware
    assert hardware.fingerprint() == detect().fingerprint()
    assert 1 <= hardware.usable_cores <= hardware.usable_cpus <= hardware.cpu.logical
    assert 0 < hardware.usable_memory <= hardware.memory
    assert "cpu" in hardware.runtimes["onnxruntime"].devices


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_affinity_of_this_process_limits_usable_cpus() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert detect().usable_cpus == 1
    finally:
        os.sched_setaffinity(0, before)


def test_detect_does_not_import_torch() -> None:
    import subprocess

    code = "import sys; from saywell.machine import detect; detect(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- recorded machines


@pytest.mark.parametrize("file", MACHINES, ids=lambda file: file.stem)
def test_recorded_machines_load_and_are_consistent(file: Path) -> None:
    hardware = Hardware.from_json(file.read_bytes())
    assert Hardware.from_json(hardware.to_json()) == hardware
    assert hardware.cpu.performance + hardware.cpu.efficiency == hardware.cpu.physical <= hardware.cpu.logical
    assert hardware.cpu_tier != "unknown"


def test_fingerprints_of_recorded_machines_differ() -> None:
    prints = {Hardware.from_json(file.read_bytes()).fingerprint() for file in MACHINES}
    assert len(prints) == len(MACHINES) >= 6


def test_fingerprint_depends_only_on_facts_relevant_for_speed() -> None:
    one = Hardware.from_json(MACHINES[0].read_bytes())
    same = replace(one, python="3.10.0", memory=one.memory + (8 << 20), thermal=())
    assert same.fingerprint() == one.fingerprint()
    for other in (
        replace(one, limits=replace(one.limits, quota=1.0)),
        replace(one, limits=replace(one.limits, memory=GIB)),
        replace(one, runtimes={"onnxruntime": Runtime(version="9")}),
        replace(one, cpu=replace(one.cpu, features=("avx2",))),
    ):
        assert other.fingerprint() != one.fingerprint()


def test_json_is_strict() -> None:
    with pytest.raises(msgspec.ValidationError, match="os"):
        Hardware.from_json(MACHINES[0].read_text().replace('"os": "linux"', '"os": "amiga"'))


def machine(model: str, product: str = "", arch: str = "x86_64", physical: int = 4) -> Hardware:
    cpu = Cpu(model=model, vendor="", sockets=1, physical=physical, logical=8, performance=physical, efficiency=0)
    return Hardware(os="other", arch=arch, python="", product=product, cpu=cpu, memory=GIB, limits=Limits())


@pytest.mark.parametrize(
    ("model", "tier"),
    [
        ("Intel(R) Core(TM) i3-1115G4 @ 3.00GHz", "low_end"),
        ("Intel(R) Core(TM) i5-7200U CPU @ 2.50GHz", "low_end"),
        ("Intel(R) Core(TM) i5 CPU         750  @ 2.67GHz", "low_end"),
        ("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "i5_baseline"),
        ("13th Gen Intel(R) Core(TM) i5-1334U", "i5_baseline"),
        ("12th Gen Intel(R) Core(TM) i5-1235U", "i5_baseline"),
        ("Intel(R) Core(TM) Ultra 5 125U", "i5_baseline"),
        ("Intel(R) Core(TM) i7-7700 CPU @ 3.60GHz", "i5_baseline"),
        ("Intel(R) Core(TM) i7-10750H CPU @ 2.60GHz", "intel_high_end"),
        ("13th Gen Intel(R) Core(TM) i9-13900K", "intel_high_end"),
        ("Intel(R) Core(TM) Ultra 9 285K", "intel_high_end"),
        ("Intel(R) Celeron(R) N5105 @ 2.00GHz", "low_end"),
        ("Intel(R) N100", "low_end"),
        ("Intel(R) Xeon(R) Platinum 8488C", "server"),
        ("AMD EPYC 9R14", "server"),
        ("AMD Ryzen 3 3200U with Radeon Vega Mobile Gfx", "low_end"),
        ("AMD Ryzen 5 5600X 6-Core Processor", "ryzen_5"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "ryzen_high_end"),
        ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", "ryzen_high_end"),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "ryzen_high_end"),
        ("VIA Nano", "unknown"),
    ],
)
def test_tiers(model: str, tier: str) -> None:
    assert cpu_tier(machine(model)) == tier


@pytest.mark.parametrize(
    ("model", "product", "tier", "hot"),
    [
        ("Apple M1", "MacBookAir10,1", "m1_air", True),
        ("Apple M2", "Mac14,2", "m2_air", True),
        ("Apple M3", "Mac15,3", "m3", False),
        ("Apple M1 Pro", "MacBookPro18,3", "m1_pro", False),
        ("Apple M3 Max", "Mac15,8", "m3_max", False),
        ("ARM Neoverse-V1", "Amazon EC2 c7g.xlarge", "arm_server", False),
        ("ARM Cortex-A76", "Raspberry Pi 5", "arm_board", False),
        ("Snapdragon(R) X Elite - X1E80100", "", "arm_laptop", False),
    ],
)
def test_arm_tiers(model: str, product: str, tier: str, hot: bool) -> None:
    hardware = machine(model, product, "arm64")
    assert (cpu_tier(hardware), fanless(hardware)) == (tier, hot)
