"""Bytes: estimates add up, and what does not fit is refused with its numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from saywell.errors import OutOfMemory
from saywell.hardware import Cpu, Hardware
from saywell.memory import Estimate, check, estimate, kv_bytes, mb
from saywell.plan import Plan, make_plan
from saywell.settings import Settings
from saywell.types import ModelSpec

MIB = 1 << 20
SPEC = ModelSpec(
    name="made-up", family="made_up", kind="autoregressive", sample_rate=24000, frame_rate=25.0, executors=("plain",),
    precisions=("fp32", "fp16"), weight_bytes={"fp32": 100 * MIB, "fp16": 50 * MIB},
    kv_bytes_per_frame={"fp32": 10_000, "fp16": 5_000},
    overhead_bytes=30 * MIB, slot_bytes=2 * MIB, max_context=1000,
)  # fmt: skip
CPU = Cpu(model="any", vendor="", sockets=1, physical=4, logical=4, performance=4, efficiency=0)
MACHINE = Hardware(os="linux", arch="x86_64", python="3.11", product="", cpu=CPU, memory=8 << 30)


def plan(**wishes: object) -> Plan:
    return make_plan(Settings(**wishes), MACHINE, SPEC)  # type: ignore[arg-type]


def test_parts_add_up() -> None:
    found = estimate(plan(slots=4, lookahead=2, buffer_s=10.0), SPEC, 1000)
    assert (found.weights, found.activations) == (100 * MIB, 30 * MIB)
    assert found.kv == 4 * 1000 * 10_000
    assert found.slots == 2 * 2 * MIB
    assert found.buffers == 2 * 10 * 24000 * 4
    assert found.total == found.resident + found.working
    assert found.resident == found.weights + found.activations + found.kv


def test_a_short_text_needs_one_sequence_and_little_audio() -> None:
    found = estimate(plan(slots=4, lookahead=2), SPEC, 10)
    assert found.slots == 2 * MIB
    assert found.buffers == 2 * 24000 * 4


def test_longer_texts_never_need_less() -> None:
    totals = [estimate(plan(), SPEC, chars).total for chars in range(0, 5000, 50)]
    assert totals == sorted(totals)


def test_cache_follows_precision_and_context() -> None:
    assert kv_bytes(SPEC, "fp32", 100_000) == 1000 * 10_000
    assert kv_bytes(SPEC, "fp16", 100_000) == 1000 * 5_000
    free = replace(SPEC, max_context=0)
    assert kv_bytes(free, "fp32", 100) == (100 + 512 + 750) * 10_000


def test_what_does_not_fit_is_refused_with_numbers() -> None:
    found = Estimate(weights=100 * MIB, activations=20 * MIB, kv=30 * MIB, slots=40 * MIB, buffers=10 * MIB)
    check(found, 50 * MIB)
    check(found, 200 * MIB, loaded=False)
    with pytest.raises(OutOfMemory, match=r"needs 50 MB and 49 MB is available.*weights 100 MB.*shorter text") as error:
        check(found, 49 * MIB)
    assert error.value.status == 507
    with pytest.raises(OutOfMemory, match="needs 200 MB"):
        check(found, 199 * MIB, loaded=False)


def test_sizes_for_people() -> None:
    assert [mb(5 * MIB), mb(1023 * MIB), mb(1536 * MIB)] == ["5 MB", "1023 MB", "1.5 GB"]
