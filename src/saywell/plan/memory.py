"""Memory of a plan, memory of one text, and whether it fits. Pure arithmetic.

Counts what a container is charged for: private memory of the processes, and mapped files (libraries, weights) once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saywell.errors import OutOfMemory

if TYPE_CHECKING:
    from saywell.plan.plan import Plan
    from saywell.types import ModelSpec, Variant

MIB = 1 << 20
PROMPT_SECONDS = 30
"""Longest reference in a prompt."""
PROMPT_TOKENS = 512
"""Upper bound of text tokens and markers in a prompt."""
SECONDS_PER_CHAR = 0.2
"""Upper bound; ordinary prose takes a third of it, digits all of it."""
SAMPLE_BYTES = 4
WINDOWS = 3.0
"""Unread audio, in units of `buffer_s`, at which no further sequence starts."""
SERVER = 72 * MIB
"""Private memory of the HTTP process with eight clients (measured). Its mapped files are shared with the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes of a loaded model synthesising one text, by part."""

    weights: int
    activations: int
    """Runtime, libraries and activations, once per process."""
    kv: int
    """KV cache of all slots; reserved by the plan, so not counted per text."""
    slots: int
    """Working memory of the text's concurrent sequences."""
    buffers: int
    """Audio buffered for its reader."""
    server: int = 0
    """The HTTP process, if any."""

    @property
    def resident(self) -> int:
        """Bytes held while idle."""
        return self.weights + self.activations + self.kv + self.server

    @property
    def working(self) -> int:
        """Bytes added by one text."""
        return self.slots + self.buffers

    @property
    def total(self) -> int:
        return self.resident + self.working


def estimate(plan: Plan, spec: ModelSpec, text_chars: int, *, server: int = 0) -> Estimate:
    """Memory for `text_chars` characters under this plan. `server`: SERVER if there is an HTTP process."""
    sequences = 1 + max(0, text_chars - plan.first_chunk_chars + plan.chunk_chars - 1) // plan.chunk_chars
    held_s = min(text_chars * SECONDS_PER_CHAR, plan.buffer_s * WINDOWS)
    variant = variant_of(plan, spec)
    return Estimate(
        weights=variant.weight_bytes,
        activations=spec.overhead_bytes,
        kv=plan.max_batch_size * kv_bytes(spec, variant, plan.max_frames),
        slots=min(plan.max_batch_size, plan.max_parallel_chunks, sequences) * spec.slot_bytes,
        buffers=int(held_s * spec.sample_rate) * SAMPLE_BYTES,
        server=server,
    )


def busy(plan: Plan, spec: ModelSpec, slots: int | None = None) -> int:
    """Bytes of an engine with `slots` busy slots (None: all)."""
    variant = variant_of(plan, spec)
    each = per_slot_bytes(spec, variant, plan.max_frames)
    return fixed_bytes(spec, variant) + (plan.max_batch_size if slots is None else slots) * each


def measured_overhead(plan: Plan, spec: ModelSpec, held: int, slots: int | None = None) -> int:
    """Measured bytes `held` minus modelled weights and slots: the true `overhead_bytes`."""
    return max(0, held - busy(plan, spec, slots) + spec.overhead_bytes)


def check(needed: Estimate, available: int, *, loaded: bool = True) -> None:
    """Raise OutOfMemory if it exceeds `available` bytes. `loaded`: the model's own part is already allocated."""
    want = needed.working if loaded else needed.total
    if want > available:
        parts = f"weights {mb(needed.weights)}, runtime {mb(needed.activations)}, KV cache {mb(needed.kv)}"
        raise OutOfMemory(
            f"this request needs {mb(want)} of memory and {mb(available)} is available (in total: {parts}, "
            f"sequences {mb(needed.slots)}, audio {mb(needed.buffers)}); send a shorter text, set fewer slots or a "
            "lower precision, close other programs, raise the memory limit, or set check_memory=false to try it",
            retry_after=5.0 if needed.total <= available or loaded else None,
        )


def variant_of(plan: Plan, spec: ModelSpec) -> Variant:
    """The variant a plan has chosen."""
    return next(
        variant
        for variant in spec.variants
        if (variant.executor, variant.precision, variant.options) == (plan.executor, plan.precision, plan.options)
        and plan.device.kind in variant.devices
    )


def fixed_bytes(spec: ModelSpec, variant: Variant) -> int:
    """Bytes of a loaded model without slots."""
    return variant.weight_bytes + spec.overhead_bytes


def per_slot_bytes(spec: ModelSpec, variant: Variant, max_frames: int) -> int:
    """Bytes per slot."""
    return spec.slot_bytes + kv_bytes(spec, variant, max_frames)


def kv_bytes(spec: ModelSpec, variant: Variant, max_frames: int) -> int:
    """KV cache bytes of one slot."""
    return variant.kv_bytes_per_frame * context(spec, max_frames)


def context(spec: ModelSpec, max_frames: int) -> int:
    """KV cache positions of one slot: reference, text and frames."""
    wanted = max_frames + PROMPT_TOKENS + int(PROMPT_SECONDS * spec.frame_rate)
    return min(wanted, spec.max_context) if spec.max_context else wanted


def mb(size: int) -> str:
    """A size for people: `312 MB` or `4.5 GB` (binary units, as in the settings)."""
    return f"{size / MIB:.0f} MB" if size < 1024 * MIB else f"{size / 1024 / MIB:.1f} GB"
