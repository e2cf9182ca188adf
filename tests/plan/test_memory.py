"""Bytes: estimates add up, and what does not fit is refused with its numbers."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from machines import made_up
from saywell.engine.launch import decide, start
from saywell.errors import OutOfMemory
from saywell.machine import Cpu, Hardware, Runtime
from saywell.plan.memory import Estimate, busy, check, estimate, kv_bytes, mb, measured_overhead
from saywell.plan.plan import Plan, make_plan
from saywell.plan.tuning_store import FOLDER, Store
from saywell.settings import Settings, load_settings
from saywell.types import ModelSpec

MIB = 1 << 20
SPEC = ModelSpec(
    name="made-up", family="made_up", kind="autoregressive", sample_rate=24000, frame_rate=25.0,
    variants=made_up(
        fp32=100 * MIB, fp16=50 * MIB, executors=("plain",), kv={"fp32": 10_000, "fp16": 5_000}
    ),
    overhead_bytes=30 * MIB, slot_bytes=2 * MIB, max_context=1000,
)  # fmt: skip
CPU = Cpu(model="any", vendor="", sockets=1, physical=4, logical=4, performance=4, efficiency=0)
MACHINE = Hardware(os="linux", arch="x86_64", python="3.11", product="", cpu=CPU, memory=8 << 30)


def plan(**overrides: object) -> Plan:
    return make_plan(Settings(**overrides), MACHINE, SPEC)  # type: ignore[arg-type]


def test_parts_add_up() -> None:
    found = estimate(plan(max_batch_size=4, max_parallel_chunks=2, buffer_s=10.0), SPEC, 1000)
    assert (found.weights, found.activations) == (100 * MIB, 30 * MIB)
    assert found.kv == 4 * 1000 * 10_000
    assert found.slots == 2 * 2 * MIB
    assert found.buffers == 3 * 10 * 24000 * 4
    assert (
        estimate(plan(max_batch_size=4, max_parallel_chunks=2), SPEC, 1000, server=MIB).resident == found.resident + MIB
    )
    assert found.total == found.resident + found.working
    assert found.resident == found.weights + found.activations + found.kv


def test_a_short_text_needs_one_sequence_and_little_audio() -> None:
    found = estimate(plan(max_batch_size=4, max_parallel_chunks=2), SPEC, 10)
    assert found.slots == 2 * MIB
    assert found.buffers == 2 * 24000 * 4


def test_longer_texts_never_need_less() -> None:
    totals = [estimate(plan(), SPEC, chars).total for chars in range(0, 5000, 50)]
    assert totals == sorted(totals)


def test_cache_follows_precision_and_context() -> None:
    fp32, fp16 = SPEC.variants
    assert kv_bytes(SPEC, fp32, 100_000) == 1000 * 10_000
    assert kv_bytes(SPEC, fp16, 100_000) == 1000 * 5_000
    free = replace(SPEC, max_context=0)
    assert kv_bytes(free, fp32, 100) == (100 + 512 + 750) * 10_000


def test_what_does_not_fit_is_rejected_with_numbers() -> None:
    found = Estimate(weights=100 * MIB, activations=20 * MIB, kv=30 * MIB, slots=40 * MIB, buffers=10 * MIB)
    check(found, 50 * MIB)
    check(found, 200 * MIB, loaded=False)
    with pytest.raises(
        OutOfMemory, match=r"needs 50 MB of memory and 49 MB is available.*weights 100 MB.*shorter text"
    ) as error:
        check(found, 49 * MIB)
    assert error.value.status == 507
    with pytest.raises(OutOfMemory, match="needs 200 MB"):
        check(found, 199 * MIB, loaded=False)


def test_sizes_are_readable() -> None:
    assert [mb(5 * MIB), mb(1023 * MIB), mb(1536 * MIB)] == ["5 MB", "1023 MB", "1.5 GB"]


# -- corrected by what was measured


def test_a_busy_engine_holds_the_model_and_all_slots() -> None:
    mine = plan(max_batch_size=4)
    assert busy(mine, SPEC) == 130 * MIB + 4 * (2 * MIB + 1000 * 10_000)
    assert measured_overhead(mine, SPEC, busy(mine, SPEC)) == SPEC.overhead_bytes
    assert measured_overhead(mine, SPEC, busy(mine, SPEC) + 7 * MIB) == SPEC.overhead_bytes + 7 * MIB
    assert measured_overhead(mine, SPEC, 1) == 0


def test_measured_overhead_replaces_the_models_estimate(tmp_path: Path) -> None:
    store = Store(tmp_path, MACHINE, SPEC)
    assert store.corrected(SPEC) is SPEC
    store.weigh(plan(precision="fp32"), 70 * MIB)
    assert store.corrected(SPEC).overhead_bytes == 70 * MIB
    store.weigh(plan(precision="fp32"), 20 * MIB)
    assert store.corrected(SPEC).overhead_bytes == 20 * MIB, "a busy engine was seen to hold less"
    assert Store(tmp_path, MACHINE, store.corrected(SPEC)).weighed() == store.weighed(), (
        "corrected, it is still the model"
    )


def test_overhead_is_learned_in_both_directions(tmp_path: Path) -> None:
    store = Store(tmp_path, MACHINE, SPEC)
    store.learn(plan(precision="fp32"), 50 * MIB, thought=30 * MIB)
    assert store.corrected(SPEC).overhead_bytes == 50 * MIB, "too little would end in a lack of memory"
    store.learn(plan(precision="fp32"), 40 * MIB, thought=50 * MIB)
    assert store.corrected(SPEC).overhead_bytes == 45 * MIB, "one engine that did little does not undo what was seen"
    for _ in range(20):
        store.learn(plan(precision="fp32"), 20 * MIB, thought=store.corrected(SPEC).overhead_bytes)
    assert store.corrected(SPEC).overhead_bytes == pytest.approx(20 * MIB, rel=0.05)
    store.learn(plan(precision="fp16"), 60 * MIB, thought=20 * MIB)
    assert store.corrected(SPEC).overhead_bytes == 60 * MIB, "any precision may be chosen: the largest counts"


def test_an_overestimate_is_corrected_by_the_first_engines(tmp_path: Path) -> None:
    store = Store(tmp_path, MACHINE, SPEC)
    store.learn(plan(precision="fp32"), 10 * MIB, thought=SPEC.overhead_bytes)
    assert store.corrected(SPEC).overhead_bytes == 20 * MIB


def test_overhead_holds_for_other_limits_but_not_other_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(tmp_path, MACHINE, SPEC).weigh(plan(precision="fp32"), 70 * MIB)
    smaller = replace(MACHINE, limits=replace(MACHINE.limits, memory=1 << 30))
    assert Store(tmp_path, smaller, SPEC).corrected(SPEC).overhead_bytes == 70 * MIB
    other = replace(MACHINE, runtimes={"onnxruntime": Runtime(version="9.9")})
    assert Store(tmp_path, other, SPEC).corrected(SPEC).overhead_bytes == 70 * MIB, "nothing of it runs this model"
    monkeypatch.setattr("saywell.plan.tuning_store.__version__", "99")
    assert Store(tmp_path, MACHINE, SPEC).corrected(SPEC) is SPEC


def test_damaged_measurements_are_reported_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path, MACHINE, SPEC)
    store.weigh(plan(precision="fp32"), 70 * MIB)
    next((tmp_path / FOLDER).glob("memory-*.json")).write_text("{", encoding="utf-8")
    assert store.corrected(SPEC) is SPEC
    assert "damaged" in caplog.text
    store.forget()
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_workers_overhead_corrects_the_next_plan(tmp_path: Path) -> None:
    settings = load_settings({"model": "hibari", "data_dir": tmp_path})
    before = decide(settings)
    light = replace(before, spec=replace(before.spec, overhead_bytes=MIB))
    with start(light, worker=True) as speaker:
        speaker.say("Long enough for a pulse of the worker to be counted, or two of them.")
        deadline = time.monotonic() + 30
        while speaker.engine.held.most < 120 * MIB and time.monotonic() < deadline:
            time.sleep(0.05)
    after = decide(settings)
    assert after.spec.overhead_bytes > 10 * MIB
    assert after.spec.overhead_bytes != before.spec.overhead_bytes
