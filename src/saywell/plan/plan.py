"""The decision: overrides + facts + measurements → a frozen, complete Plan, each field with its reason.

Pure functions; nothing here looks at the machine. Nothing else in the program decides by device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from saywell.errors import PlanError
from saywell.machine import Device
from saywell.plan import memory, validation
from saywell.plan.memory import MIB, mb
from saywell.plan.rules import PlanContext, Reasoned
from saywell.settings import default_data_dir

if TYPE_CHECKING:
    from saywell.machine import Hardware
    from saywell.settings import Settings
    from saywell.types import ModelSpec, Variant

T = TypeVar("T")
Source = Literal["setting", "measurement", "rule", "pressure"]
Pressing = Literal["memory", "cpu", "heat"]
"""What may press: too little memory, other programs that want the CPUs, heat."""
Compile = Literal["inductor", "eager", "disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one field of a plan has its value."""

    field: str
    value: str
    why: str
    """A sentence for people."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the engine obeys. Complete: no "auto" left."""

    model: str
    device: Device
    executor: str
    compile: Compile
    """How the torch executor compiles; others have nothing to compile."""
    precision: str
    options: dict[str, str] = field(default_factory=dict)
    """Choices that only the model's family understands, such as kernels."""
    threads: int
    """Arithmetic threads of one engine."""
    affinity: tuple[int, ...]
    """Logical CPUs the threads are pinned to; empty: wherever the system puts them."""
    max_batch_size: int
    """Sequences that share a step."""
    max_parallel_chunks: int
    """Sequences of one request that may run side by side."""
    max_queue: int
    """Requests that may wait beside the running ones; one more is refused."""
    first_chunk_chars: int
    """Upper bound of the first text chunk, for an early first sound."""
    chunk_chars: int
    """Upper bound of every further text chunk."""
    first_frames: int
    """Frames decoded for the first sound."""
    chunk_frames: int
    """Frames decoded at once from then on."""
    max_frames: int
    """Frames a sequence may have before it ends with `length`."""
    kv_length: int
    """Positions of one slot's KV cache: a reference, the text and the frames; 0: there is none."""
    max_text_chars: int
    timeout_s: float
    """Deadline of a request that names none."""
    buffer_s: float
    """Seconds of audio a stream holds for a slow reader before its sequences pause."""
    stall_s: float
    """Seconds a full stream waits for its reader before it is aborted."""
    hang_s: float
    """Seconds a step may take before the worker counts as hung."""
    memory_budget: int
    """Bytes the engine may use."""
    cache_entries: int
    """Most entries of each of the model's in-memory caches: voices and what is computed once for each."""
    cache_bytes: int
    """Bytes of all in-memory caches together, within the budget."""
    thermal: bool
    """Whether heat is answered with less work."""
    data_dir: Path
    """Where voices and measurements are kept."""
    adapt: bool = True
    """Whether the engine gives up work step by step under pressure, and takes it up again."""
    check_memory: bool = True
    """Whether a text whose estimate does not fit into the memory that is free is refused before it starts."""
    idle_unload_s: float = 0.0
    """Idle seconds after which the model is unloaded until the next request; 0: never."""
    reasons: tuple[Reason, ...] = ()
    levels: tuple[Level, ...] = ()
    """What can be given up under pressure, in the order it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Something that can be given up under pressure: the plan decided again with less of it, all else as planned."""

    name: str
    """slots, threads, caches or lighter."""
    plan: Plan
    fields: tuple[str, ...]
    """What is other in it."""
    against: tuple[Pressing, ...]
    """What giving it up helps against."""
    frees: int = 0
    """Bytes, at most."""
    audible: bool = False
    """It changes the sound; the others must not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What this machine was measured to do best."""

    value: Any
    why: str
    """With the figures."""


def make_plan(
    settings: Settings, hardware: Hardware, spec: ModelSpec, measurements: Mapping[str, Measurement] | None = None
) -> Plan:
    """Decide everything. A setting wins over a measurement, a measurement over a rule.

    Raises PlanError, whose `param` names the setting, for what this machine or model cannot do.
    """
    rules = PlanContext(hardware, spec, settings.worker_python is not None)

    def decide(overrides: Mapping[str, Any]) -> Plan:
        return _Decision(settings, rules, measurements or {}, overrides).plan()

    plan = decide({})
    there = replace(spec, variants=tuple(rules.by_precision(plan.device, plan.executor).values()))
    return replace(plan, levels=levels(plan, there, decide, rules.hardware.memory_of(plan.device)))


