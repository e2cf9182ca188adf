"""make_plan: settings + facts + measurements → a frozen, complete Plan, each field with its reason.

Pure functions. Nothing else in the program decides by device.
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
"""Causes of pressure: low memory, other programs using the CPUs, heat."""
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
    """Everything the engine obeys. Complete: no field is "auto"."""

    model: str
    device: Device
    executor: str
    compile: Compile
    """How the torch executor compiles; `disabled` for all others."""
    precision: str
    options: dict[str, str] = field(default_factory=dict)
    """Choices defined by the model's family, such as kernels."""
    threads: int
    """Arithmetic threads of one engine."""
    affinity: tuple[int, ...]
    """Logical CPUs the threads are pinned to; empty: not pinned."""
    max_batch_size: int
    """Sequences in one decode step: the number of slots."""
    max_parallel_chunks: int
    """Sequences of one request that may run concurrently."""
    max_queue: int
    """Waiting requests beyond which new ones are rejected."""
    first_chunk_chars: int
    """About the length of the first text chunk, which ends where a pause is natural; shorter means earlier audio."""
    chunk_chars: int
    """Upper bound of every further text chunk."""
    first_frames: int
    """Frames in the first decode."""
    chunk_frames: int
    """Frames per later decode."""
    max_frames: int
    """Frames after which a sequence ends with finish reason `length`."""
    kv_length: int
    """KV cache positions per slot: reference, text and frames; 0: no KV cache."""
    max_text_chars: int
    timeout_s: float
    """Deadline of a request that names none."""
    buffer_s: float
    """Seconds of audio buffered for a slow reader."""
    stall_s: float
    """Seconds a reader may be behind real time before it can be disconnected."""
    hang_s: float
    """Seconds after which a step counts as hung."""
    memory_budget: int
    """Bytes the engine may use."""
    cache_entries: int
    """Entry limit of each in-memory cache (voice states, prefixes)."""
    cache_bytes: int
    """Byte limit of all in-memory caches, within the budget."""
    thermal: bool
    """Whether heat reduces the load."""
    data_dir: Path
    """Where voices and measurements are kept."""
    lexicon: Path | None = None
    """The user's own readings of words."""
    adapt: bool = True
    """Whether the engine degrades under pressure."""
    check_memory: bool = True
    """Whether a text whose estimate exceeds the free memory is rejected before it starts."""
    idle_unload_s: float = 0.0
    """Idle seconds after which the model is unloaded until the next request; 0: never."""
    reasons: tuple[Reason, ...] = ()
    levels: tuple[Level, ...] = ()
    """Degradation levels, in the order they are applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One degradation: the plan decided again with some fields reduced."""

    name: str
    """slots, threads, caches or lighter."""
    plan: Plan
    fields: tuple[str, ...]
    """Fields that differ from the plan."""
    against: tuple[Pressing, ...]
    """Causes of pressure that it relieves."""
    frees: int = 0
    """Bytes, at most."""
    audible: bool = False
    """Whether it changes the sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A value that was measured best on this machine."""

    value: Any
    why: str
    """The reason, with the figures."""


def make_plan(
    settings: Settings, hardware: Hardware, spec: ModelSpec, measurements: Mapping[str, Measurement] | None = None
) -> Plan:
    """Decide every field: settings over measurements over rules.

    Raises PlanError (its `param` names the setting) for a setting this machine or model cannot satisfy.
    """
    rules = PlanContext(hardware, spec, settings.worker_python is not None)

    def decide(overrides: Mapping[str, Any]) -> Plan:
        return _Decision(settings, rules, measurements or {}, overrides).plan()

    plan = decide({})
    there = replace(spec, variants=tuple(rules.by_precision(plan.device, plan.executor).values()))
    return replace(plan, levels=levels(plan, there, decide, rules.hardware.memory_of(plan.device)))


_SHED = ("max_batch_size", "max_parallel_chunks", "max_queue", "threads", "cache_entries", "cache_bytes")
"""Fields that levels reduce. Each level pins the others' fields, which the rules would raise again."""
_WORTH = 100
"""A level must free at least 1/_WORTH of the memory to help against low memory."""


def levels(
    plan: Plan, spec: ModelSpec, replan: Callable[[Mapping[str, Any]], Plan], available: int
) -> tuple[Level, ...]:
    """The degradation levels of a plan. `replan` decides again with overrides; `available`: bytes for models.

    A reduction that relieves no cause is left out.
    """
    pinned = {name: getattr(plan, name) for name in _SHED}
    found = []
    for name, changes in _smaller(plan, spec).items():
        lower = replan({**pinned, **changes})
        frees = memory.busy(plan, spec) - memory.busy(lower, spec) + plan.cache_bytes - lower.cache_bytes
        helps: dict[Pressing, bool] = {
            "memory": frees * _WORTH >= available,
            "cpu": name in spec.sheds,
            # Fewer slots reduce heat if they share a step, or if each has its own process.
            "heat": name == "threads" or (name == "slots" and (spec.kind == "autoregressive" or plan.threads == 1)),
        }
        against = tuple(kind for kind, does in helps.items() if does)
        if against:
            other, audible = tuple(changed(plan, lower)), lower.precision != plan.precision
            found.append(Level(name=name, plan=lower, fields=other, against=against, frees=frees, audible=audible))
    return tuple(found)


