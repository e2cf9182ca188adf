"""Plain sentences about what holds speech back: each with its figures, and none that is not true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fake_engine import HARDWARE
from machines import ESPEAK, machine
from plans import TINY_PLAN
from saywell.machine import CPU, Device, Limits
from saywell.machine.monitor import Resources
from saywell.machine.sensors.nvidia import GpuLoad
from saywell.plan.degradation import SLOWLY, PressureReport
from saywell.plan.insights import expected_rtf, insights
from saywell.plan.plan import Plan, Reason, make_plan
from saywell.plan.tuning_store import Chosen, Record, Trial
from saywell.server.metrics import Metrics
from saywell.settings import Settings
from saywell.types import Summary

GIB = 1 << 30
PLAN = replace(TINY_PLAN, precision="int8", threads=2)
CALM = PressureReport()


def now(**fields: object) -> Resources:
    quiet = {
        "cpu_percent": 40.0, "cpu_own_percent": 38.0, "memory_limit": 8 * GIB, "memory_available": 4 * GIB,
        "memory_percent": 50.0,
    }  # fmt: skip
    return Resources(**{**quiet, **fields})


def record(best: dict, *trials: Trial) -> Record:
    chosen = {name: Chosen(value=value, why="") for name, value in best.items()}
    return Record(
        model="tiny",
        runtime="",
        device=CPU,
        goal="throughput",
        when="",
        seconds=1.0,
        best=best,
        chosen=chosen,
        trials=list(trials),
    )


RULES = Trial(values={}, rtf=(0.4, 0.5, 0.6), first_s=(0.1,))
INT4 = Trial(values={"precision": "int4"}, rtf=(0.25,), first_s=(0.1,))
FAILED = Trial(values={"precision": "int2"}, failed="no such file")
TUNED = record({"precision": "int4"}, RULES, INT4, FAILED)


def spoken(count: int, rtf: float, queued_s: float = 0.0) -> dict:
    metrics = Metrics()
    for _ in range(count):
        metrics.spoke(
            "tiny",
            Summary(
                finish_reason="stop", sequences=1, frames=1, audio_s=2.0, queued_s=queued_s, first_audio_s=0.1,
                total_s=2 * rtf, seed=0,
            ),
        )  # fmt: skip
    return metrics.aggregates()


def told(plan: Plan = PLAN, **given: object) -> list[str]:
    fields = {"pressure": CALM, "record": record({}, RULES), **given}
    machine, hardware = fields.pop("now", now()), fields.pop("hardware", HARDWARE)
    return insights(plan, hardware, machine, **fields)


def with_setting(plan: Plan, *names: str) -> Plan:
    reasons = [Reason(field=name, value="", why="asked for", source="setting") for name in names]
    return replace(plan, reasons=tuple(reasons))


def test_no_insights_on_a_calm_tuned_machine() -> None:
    assert told() == []


def test_an_unmeasured_machine_is_pointed_to_tune() -> None:
    (only,) = told(record=None)
    assert only.startswith("This machine has not been measured; `saywell tune`")


def test_active_levels_are_reported_with_their_reason() -> None:
    pressure = PressureReport(
        level=1, steps=("slots",), changes={"max_batch_size": "4 → 2"}, reason="91 % of memory is in use"
    )
    (only,) = told(pressure=pressure)
    assert (
        only == "Reduced for now: max_batch_size 4 → 2, because 91 % of memory is in use; this is undone automatically."
    )
    (only,) = told(pressure=replace(pressure, frees=460 << 20))
    assert only.startswith("Reduced for now (frees up to 460 MB): max_batch_size 4 → 2, because 91 %")
    shut = PressureReport(level=1, steps=("refuse",), reason="97 % of memory is in use")
    assert told(pressure=shut)[0].startswith("Reduced for now: new requests, because 97 %")


def test_pressure_that_has_ended_is_not_reported_as_the_reason() -> None:
    pressure = PressureReport(level=1, steps=("slots",), changes={"max_batch_size": "4 → 2"}, reason=SLOWLY)
    (only,) = told(pressure=pressure)
    assert only == f"Reduced for now: max_batch_size 4 → 2, {SLOWLY}."


def test_pending_levels_are_not_reported() -> None:
    assert told(pressure=PressureReport(level=1, steps=("threads",), pending=("threads",), reason="hot")) == []


def test_memory_of_the_gpu_in_use_counts() -> None:
    gpu = GpuLoad(name="RTX 4090", utilisation=1.0, memory_used=23 * GIB, memory_total=24 * GIB)
    (only,) = told(replace(PLAN, device=Device("cuda")), now=now(gpus=(gpu,)))
    assert only == "96 % of 24.0 GB of memory on the RTX 4090 is in use, 1.0 GB free; requests may be rejected."


def test_memory_heat_and_dead_workers() -> None:
    found = told(
        now=now(memory_percent=88.0, memory_available=GIB, throttled=("package 0 is throttled",)), restarts=2
    )  # fmt: skip
    assert found[0] == "88 % of 8.0 GB of memory is in use, 1.0 GB free; requests may be rejected."
    assert found[1].startswith("Throttled: package 0 is throttled.")
    assert "replaced 2 times" in found[2]


def test_a_setting_slower_than_measured_is_reported() -> None:
    (only,) = told(with_setting(PLAN, "precision"), record=TUNED)
    assert only == ("precision=int8 is set; precision=int4 was measured 2.0 times as fast here (RTF 0.25 against 0.5).")
    assert told(with_setting(PLAN, "max_batch_size"), record=record({"max_batch_size": 4}, RULES)) == []


def test_the_gain_of_tuning_is_reported() -> None:
    (only,) = told(replace(PLAN, precision="int4"), record=TUNED)
    assert only == (
        "Measured on this machine: precision=int4 is 2.0 times as fast as the defaults (RTF 0.25 against 0.5)."
    )


def test_slower_than_measured_names_other_programs() -> None:
    busy = now(cpu_percent=100.0, cpu_own_percent=45.0)
    (only,) = told(spoken=spoken(6, 1.1), now=busy)
    assert only == (
        "The RTF is 1.1 at the moment, 2.2 times the value measured on this machine (0.5); other programs use "
        "55 % of the CPUs."
    )
    assert told(spoken=spoken(4, 1.1), now=busy) == [], "four answers say nothing yet"
    assert told(spoken=spoken(6, 0.6)) == []


def test_slower_than_speech_and_waiting_for_slots() -> None:
    slow, waiting = told(spoken=spoken(6, 1.5, queued_s=2.0), record=record({}))
    assert slow == "Synthesis is slower than real time: RTF 1.50."
    assert waiting == "Half of the last 6 requests waited at least 2.0 s for a slot; max_batch_size is 4."


def test_limits_of_the_machine() -> None:
    hardware = replace(HARDWARE, limits=Limits(cgroup="v2", memory=4 * GIB, cpus=(0,)))
    assert told(hardware=hardware) == [
        "Only 1 of 2 CPUs are available to this process.",
        "Only 4.0 GB of 8.0 GB of memory is available to this process.",
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({}, "NVIDIA GeForce RTX 4090 (compute capability 8.9, 24.0 GB) is not used: espeak has no executor for it"),
        ({"device": "cpu"}, "NVIDIA GeForce RTX 4090 is not used: asked for by keyword."),
    ],
)
def test_a_gpu_that_is_not_used_is_named_once(overrides: dict, said: str) -> None:
    hardware = machine("rtx-4090-desktop")
    found = told(make_plan(Settings(**overrides), hardware, ESPEAK), hardware=hardware)
    (only,) = [text for text in found if "is not used" in text]
    assert only.startswith(said)
    assert only.count("is not used") == 1


@pytest.mark.parametrize(
    ("plan", "kept", "wanted"),
    [(PLAN, TUNED, 0.5), (replace(PLAN, precision="int4"), TUNED, 0.25), (PLAN, None, None), (PLAN, record({}), None)],
)
def test_insights_name_limits_of_the_plan(plan: Plan, kept: Record | None, wanted: float | None) -> None:
    assert expected_rtf(plan, kept) == wanted