_SHED = ("max_batch_size", "max_parallel_chunks", "max_queue", "threads", "cache_entries", "cache_bytes")
"""Fields that levels make smaller. Each level pins those of the others, which the rules would let grow again."""
_WORTH = 100
"""A level that frees less than this part of the memory does not help against a lack of it."""


def levels(
    plan: Plan, spec: ModelSpec, replan: Callable[[Mapping[str, Any]], Plan], available: int
) -> tuple[Level, ...]:
    """What the plan can give up. `replan` decides again under overrides; `available`: bytes there are for models.

    What cannot be halved or lightened, or would help against nothing, is no level.
    """
    pinned = {name: getattr(plan, name) for name in _SHED}
    found = []
    for name, changes in _smaller(plan, spec).items():
        lower = replan({**pinned, **changes})
        frees = memory.busy(plan, spec) - memory.busy(lower, spec) + plan.cache_bytes - lower.cache_bytes
        helps: dict[Pressing, bool] = {
            "memory": frees * _WORTH >= available,
            "cpu": name in spec.sheds,
            # Fewer slots cool where they share a step, or each has a process of its own.
            "heat": name == "threads" or (name == "slots" and (spec.kind == "autoregressive" or plan.threads == 1)),
        }
        against = tuple(kind for kind, does in helps.items() if does)
        if against:
            other, audible = tuple(changed(plan, lower)), lower.precision != plan.precision
            found.append(Level(name=name, plan=lower, fields=other, against=against, frees=frees, audible=audible))
    return tuple(found)


