"""A complete plan for tests; they replace single fields."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saywell.machine import CPU
from saywell.plan.plan import Plan, levels
from saywell.types import ModelSpec
from tiny_ar import family as tiny_ar

TINY = tiny_ar.spec("tiny", None)
TINY_PLAN = Plan(
    model="tiny",
    device=CPU,
    executor="onnx",
    compile="disabled",
    precision="fp32",
    threads=1,
    affinity=(),
    max_batch_size=4,
    max_parallel_chunks=4,
    max_queue=32,
    first_chunk_chars=60,
    chunk_chars=120,
    first_frames=2,
    chunk_frames=8,
    max_frames=2_000,
    max_text_chars=5_000,
    timeout_s=30.0,
    buffer_s=1_000.0,
    stall_s=30.0,
    hang_s=30.0,
    kv_length=0,
    memory_budget=1 << 40,
    cache_entries=16,
    cache_bytes=16 << 20,
    thermal=True,
    data_dir=Path("cache"),
    adapt=False,  # other programs must not influence tests
)


def with_levels(plan: Plan, spec: ModelSpec = TINY, available: int = 8 << 30) -> Plan:
    """`plan` with its degradation levels. `available`: bytes for models."""
    return replace(plan, levels=levels(plan, spec, lambda overrides: replace(plan, **overrides), available))
