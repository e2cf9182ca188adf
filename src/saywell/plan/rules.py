"""Rules of the plan before anything is measured. Pure functions: facts → (value, reason)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from saywell.machine import CPU
from saywell.machine.tier import fanless
from saywell.plan import defaults, memory
from saywell.plan.memory import MIB, mb
from saywell.runtimes import runtimes

if TYPE_CHECKING:
    from saywell.machine import Device, Gpu, Hardware
    from saywell.plan.defaults import Prior
    from saywell.types import ModelSpec, Variant

T = TypeVar("T")
Reasoned = tuple[T, str]
"""A value and its reason."""
GIB = 1 << 30
SMALL_MEMORY = 6 * GIB
"""Below this, 4-bit weights if the model has them."""
MAX_PROCESSES = 8
MAX_THREADS = 16
MAX_BATCH = {"cpu": 8, "mps": 8, "cuda": 16}
"""Batch size beyond which no gain is expected, by device kind."""
MANY_SLOW = 2
"""Efficiency cores per performance core above which using all cores is faster."""
OLDEST_CUDA = (7, 0)


@dataclass(frozen=True, slots=True)
class PlanContext:
    """A machine, a model, and whether its worker runs in another Python environment."""

    hardware: Hardware
    spec: ModelSpec
    foreign: bool = False

    # -- what is possible

    @property
    def single(self) -> bool:
        return self.spec.kind == "single-shot"

    def lacks(self, device: Device) -> str:
        """Why a GPU cannot run this model; empty if it can."""
        if device not in self.hardware.devices:
            return self._absent(device)
        drive = [variant for variant in self.spec.variants if device.kind in variant.devices]
        if not drive:
            return f"{self.spec.name} has no executor for it (it has {', '.join(self.spec.executors)})"
        if not any(self.installed(variant, device) for variant in drive):
            package = drive[0].package
            return f"the {package} package for {device} is not installed (pip install 'saywell[{package}]')"
        gpu = self.hardware.gpu(device)
        if gpu is not None and gpu.capability < OLDEST_CUDA:
            return f"its compute capability {dotted(gpu)} is below {OLDEST_CUDA[0]}.{OLDEST_CUDA[1]}"
        lightest = min(self.variants(device) or drive, key=lambda variant: variant.weight_bytes)
        need, have = memory.fixed_bytes(self.spec, lightest) * 5 // 4, self.hardware.memory_of(device)
        return "" if need <= have else f"the model needs {mb(need)} and it has {mb(have)}"

    def _absent(self, device: Device) -> str:
        """Why this machine does not have a device."""
        if device.kind == "cuda" and self.hardware.gpus:
            there = ", ".join(str(each) for each in sorted(self.hardware.devices, key=str) if each.kind == "cuda")
            return f"this machine has {there}"
        if device.kind == "cuda":
            return self.hardware.gpu_note or "this machine has no NVIDIA GPU"
        return "this machine has no Apple GPU" if device.kind == "mps" else f"there is no device {device.kind}"

    def variants(self, device: Device, executor: str = "") -> list[Variant]:
        """Variants that this machine can run on a device, best first."""
        return [
            variant
            for variant in self.spec.variants
            if device.kind in variant.devices
            and executor in ("", variant.executor)
            and self.installed(variant, device)
            and all(map(self.meets, variant.requires))
        ]

    def executors(self, device: Device) -> list[str]:
        """Installed executors that run the model on a device, best first."""
        return list(dict.fromkeys(variant.executor for variant in self.variants(device)))

    def installed(self, variant: Variant, device: Device) -> bool:
        """Whether the package that runs a variant is installed with support for a device."""
        if not variant.package or self.foreign:
            return True  # packages of another interpreter are unknown here; its worker reports missing ones
        runtime = self.hardware.runtimes.get(variant.package)
        return runtime is not None and (device.kind == "cpu" or device.kind in runtime.devices)

    def meets(self, required: str) -> bool:
        """Whether the machine has a trait, or this interpreter a package release (`name>=1.2`)."""
        package, newer, release = required.partition(">=")
        if not newer:
            return required in self.hardware.traits
        runtime = None if self.foreign else self.hardware.runtimes.get(package)
        return runtime is not None and _release(runtime.version) >= _release(release)

    def missing(self, executor: str = "") -> str:
        """What to install so that an executor (default: any) can run; empty if nothing is missing."""
        wanted = [each for each in self.spec.variants if executor in ("", each.executor) and "cpu" in each.devices]
        packages = list(dict.fromkeys(each.package for each in wanted if not self.installed(each, CPU)))
        for package in packages:
            if why := self.hardware.damaged.get(package):
                return f"the Python package {package} is damaged ({why}): pip install --force-reinstall {package}"
        return f"install the Python package {' or '.join(packages)}" if packages else ""

    @property
    def prior(self) -> Prior:
        return defaults.prior(self.hardware)

    @property
    def weak(self) -> bool:
        """A processor with little sustained performance."""
        return defaults.power(self.hardware) == defaults.SMALL

    def least(self, variant: Variant, max_frames: int) -> int:
        """Bytes certainly needed: weights and one slot, without the estimated overhead."""
        return self.need(variant, 1, max_frames) - self.spec.overhead_bytes

    def need(self, variant: Variant, slots: int, max_frames: int) -> int:
        """Bytes needed with a number of slots."""
        each = memory.per_slot_bytes(self.spec, variant, max_frames)
        return memory.fixed_bytes(self.spec, variant) + slots * each

    def by_precision(self, device: Device, executor: str) -> dict[str, Variant]:
        """The best variant of each precision, best precision first."""
        found: dict[str, Variant] = {}
        for variant in self.variants(device, executor):
            found.setdefault(variant.precision, variant)
        return found

    # -- where and by what

    def device(self) -> Reasoned[Device]:
        notes = []
        for device in self.hardware.devices[:-1]:
            missing = self.lacks(device)
            if not missing:
                return device, self._about(device)
            notes.append(f"{self._about(device)} is not used: {missing}")
        return CPU, "; ".join(notes) or "no usable GPU"

    def _about(self, device: Device) -> str:
        if gpu := self.hardware.gpu(device):
            return f"{gpu.name} (compute capability {dotted(gpu)}, {mb(gpu.memory)})"
        return f"the GPU of the {self.hardware.cpu.model}"

    def executor(self, device: Device) -> Reasoned[str]:
        best = self.variants(device)[0]
        return best.executor, best.about or "the model's preferred executor"

    def compiles(self, executor: str) -> bool:
        """Whether the runtime of an executor compiles kernels."""
        compiling = {runtime.package for runtime in runtimes() if runtime.compiles}
        return any(variant.executor == executor and variant.package in compiling for variant in self.spec.variants)

    def compile(self, device: Device, executor: str) -> Reasoned[str]:
        if not self.compiles(executor):
            return "disabled", f"the executor {executor} has nothing to compile"
        if self.hardware.os != "linux":
            return "eager", f"{executor} compiles kernels on Linux only"
        if device.kind == "cuda":
            return "inductor", "fused kernels and CUDA graphs remove launch overhead"
        if defaults.power(self.hardware) == defaults.HIGH:
            return "inductor", "a fast CPU recovers the compile time"
        return "disabled", "compile time exceeds the gain on this CPU"

    # -- memory and precision

    def budget(self, device: Device) -> Reasoned[int]:
        if gpu := self.hardware.gpu(device):
            return gpu.memory * 9 // 10, f"90 % of the {mb(gpu.memory)} on the {gpu.name}"
        total, prior = self.hardware.usable_memory, self.prior
        if total < self.hardware.memory:
            budget = max(MIB, total - prior.margin - memory.SERVER)
            return (
                budget,
                f"90 % of the container limit of {mb(total)}, less {mb(memory.SERVER)} for the server process",
            )
        budget = total - prior.reserve - prior.margin
        why = f"{mb(total)} less {mb(prior.reserve)} for the system and {mb(prior.margin)} kept free"
        if device.kind == "mps" and budget > total * 2 // 3:
            return total * 2 // 3, f"two thirds of the {mb(total)}: Metal limits what one process may keep resident"
        return budget, why

    def precision(self, device: Device, executor: str, budget: int, max_frames: int) -> Reasoned[str]:
        there = self.by_precision(device, executor)
        fitting = [name for name, variant in there.items() if self.need(variant, 1, max_frames) <= budget]
        if not fitting:
            return lightest(there), "the smallest available"
        if device.kind != "cuda":
            most = self.prior.model
            fitting = [name for name in fitting if there[name].weight_bytes <= most] or fitting
        for name, why in self._preferred(device):
            if name in fitting:
                return name, why
        return fitting[0], "the only one available" if len(there) == 1 else "the best one that fits"

    def _preferred(self, device: Device) -> list[Reasoned[str]]:
        if gpu := self.hardware.gpu(device):
            native = gpu.capability >= (8, 0)
            bf16 = [("bf16", f"compute capability {dotted(gpu)} supports bf16 in hardware")] if native else []
            return [*bf16, ("fp16", "half the memory traffic of fp32")]
        if device.kind == "mps":
            return [("fp16", "half the memory traffic of fp32")]
        if self.single:
            return []
        int8 = ("int8", "a CPU is bound by memory bandwidth, and int8 reads a quarter of fp32")
        if self.hardware.usable_memory < SMALL_MEMORY:
            return [("int4", f"less than {mb(SMALL_MEMORY)} of memory"), int8]
        return [int8]

    @property
    def keeps_nothing(self) -> str:
        """Why the model has no caches; empty if it has some."""
        return "" if self.spec.clones else f"{self.spec.name} does not clone voices, so there is nothing to cache"

    def cache_entries(self, device: Device) -> Reasoned[int]:
        if self.keeps_nothing:
            return 0, self.keeps_nothing
        if device.kind == "cuda":
            return 100, "a GPU usually serves many voices"
        return self.prior.cache_entries, "default for this class of machine"

    def cache_bytes(self, device: Device, left: int) -> Reasoned[int]:
        """`left`: bytes of the budget besides the model and one slot."""
        if self.keeps_nothing:
            return 0, self.keeps_nothing
        gpu = self.hardware.gpu(device)
        most = gpu.memory // 8 if gpu is not None else self.prior.cache
        if left // 4 < most:
            return max(0, left // 4), "a quarter of the memory budget left by the model"
        return most, "default for this class of machine"

    def thermal(self, device: Device) -> Reasoned[bool]:
        if device.kind == "cuda":
            return True, "the GPU reports its temperature"
        if self.hardware.thermal:
            return True, f"sensors: {', '.join(self.hardware.thermal)}"
        if fanless(self.hardware):
            return True, "no fan: sustained load throttles this machine, and macOS reports it"
        return True, "no temperature sensor found; throttling reported by the system still counts"

    # -- how many

    def threads(self, device: Device, executor: str, affinity: tuple[int, ...]) -> Reasoned[int]:
        cores, limits, most = self.hardware.usable_cores, self.hardware.limits, self.spec.max_threads or MAX_THREADS
        if executor == "process":
            return 1, "each process uses one thread"
        if device.kind == "cpu" and most < min(cores, MAX_THREADS):
            return most, f"{self.spec.name} does not gain from more"
        if device.kind != "cpu":
            return min(4, cores), "the CPU only prepares text and encodes audio"
        if affinity:
            return min(len(affinity), self.hardware.usable_cpus), "one per CPU of the affinity"
        if limits.quota is not None and self.hardware.usable_cpus == max(1, int(limits.quota)):
            cores = self.hardware.usable_cpus
            return min(cores, most), f"the container's quota of {limits.quota:g} CPUs, rounded down"
        fast, slow = len(self.cores("fast")), len(self.cores("slow"))
        if slow > MANY_SLOW * fast:
            why = f"{fast} performance and {slow} efficiency cores: together they are faster"
            return min(fast + slow, self.hardware.usable_cpus, most), why
        kind = "performance cores" if self.hardware.cpu.efficiency else "cores"
        return min(cores, most), f"{cores} usable {kind}; hyper-threads add little to arithmetic"

    def cores(self, kind: Literal["fast", "slow"]) -> tuple[int, ...]:
        """The first allowed logical CPU of each core of a kind; () if the kinds are unknown."""
        cpu, allowed = self.hardware.cpu, set(self.hardware.limits.cpus)
        found = cpu.performance_cpus if kind == "fast" else cpu.efficiency_cpus
        return tuple(each for each in found if not allowed or each in allowed)

    def affinities(self, threads: int) -> tuple[tuple[int, ...], ...]:
        """Candidate pinnings of a number of threads, to be measured by `tune`; () where pinning is impossible.

        Performance cores of a hybrid processor; one CPU per core with hyper-threading.
        """
        limits = self.hardware.limits
        if self.hardware.os == "darwin" or limits.quota is not None:
            return ()
        fast, slow = self.cores("fast"), self.cores("slow")
        ways = [fast] if slow else []
        ways.append((*fast, *slow))
        return tuple(dict.fromkeys(way[:threads] for way in ways if len(way) >= threads > 0))

    def affinity(self, device: Device, executor: str, threads: int) -> Reasoned[tuple[int, ...]]:
        """Pins without a measurement only on hybrid processors with a performance core per thread: a thread on an
        efficiency core would delay the others."""
        if self.hardware.os == "darwin":
            return (), "macOS does not support pinning"
        if self.hardware.limits.quota is not None:
            return (), "a CPU quota is not tied to particular CPUs"
        fast, slow = self.cores("fast"), self.cores("slow")
        if slow and device.kind == "cpu" and executor != "process" and threads <= len(fast):
            return fast, "one performance core per thread: a thread on an efficiency core would delay the others"
        if slow:
            where = "the performance cores"
        elif self.hardware.cpu.logical > self.hardware.cpu.physical:
            where = "one CPU per core"
        else:
            where = "one CPU each"
        return (), f"scheduled by the system; `saywell tune` measures whether pinning to {where} helps"

    def slots(self, device: Device, executor: str, fit: int) -> Reasoned[int]:
        cpus = self.hardware.usable_cpus
        if executor == "process":
            want, why = min(cpus, MAX_PROCESSES), f"one process per usable CPU, at most {MAX_PROCESSES}"
        elif device.kind == "cpu":
            want, why = MAX_BATCH["cpu"], "a batch reads the weights once per step"
        else:
            want, why = MAX_BATCH[device.kind], "a GPU runs a batch in nearly the time of one sequence"
        return (want, why) if want <= fit else (fit, "limited by the memory budget")

    def parallel_chunks(self, slots: int) -> Reasoned[int]:
        if not self.single:
            return max(1, slots // 2), "half the slots for one request, half for others"
        return min(2, slots), "the next chunk is ready when the current one ends" if slots > 1 else "one slot"

    def queue(self, slots: int) -> Reasoned[int]:
        if self.single:
            return max(16, 2 * slots), "2 × slots, at least 16; a request takes a fraction of a second"
        return max(4, 2 * slots), "2 × slots, at least 4; beyond that clients get 429 rather than a long wait"

    # -- lengths

    def chunk_chars(self, device: Device) -> Reasoned[int]:
        if not self.single and fanless(self.hardware):
            return 100, "about 7 s of speech: short bursts, because this machine has no fan"
        if not self.single and device.kind == "cpu" and self.weak:
            return 100, "about 7 s of speech: a small KV cache and early audio on a slow CPU"
        if not self.single and device.kind == "cpu":
            return 200, "about 13 s of speech: a small KV cache and fair scheduling on a CPU"
        if self.spec.whole:
            return 150, "about 10 s of speech: memory grows with it, and several are made at the same time"
        return 300, "about 20 s of speech: long enough for natural prosody"

    def first_chunk_chars(self, chunk_chars: int) -> Reasoned[int]:
        if self.spec.whole:
            return min(60, chunk_chars), "nothing is heard before all of a chunk is made: the first one is a clause"
        return min(100 if self.single else 80, chunk_chars), "a short first chunk gives early audio"

    def max_frames(self, chunk_chars: int) -> Reasoned[int]:
        if self.single:
            return 1_000_000, "a single-shot model always ends"
        seconds = 2 + chunk_chars * memory.SECONDS_PER_CHAR
        frames = round(seconds * self.spec.frame_rate)
        why = f"{seconds:.0f} s of speech, three times what {chunk_chars} characters need; longer means a loop"
        return min(frames, self.spec.max_context or frames), why

    def max_text_chars(self, device: Device) -> Reasoned[int]:
        if not self.single and device.kind == "cpu" and self.weak:
            return 2000, "about two minutes of speech: longer would exceed the deadline on a slow CPU"
        return 5000, "about six minutes of speech; send longer texts in parts"

    def timeout_s(self, device: Device) -> Reasoned[float]:
        if self.single or device.kind == "cuda":
            return 120.0, "two minutes is long for one answer"
        return 600.0, "synthesis may take as long as the audio"

    def frames(self, seconds: float, what: str) -> Reasoned[int]:
        if self.single:
            return 1, "a single-shot model sends audio as it is produced"
        tile = self.spec.decode_tile
        wanted = max(1.0, seconds * self.spec.frame_rate / tile)
        # Decoder stages have tile sizes that differ by powers of two; a power of two of tiles fits all.
        tiles = round(wanted) if tile == 1 else 2 ** round(math.log2(wanted))
        heard = f"{tiles * tile / self.spec.frame_rate:.2g} s of audio for {what}"
        return tiles * tile, heard if tile == 1 else f"{heard}, a multiple of the decoder's tile of {tile} frames"


def lightest(variants: Mapping[str, Variant]) -> str:
    """The precision with the smallest weights."""
    return min(variants, key=lambda name: variants[name].weight_bytes)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def dotted(gpu: Gpu) -> str:
    """A compute capability such as 8.9."""
    return f"{gpu.capability[0]}.{gpu.capability[1]}"