def _smaller(plan: Plan, spec: ModelSpec) -> dict[str, dict[str, Any]]:
    """Level → the fields it overrides, the one that can be heard last."""
    found: dict[str, dict[str, Any]] = {}
    if plan.max_batch_size > 1:
        slots = plan.max_batch_size // 2
        # Nobody is refused for it who would have been let in: what the slots lose the queue gains.
        queue = plan.max_queue + plan.max_batch_size - slots
        found["slots"] = {
            "max_batch_size": slots,
            "max_parallel_chunks": min(slots, plan.max_parallel_chunks),
            "max_queue": queue,
        }
    if plan.threads > 1:
        found["threads"] = {"threads": plan.threads // 2}
    if plan.cache_entries > 1:
        found["caches"] = {"cache_entries": plan.cache_entries // 2, "cache_bytes": plan.cache_bytes // 2}
    here = memory.variant_of(plan, spec)
    lighter = [variant for variant in spec.variants if variant.weight_bytes < here.weight_bytes]
    chosen_setting = any(reason.field == "precision" and reason.source == "setting" for reason in plan.reasons)
    if lighter and not chosen_setting:
        found["lighter"] = {"precision": max(lighter, key=lambda variant: variant.weight_bytes).precision}
    return found


class _Decision:
    """One plan in the making. The rules propose, this weighs overrides and measurements against them and notes why."""

    def __init__(
        self,
        settings: Settings,
        rules: PlanContext,
        measurements: Mapping[str, Measurement],
        overrides: Mapping[str, Any],
    ) -> None:
        """`overrides`: what pressure leaves of some fields; they win over everything."""
        self.settings = settings
        self.overrides = overrides
        self.rules = rules
        self.spec = rules.spec
        self.measurements = measurements
        self.reasons: list[Reason] = []

    def plan(self) -> Plan:
        take, fact, rules, spec = self.take, self.fact, self.rules, self.spec
        model = fact("model", spec.name, "asked for" if self.settings.model else "the default")
        device = self.device()
        executor = take("executor", rules.executor(device), lambda name: validation.check_executor(rules, name, device))
        budget = self.memory_budget(device)
        lengths = self.lengths(device)
        frames = lengths["max_frames"]
        variant = self.variant(device, executor, budget, frames)
        caches = self.cache_bytes(device, budget - rules.need(variant, 1, frames))
        slots = self.slots(device, variant, budget - caches, frames)
        threads = self.threads(device, executor)
        pinned = rules.affinity(device, executor, threads)
        affinity = take("affinity", pinned, lambda cpus: validation.check_affinity(rules, cpus))
        kv_length = (memory.context(spec, frames), "a reference, the text and the frames of one chunk")
        if not variant.kv_bytes_per_frame:
            kv_length = (0, "this model keeps no keys and values")
        return Plan(
            model=model,
            device=device,
            executor=executor,
            compile=cast(
                Compile,
                take(
                    "compile",
                    rules.compile(device, executor),
                    lambda way: validation.check_compile(rules, way, executor),
                ),
            ),
            precision=variant.precision,
            options=fact("options", variant.options, variant.why if variant.options else "this model leaves no choice"),
            threads=threads,
            affinity=affinity,
            max_batch_size=slots,
            max_parallel_chunks=take(
                "max_parallel_chunks",
                rules.parallel_chunks(slots),
                _within("max_parallel_chunks", slots, "max_batch_size"),
            ),
            max_queue=take("max_queue", rules.queue(slots)),
            kv_length=fact("kv_length", *kv_length),
            memory_budget=budget,
            adapt=take("adapt", (True, "what is slower under pressure is better than what fails")),
            check_memory=take("check_memory", (True, "better refused before the start than failed in the middle")),
            idle_unload_s=take("idle_unload_s", (0.0, "the next request must not wait for a model to load")),
            cache_entries=take(
                "cache_entries",
                rules.cache_entries(device),
                lambda number: validation.check_caches(rules, "cache_entries", number),
            ),
            cache_bytes=caches,
            thermal=take("thermal", rules.thermal(device)),
            data_dir=take("data_dir", (default_data_dir(), "this system's place for such files")),
            **lengths,
            **self.patience(device),
            reasons=tuple(sorted(self.reasons, key=lambda reason: _ORDER[reason.field])),
        )

    def device(self) -> Device:
        """Settings and measurements name it."""
        rule, why = self.rules.device()
        name = self.take(
            "device", (str(rule), why), lambda name: validation.check_device(self.rules, Device.parse(name))
        )
        return Device.parse(name)

    def variant(self, device: Device, executor: str, budget: int, max_frames: int) -> Variant:
        """The best of the precision that is chosen. That it may not fit is said: an estimate refuses nothing."""
        rules = self.rules
        there, have = rules.by_precision(device, executor), rules.hardware.memory_of(device)

        def check(name: str) -> None:
            validation.check_precision(rules, name, there, budget, have, max_frames, set(self.settings.overrides()))

        precision = self.take("precision", rules.precision(device, executor, budget, max_frames), check)
        need = rules.need(there[precision], 1, max_frames)
        if need > budget:
            noted = self.reasons.pop()
            doubt = f"by the estimate it needs {mb(need)} where {mb(budget)} are planned for"
            self.reasons.append(replace(noted, why=f"{noted.why}; {doubt}"))
        return there[precision]

    def lengths(self, device: Device) -> dict[str, Any]:
        """Of texts, their chunks, and the pieces of sound."""
        take, rules = self.take, self.rules
        chars = take("chunk_chars", rules.chunk_chars(device))
        first_rule, first_check = rules.first_chunk_chars(chars), _within("first_chunk_chars", chars, "chunk_chars")
        frames = take("chunk_frames", rules.frames(1.0, "each further piece"))
        piece = rules.frames(0.25, "the first piece")
        return {
            "chunk_chars": chars,
            "first_chunk_chars": take("first_chunk_chars", first_rule, first_check),
            "chunk_frames": frames,
            "first_frames": take(
                "first_frames", (min(piece[0], frames), piece[1]), _within("first_frames", frames, "chunk_frames")
            ),
            "max_frames": take("max_frames", rules.max_frames(chars), lambda n: validation.check_max_frames(rules, n)),
            "max_text_chars": take("max_text_chars", rules.max_text_chars(device)),
        }

    def patience(self, device: Device) -> dict[str, Any]:
        """Seconds that something may take."""
        return {
            "timeout_s": self.take("timeout_s", self.rules.timeout_s(device)),
            "buffer_s": self.take("buffer_s", (10.0, "a reader that pauses for ten seconds loses nothing")),
            "stall_s": self.take("stall_s", (10.0, "a listener so far behind gives way, if places are short")),
            "hang_s": self.fact("hang_s", 30.0, "no step of a healthy model takes half a minute"),
        }

    # -- choosing, with the reason noted

    def take(self, name: str, rule: Reasoned[T], check: Callable[[T], object] | None = None) -> T:
        """The setting if there is one, else what was measured, else the rule."""
        if name in self.overrides:
            return self.note(name, *rule, "rule")
        setting: T | None = getattr(self.settings, name)
        value, why = rule
        source: Source = "rule"
        if setting is not None:
            value, why, source = setting, f"asked for by {self.settings.origin(name)}", "setting"
        elif name in self.measurements:
            measured = self.measurements[name]
            try:
                if check is not None:
                    check(measured.value)
                value, why, source = measured.value, measured.why, "measurement"
            except PlanError as error:  # the best of other circumstances: these overrides leave no room for it
                why = f"{why} (not as measured: {error.message})"
        if check is not None:
            check(value)
        return self.note(name, value, why, source)

    def fact(self, name: str, value: T, why: str) -> T:
        """A field no setting names."""
        return self.note(name, value, why, "rule")

    def note(self, name: str, value: T, why: str, source: Source) -> T:
        if name in self.overrides:
            value, why, source = self.overrides[name], "what pressure leaves of it", "pressure"
        self.reasons.append(Reason(field=name, value=shown(name, value), why=why, source=source))
        return value

    def threads(self, device: Device, executor: str) -> int:
        measured = self.measurements.get("affinity")
        affinity = self.settings.affinity or (measured.value if measured else ())
        threads = self.take("threads", self.rules.threads(device, executor, affinity))
        cpus = self.rules.hardware.usable_cpus
        if self.settings.threads and threads > cpus:
            self.reasons.pop()
            why = (
                f"asked for by {self.settings.origin('threads')}; more than the {cpus} usable CPUs, so probably slower"
            )
            self.note("threads", threads, why, "setting")
        return threads

    def cache_bytes(self, device: Device, left: int) -> int:
        setting = self.settings.cache_mb
        if setting is None:
            return self.fact("cache_bytes", *self.rules.cache_bytes(device, left))
        validation.check_caches(self.rules, "cache_mb", setting)
        if setting * MIB > left:
            message = f"cache_mb={setting} is more than the {mb(max(0, left))} the model leaves of the memory budget"
            raise PlanError(f"{message}; set at most {max(0, left) // MIB}", param="cache_mb")
        return self.note("cache_bytes", setting * MIB, f"asked for by {self.settings.origin('cache_mb')}", "setting")

    def memory_budget(self, device: Device) -> int:
        setting, have = self.settings.memory_budget_mb, self.rules.hardware.memory_of(device)
        if setting is None:
            return self.fact("memory_budget", *self.rules.budget(device))
        if setting * MIB > have:
            raise PlanError(
                f"memory_budget_mb={setting} is more than the {mb(have)} there is; set at most {have // MIB}",
                param="memory_budget_mb",
            )
        return self.note(
            "memory_budget", setting * MIB, f"asked for by {self.settings.origin('memory_budget_mb')}", "setting"
        )

    def slots(self, device: Device, variant: Variant, budget: int, max_frames: int) -> int:
        each = max(1, memory.per_slot_bytes(self.spec, variant, max_frames))
        fit = max(1, (budget - memory.fixed_bytes(self.spec, variant)) // each)

        def check(setting: int) -> None:
            if setting > fit:
                need = self.rules.need(variant, setting, max_frames)
                room = f"{mb(need)}; {mb(budget)} is available besides the caches"
                message = f"max_batch_size={setting} needs {room}; set at most {fit}"
                raise PlanError(message, param="max_batch_size")

        return self.take("max_batch_size", self.rules.slots(device, variant.executor, fit), check)


_ORDER = {item.name: place for place, item in enumerate(fields(Plan))}


def _within(name: str, limit: int, other: str) -> Callable[[int], None]:
    return lambda value: validation.at_most(name, value, limit, other)


SIZES = frozenset({"memory_budget", "cache_bytes"})


def shown(name: str, value: object) -> str:
    """A field's value as its reason states it."""
    if name in SIZES and isinstance(value, int):
        return mb(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "none"


def changed(plan: Plan, now: Plan) -> dict[str, str]:
    """Field → `planned → now`, for those that differ."""
    names = [name for name in plan.__dataclass_fields__ if name not in ("reasons", "levels")]
    return {
        name: f"{shown(name, getattr(plan, name))} → {shown(name, getattr(now, name))}"
        for name in names
        if getattr(plan, name) != getattr(now, name)
    }
