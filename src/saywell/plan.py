"""The decision: wishes + facts + measurements → a frozen, complete Plan, each field with its reason.

Pure functions; nothing here looks at the machine. Nothing else in the program decides by device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one field of a plan has its value."""

    field: str
    value: str
    why: str
    """A sentence for people."""
    source: Literal["wish", "measurement", "rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the engine obeys. Complete: no "auto" left."""

    model: str
    device: Literal["cpu", "cuda", "mps"]
    executor: str
    precision: str
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
    reasons: tuple[Reason, ...] = ()
