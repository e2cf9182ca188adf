"""The decision: wishes + facts + measurements → a frozen, complete Plan, each field with its reason.

Pure functions; nothing here looks at the machine. Nothing else in the program decides by device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from saywell import memory
from saywell.errors import PlanError
from saywell.memory import MIB, mb
from saywell.rules import Decided, Situation
from saywell.settings import default_data_dir

if TYPE_CHECKING:
    from saywell.hardware import Hardware
    from saywell.settings import Settings
    from saywell.types import ModelSpec

T = TypeVar("T")
Device = Literal["cpu", "cuda", "mps"]
Source = Literal["wish", "measurement", "rule", "pressure"]
_WISH: Source = "wish"


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
    precision: str
    activation_bits: int = 8
    """Of activations multiplied with int8 weights; 8 where the model leaves no choice."""
    convolutions: str = ""
    """How the decoder's convolutions are computed; empty where the model leaves no choice."""
    threads: int
    """Arithmetic threads of one engine."""
    affinity: tuple[int, ...]
    """Logical CPUs the threads are pinned to; empty: wherever the system puts them."""
    slots: int
    """Sequences that share a step."""
    lookahead: int
    """Sequences of one request that may run side by side."""
    queue: int
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
    data_dir: Path
    """Where voices and measurements are kept."""
    cache_entries: int = 25
    """Entries of each of the model's in-memory caches: voices and what is computed once for each."""
    adapt: bool = True
    """Whether the engine gives up work step by step under pressure, and takes it up again."""
    check_memory: bool = True
    """Whether a text whose estimate does not fit into the memory that is free is refused before it starts."""
    idle_unload_s: float = 0.0
    """Idle seconds after which the model is unloaded until the next request; 0: never."""
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What this machine was measured to do best."""

    value: Any
    why: str
    """With the figures."""


def make_plan(
    settings: Settings, hardware: Hardware, spec: ModelSpec, measurements: Mapping[str, Measurement] | None = None
) -> Plan:
    """Decide everything. A wish wins over a measurement, a measurement over a rule.

    Raises PlanError, whose `param` names the setting, for what this machine or model cannot do.
    """
    return _Decision(settings, Situation(hardware, spec, settings.worker_python is not None), measurements or {}).plan()


class _Decision:
    """One plan in the making. The rules propose, this weighs wishes and measurements against them and notes why."""

    def __init__(self, settings: Settings, rules: Situation, measurements: Mapping[str, Measurement]) -> None:
        self.settings = settings
        self.rules = rules
        self.spec = rules.spec
        self.measurements = measurements
        self.reasons: list[Reason] = []

    def plan(self) -> Plan:
        take, fact, rules = self.take, self.fact, self.rules
        model = fact("model", self.spec.name, "asked for" if self.settings.model else "the default")
        device = cast(Device, take("device", rules.device(), self.check_device))
        executor = take("executor", rules.executor(device), lambda name: self.check_executor(name, device))
        self.note_compile(executor)
        budget = self.memory_budget(device)
        chunk_chars = take("chunk_chars", rules.chunk_chars(device))
        first_chunk = take(
            "first_chunk_chars",
            rules.first_chunk_chars(chunk_chars),
            lambda chars: self.at_most("first_chunk_chars", chars, chunk_chars, "chunk_chars"),
        )
        max_frames = take("max_frames", rules.max_frames(chunk_chars), self.check_max_frames)
        precision = take(
            "precision",
            rules.precision(device, budget, max_frames),
            lambda name: self.check_precision(name, budget, max_frames),
        )
        slots = self.slots(device, executor, precision, budget, max_frames)
        return Plan(
            model=model,
            device=device,
            executor=executor,
            precision=precision,
            activation_bits=fact("activation_bits", *rules.activation_bits()),
            convolutions=fact("convolutions", *rules.convolutions(executor, precision)),
            threads=self.threads(device, executor),
            affinity=fact("affinity", (), "the system places threads; pinning has to be measured to help here"),
            slots=slots,
            lookahead=take("lookahead", rules.lookahead(slots), lambda n: self.at_most("lookahead", n, slots, "slots")),
            queue=take("queue", rules.queue(slots)),
            first_chunk_chars=first_chunk,
            chunk_chars=chunk_chars,
            first_frames=fact("first_frames", *rules.frames(0.25, "the first piece")),
            chunk_frames=fact("chunk_frames", *rules.frames(1.0, "each further piece")),
            max_frames=max_frames,
            max_text_chars=take("max_text_chars", (5000, "about six minutes of speech; longer texts in parts")),
            timeout_s=take("timeout_s", (120.0, "nobody waits longer than two minutes for one answer")),
            buffer_s=take("buffer_s", (10.0, "a reader that pauses for ten seconds loses nothing")),
            stall_s=take("stall_s", (30.0, "a reader silent for half a minute is gone")),
            hang_s=fact("hang_s", 30.0, "no step of a healthy model takes half a minute"),
            memory_budget=budget,
            cache_entries=take("cache_entries", (25, "more voices than most programs use; each is a few megabytes")),
            adapt=take("adapt", (True, "what is slower under pressure is better than what fails")),
            check_memory=take("check_memory", (True, "better refused before the start than failed in the middle")),
            idle_unload_s=take("idle_unload_s", (0.0, "the next request must not wait for a model to load")),
            data_dir=take("data_dir", (default_data_dir(), "this system's place for such files")),
            reasons=tuple(self.reasons),
        )

    # -- choosing, with the reason noted

    def take(self, name: str, rule: Decided[T], check: Callable[[T], object] | None = None) -> T:
        """The wish if there is one, else what was measured, else the rule."""
        wish: T | None = getattr(self.settings, name)
        if wish is not None:
            value, why, source = wish, f"asked for by {self.settings.origin(name)}", _WISH
        elif name in self.measurements:
            value, why, source = self.measurements[name].value, self.measurements[name].why, "measurement"
        else:
            (value, why), source = rule, "rule"
        if check is not None:
            check(value)
        return self.note(name, value, why, source)

    def fact(self, name: str, value: T, why: str) -> T:
        """A field no setting names."""
        return self.note(name, value, why, "rule")

    def note(self, name: str, value: T, why: str, source: Source) -> T:
        shown = mb(value) if name == "memory_budget" and isinstance(value, int) else str(value)
        self.reasons.append(Reason(field=name, value=shown, why=why, source=source))
        return value

    def note_compile(self, executor: str) -> None:
        """Say so when the wish for a way to compile has nothing to act on."""
        if self.settings.compile and executor != "torch":
            self.fact("compile", "disabled", f"the executor {executor} has nothing to compile")

    def threads(self, device: str, executor: str) -> int:
        threads = self.take("threads", self.rules.threads(device, executor))
        cpus = self.rules.hardware.usable_cpus
        if self.settings.threads and threads > cpus:
            self.reasons.pop()
            why = (
                f"asked for by {self.settings.origin('threads')}; more than the {cpus} usable CPUs, so probably slower"
            )
            self.note("threads", threads, why, "wish")
        return threads

    def memory_budget(self, device: str) -> int:
        wish, have = self.settings.memory_budget_mb, self.rules.device_memory(device)
        if wish is None:
            return self.fact("memory_budget", *self.rules.budget(device))
        if wish * MIB > have:
            raise PlanError(
                f"memory_budget_mb={wish} is more than the {mb(have)} there is; set at most {have // MIB}",
                param="memory_budget_mb",
            )
        return self.note(
            "memory_budget", wish * MIB, f"asked for by {self.settings.origin('memory_budget_mb')}", "wish"
        )

    def slots(self, device: str, executor: str, precision: str, budget: int, max_frames: int) -> int:
        each = max(1, memory.per_slot_bytes(self.spec, precision, max_frames))
        fit = max(1, (budget - memory.fixed_bytes(self.spec, precision)) // each)

        def check(wish: int) -> None:
            if wish > fit:
                need = self.rules.need(precision, wish, max_frames)
                message = f"slots={wish} need {mb(need)} and the memory budget is {mb(budget)}; set at most {fit}"
                raise PlanError(message, param="slots")

        return self.take("slots", self.rules.slots(device, executor, fit), check)

    # -- what is impossible, and the way out

    def check_device(self, device: str) -> None:
        if device == "cpu" and not self.rules.executors("cpu"):
            out = self.rules.missing() or "choose another model"
            raise PlanError(f"nothing here runs {self.spec.name} on the CPU; {out}", param="device")
        if device != "cpu" and (missing := self.rules.lacks(device)):
            raise PlanError(
                f"device={device} is not possible: {missing}; set device=cpu or leave it out", param="device"
            )

    def check_executor(self, name: str, device: str) -> None:
        if name not in self.spec.executors:
            there = ", ".join(self.spec.executors)
            raise PlanError(f"{self.spec.name} has no executor {name!r}; it has {there}", param="executor")
        if name not in self.rules.executors(device):
            out = self.rules.missing((name,)) or "choose another device or executor"
            raise PlanError(f"executor={name} does not run on {device} here; {out}", param="executor")

    def check_precision(self, name: str, budget: int, max_frames: int) -> None:
        if name not in self.spec.precisions:
            there = ", ".join(self.spec.precisions)
            raise PlanError(f"{self.spec.name} has no precision {name!r}; it has {there}", param="precision")
        need, lightest = self.rules.need(name, 1, max_frames), self.rules.lightest()
        if need > budget:
            wished = [field for field in ("memory_budget_mb", "precision") if getattr(self.settings, field) is not None]
            out = (
                "choose a smaller model or a machine with more memory"
                if name == lightest
                else f"set precision={lightest}"
            )
            message = f"{self.spec.name} at {name} needs {mb(need)} and the memory budget is {mb(budget)}; {out}"
            raise PlanError(message, param=wished[-1] if wished else "model")

    def check_max_frames(self, frames: int) -> None:
        top = self.spec.max_context
        if top and frames > top:
            raise PlanError(f"max_frames={frames} is beyond the model's context; set at most {top}", param="max_frames")

    def at_most(self, name: str, value: int, limit: int, other: str) -> None:
        if value > limit:
            raise PlanError(f"{name}={value} is more than {other}={limit}; set at most {limit}", param=name)