def _smaller(plan: Plan, spec: ModelSpec) -> dict[str, dict[str, Any]]:
    """Level → overrides; the audible one comes last."""
    found: dict[str, dict[str, Any]] = {}
    if plan.max_batch_size > 1:
        slots = plan.max_batch_size // 2
        # The queue grows by the removed slots, so no request is rejected that would have been admitted.
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
    precision_set = any(reason.field == "precision" and reason.source == "setting" for reason in plan.reasons)
    if lighter and not precision_set:
        found["lighter"] = {"precision": max(lighter, key=lambda variant: variant.weight_bytes).precision}
    return found


class _Decision:
    """One plan being decided: picks each field from overrides, settings, measurements or rules and records why."""

    def __init__(
        self,
        settings: Settings,
        rules: PlanContext,
        measurements: Mapping[str, Measurement],
        overrides: Mapping[str, Any],
    ) -> None:
        """`overrides`: fields reduced under pressure; they win over everything."""
        self.settings = settings
        self.overrides = overrides
        self.rules = rules
        self.spec = rules.spec
        self.measurements = measurements
        self.reasons: list[Reason] = []

    def plan(self) -> Plan:
        choose, fixed, rules, spec = self.choose, self.fixed, self.rules, self.spec
        model = fixed("model", spec.name, "asked for" if self.settings.model else "the default")
        device = self.device()
        executor = choose(
            "executor", rules.executor(device), lambda name: validation.check_executor(rules, name, device)
        )
        budget = self.memory_budget(device)
        lengths = self.lengths(device)
        frames = lengths["max_frames"]
        variant = self.variant(device, executor, budget, frames)
        caches = self.cache_bytes(device, budget - rules.need(variant, 1, frames))
        slots = self.slots(device, variant, budget - caches, frames)
        threads = self.threads(device, executor)
        pinned = rules.affinity(device, executor, threads)
        affinity = choose("affinity", pinned, lambda cpus: validation.check_affinity(rules, cpus))
        kv_length = (memory.context(spec, frames), "reference, text and frames of one chunk")
        if not variant.kv_bytes_per_frame:
            kv_length = (0, "this model has no KV cache")
        return Plan(
            model=model,
            device=device,
            executor=executor,
            compile=cast(
                Compile,
                choose(
                    "compile",
                    rules.compile(device, executor),
                    lambda way: validation.check_compile(rules, way, executor),
                ),
            ),
            precision=variant.precision,
            options=fixed("options", variant.options, variant.why if variant.options else "this model has no options"),
            threads=threads,
            affinity=affinity,
            max_batch_size=slots,
            max_parallel_chunks=choose(
                "max_parallel_chunks",
                rules.parallel_chunks(slots),
                _within("max_parallel_chunks", slots, "max_batch_size"),
            ),
            max_queue=choose("max_queue", rules.queue(slots)),
            kv_length=fixed("kv_length", *kv_length),
            memory_budget=budget,
            adapt=choose("adapt", (True, "degrade instead of failing under pressure")),
            check_memory=choose("check_memory", (True, "reject requests that would run out of memory")),
            idle_unload_s=choose("idle_unload_s", (0.0, "the next request does not wait for a load")),
            cache_entries=choose(
                "cache_entries",
                rules.cache_entries(device),
                lambda number: validation.check_caches(rules, "cache_entries", number),
            ),
            cache_bytes=caches,
            thermal=choose("thermal", rules.thermal(device)),
            data_dir=choose("data_dir", (default_data_dir(), "the system's data directory")),
            lexicon=choose("lexicon", (None, "no readings of your own; --set lexicon=FILE")),
            **lengths,
            **self.patience(device),
            reasons=tuple(sorted(self.reasons, key=lambda reason: _ORDER[reason.field])),
        )

    def device(self) -> Device:
        """The device, from settings, measurements or rules."""
        rule, why = self.rules.device()
        name = self.choose(
            "device", (str(rule), why), lambda name: validation.check_device(self.rules, Device.parse(name))
        )
        return Device.parse(name)

    def variant(self, device: Device, executor: str, budget: int, max_frames: int) -> Variant:
        """The best variant of the chosen precision. An estimate that exceeds the budget is recorded, not rejected."""
        rules = self.rules
        there, have = rules.by_precision(device, executor), rules.hardware.memory_of(device)

        def check(name: str) -> None:
            validation.check_precision(rules, name, there, budget, have, max_frames, set(self.settings.overrides()))

        precision = self.choose("precision", rules.precision(device, executor, budget, max_frames), check)
        need = rules.need(there[precision], 1, max_frames)
        if need > budget:
            recorded = self.reasons.pop()
            doubt = f"estimated {mb(need)}, budget {mb(budget)}"
            self.reasons.append(replace(recorded, why=f"{recorded.why}; {doubt}"))
        return there[precision]

    def lengths(self, device: Device) -> dict[str, Any]:
        """Limits of texts, chunks and decodes."""
        choose, rules = self.choose, self.rules
        chars = choose("chunk_chars", rules.chunk_chars(device))
        first_rule, first_check = rules.first_chunk_chars(chars), _within("first_chunk_chars", chars, "chunk_chars")
        frames = choose("chunk_frames", rules.frames(1.0, "each later decode"))
        piece = rules.frames(0.25, "the first decode")
        return {
            "chunk_chars": chars,
            "first_chunk_chars": choose("first_chunk_chars", first_rule, first_check),
            "chunk_frames": frames,
            "first_frames": choose(
                "first_frames", (min(piece[0], frames), piece[1]), _within("first_frames", frames, "chunk_frames")
            ),
            "max_frames": choose(
                "max_frames", rules.max_frames(chars), lambda n: validation.check_max_frames(rules, n)
            ),
            "max_text_chars": choose("max_text_chars", rules.max_text_chars(device)),
        }

    def patience(self, device: Device) -> dict[str, Any]:
        """Timeouts."""
        return {
            "timeout_s": self.choose("timeout_s", self.rules.timeout_s(device)),
            "buffer_s": self.choose("buffer_s", (10.0, "a reader may pause for ten seconds")),
            "stall_s": self.choose(
                "stall_s", (10.0, "a reader this far behind is disconnected when capacity runs out")
            ),
            "hang_s": self.fixed("hang_s", 30.0, "a healthy step never takes half a minute"),
        }

    # -- choosing, with the reason recorded

    def choose(self, name: str, rule: Reasoned[T], check: Callable[[T], object] | None = None) -> T:
        """The setting if set, else the measurement, else the rule."""
        if name in self.overrides:
            return self.record(name, *rule, "rule")
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
            except PlanError as error:  # the measured best does not fit with the other settings
                why = f"{why} (the measured value does not fit: {error.message})"
        if check is not None:
            check(value)
        return self.record(name, value, why, source)

    def fixed(self, name: str, value: T, why: str) -> T:
        """A field that has no setting."""
        return self.record(name, value, why, "rule")

    def record(self, name: str, value: T, why: str, source: Source) -> T:
        if name in self.overrides:
            value, why, source = self.overrides[name], "reduced under pressure", "pressure"
        self.reasons.append(Reason(field=name, value=shown(name, value), why=why, source=source))
        return value

    def threads(self, device: Device, executor: str) -> int:
        measured = self.measurements.get("affinity")
        affinity = self.settings.affinity or (measured.value if measured else ())
        threads = self.choose("threads", self.rules.threads(device, executor, affinity))
        cpus = self.rules.hardware.usable_cpus
        if self.settings.threads and threads > cpus:
            self.reasons.pop()
            why = f"asked for by {self.settings.origin('threads')}; more than the {cpus} usable CPUs, probably slower"
            self.record("threads", threads, why, "setting")
        return threads

    def cache_bytes(self, device: Device, left: int) -> int:
        setting = self.settings.cache_mb
        if setting is None:
            return self.fixed("cache_bytes", *self.rules.cache_bytes(device, left))
        validation.check_caches(self.rules, "cache_mb", setting)
        if setting * MIB > left:
            message = f"cache_mb={setting} is more than the {mb(max(0, left))} of the memory budget left by the model"
            raise PlanError(f"{message}; set at most {max(0, left) // MIB}", param="cache_mb")
        return self.record("cache_bytes", setting * MIB, f"asked for by {self.settings.origin('cache_mb')}", "setting")

    def memory_budget(self, device: Device) -> int:
        setting, have = self.settings.memory_budget_mb, self.rules.hardware.memory_of(device)
        if setting is None:
            return self.fixed("memory_budget", *self.rules.budget(device))
        if setting * MIB > have:
            raise PlanError(
                f"memory_budget_mb={setting} is more than the available {mb(have)}; set at most {have // MIB}",
                param="memory_budget_mb",
            )
        return self.record(
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

        return self.choose("max_batch_size", self.rules.slots(device, variant.executor, fit), check)


_ORDER = {item.name: place for place, item in enumerate(fields(Plan))}


def _within(name: str, limit: int, other: str) -> Callable[[int], None]:
    return lambda value: validation.at_most(name, value, limit, other)


SIZES = frozenset({"memory_budget", "cache_bytes"})


def shown(name: str, value: object) -> str:
    """A field's value for people."""
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
    """Field → `planned → now`, for fields that differ."""
    names = [name for name in plan.__dataclass_fields__ if name not in ("reasons", "levels")]
    return {
        name: f"{shown(name, getattr(plan, name))} → {shown(name, getattr(now, name))}"
        for name in names
        if getattr(plan, name) != getattr(now, name)
    }
