"""Bytes: what a plan occupies, what one text needs on top, and whether it fits. No allocation happens here.

Counted is what a container is charged for: processes' own memory, and once the files they have mapped (libraries,
weights). The kernel could drop the latter, and would read them again at once.
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
"""Longest reference speech a prompt holds before the text."""
PROMPT_TOKENS = 512
"""Text tokens and markers of one chunk's prompt, generously."""
SECONDS_PER_CHAR = 0.2
"""Upper bound of speech per character: ordinary speech takes a third of it, numbers written in digits take it all."""
SAMPLE_BYTES = 4
WINDOWS = 3.0
"""Windows (`buffer_s`) of audio that may be unread before no further sequence begins."""
SERVER = 72 * MIB
"""What the process that answers HTTP holds beside its worker: its own memory with eight clients, measured. The files it
has mapped, its worker has mapped, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes of a loaded model speaking one text, by part."""

    weights: int
    activations: int
    """Runtime, libraries and activations, once per process."""
    kv: int
    """KV cache of every slot when it is full: the plan keeps this room, so no text is asked for it again."""
    slots: int
    """Working memory of the sequences this text runs side by side."""
    buffers: int
    """Audio waiting for its reader."""
    server: int = 0
    """The process that answers HTTP, if there is one."""

    @property
    def resident(self) -> int:
        """Bytes that are held whether anything is spoken or not."""
        return self.weights + self.activations + self.kv + self.server

    @property
    def working(self) -> int:
        """Bytes one text adds while it is spoken."""
        return self.slots + self.buffers

    @property
    def total(self) -> int:
        return self.resident + self.working


def estimate(plan: Plan, spec: ModelSpec, text_chars: int, *, server: int = 0) -> Estimate:
    """What speaking `text_chars` characters occupies under this plan. `server`: SERVER where there is one."""
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
    """Bytes an engine holds under this plan: the model, and so many slots speaking; None: every one."""
    variant = variant_of(plan, spec)
    each = per_slot_bytes(spec, variant, plan.max_frames)
    return fixed_bytes(spec, variant) + (plan.max_batch_size if slots is None else slots) * each


def beside(plan: Plan, spec: ModelSpec, held: int, slots: int | None = None) -> int:
    """What of the bytes `held` by an engine with so many slots speaking neither weights nor slots explain: the true
    `overhead_bytes`."""
    return max(0, held - busy(plan, spec, slots) + spec.overhead_bytes)


def check(needed: Estimate, available: int, *, loaded: bool = True) -> None:
    """Raise OutOfMemory if it does not fit into `available` bytes. `loaded`: the model already holds its part."""
    want = needed.working if loaded else needed.total
    if want > available:
        parts = f"weights {mb(needed.weights)}, runtime {mb(needed.activations)}, KV cache {mb(needed.kv)}"
        raise OutOfMemory(
            f"speaking this needs {mb(want)} and {mb(available)} is available (the whole: {parts}, "
            f"sequences {mb(needed.slots)}, audio {mb(needed.buffers)}); send a shorter text, set fewer slots or a "
            "lighter precision, close other programs, raise the memory limit, or set check_memory=false to try it",
            retry_after=5.0 if needed.total <= available or loaded else None,
        )


def variant_of(plan: Plan, spec: ModelSpec) -> Variant:
    """The variant of the model that a plan has chosen."""
    return next(
        variant
        for variant in spec.variants
        if (variant.executor, variant.precision, variant.options) == (plan.executor, plan.precision, plan.options)
        and plan.device.kind in variant.devices
    )


def fixed_bytes(spec: ModelSpec, variant: Variant) -> int:
    """Bytes a loaded model needs before the first slot."""
    return variant.weight_bytes + spec.overhead_bytes


def per_slot_bytes(spec: ModelSpec, variant: Variant, max_frames: int) -> int:
    """Bytes each slot adds."""
    return spec.slot_bytes + kv_bytes(spec, variant, max_frames)


def kv_bytes(spec: ModelSpec, variant: Variant, max_frames: int) -> int:
    """KV cache of one slot when it is full."""
    return variant.kv_bytes_per_frame * context(spec, max_frames)


def context(spec: ModelSpec, max_frames: int) -> int:
    """Positions of one slot's KV cache: a reference, the text and the frames."""
    wanted = max_frames + PROMPT_TOKENS + int(PROMPT_SECONDS * spec.frame_rate)
    return min(wanted, spec.max_context) if spec.max_context else wanted


def mb(size: int) -> str:
    """A size for people: `312 MB` or `4.5 GB` (binary units, as in the settings)."""
    return f"{size / MIB:.0f} MB" if size < 1024 * MIB else f"{size / 1024 / MIB:.1f} GB"
