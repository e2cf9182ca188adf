"""Pressure: what can be given up, when it is, and how it comes back. Nothing here is real."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from machines import MACHINES, S1_MINI, SPECS, made_up
from machines import machine as recorded
from plans import TINY_PLAN, with_levels
from saywell.errors import PlanError
from saywell.machine import Device
from saywell.machine.monitor import Resources
from saywell.machine.sensors.nvidia import GpuLoad
from saywell.plan.degradation import (
    GONE,
    SLOWLY,
    DegradationLadder,
    Pressure,
    PressureReport,
    Timing,
    classify,
    in_force,
    relieved,
)
from saywell.plan.memory import variant_of
from saywell.plan.plan import Plan, Reason, changed, make_plan
from saywell.settings import Settings
from saywell.types import ModelSpec

MIB, GIB = 1 << 20, 1 << 30
SPEC = ModelSpec(
    name="m",
    family="m",
    kind="autoregressive",
    sample_rate=24_000,
    frame_rate=21.5,
    variants=made_up(fp32=2000 * MIB, int8=600 * MIB, int4=400 * MIB),
    slot_bytes=25 * MIB,
    sheds=("threads",),
)
BARE = replace(
    TINY_PLAN,
    precision="int8",
    threads=10,
    max_batch_size=8,
    max_parallel_chunks=6,
    max_queue=16,
    cache_entries=25,
    cache_bytes=200 * MIB,
)
ALL = ["slots", "threads", "caches", "lighter"]
CALM = Pressure()


PLAN = with_levels(BARE, SPEC)


def names(plan: Plan) -> list[str]:
    return [level.name for level in plan.levels]


def machine(**fields: Any) -> Resources:
    quiet = {
        "cpu_percent": 10.0, "cpu_own_percent": 5.0, "memory_limit": 8 * GIB, "memory_available": 4 * GIB,
        "memory_percent": 50.0,
    }  # fmt: skip
    return Resources(**{**quiet, **fields})


def full(percent: float, limit: int = 8 * GIB, **fields: Any) -> Resources:
    free = int(limit * (1 - percent / 100))
    return machine(memory_percent=percent, memory_limit=limit, memory_available=free, **fields)


# What can be given up


def test_every_level_halves_and_the_order_is_kept() -> None:
    assert names(PLAN) == ALL
    now = relieved(PLAN, ALL)
    assert (now.max_batch_size, now.max_parallel_chunks, now.threads, now.cache_entries, now.precision) == (
        4,
        4,
        5,
        12,
        "int4",
    )
    assert now.max_batch_size + now.max_queue == PLAN.max_batch_size + PLAN.max_queue, (
        "who would have been let in still is"
    )
    assert changed(PLAN, now)["threads"] == "10 → 5"
    assert relieved(PLAN, []) is PLAN
    assert set(changed(PLAN, relieved(PLAN, ["slots"]))) == {"max_batch_size", "max_parallel_chunks", "max_queue"}


def test_levels_name_their_causes_and_freed_bytes() -> None:
    assert {level.name: (set(level.against), level.frees // MIB) for level in PLAN.levels} == {
        "slots": ({"memory", "heat"}, 100),
        "threads": ({"cpu", "heat"}, 0),
        "caches": ({"memory"}, 100),
        "lighter": ({"memory"}, 200),
    }
    assert [level.name for level in PLAN.levels if level.audible] == ["lighter"]


def test_fewer_threads_only_for_models_that_gain_from_it() -> None:
    plan = with_levels(BARE, replace(SPEC, sheds=()))
    assert next(level.against for level in plan.levels if level.name == "threads") == ("heat",)


def test_levels_that_free_little_do_not_help_memory() -> None:
    plan = with_levels(BARE, SPEC, 64 * GIB)
    assert names(plan) == ["slots", "threads"]
    assert all("memory" not in level.against for level in plan.levels)


def test_fields_at_their_minimum_have_no_level() -> None:
    assert names(with_levels(replace(BARE, max_batch_size=1, threads=1, cache_entries=1, precision="int4"), SPEC)) == []


def test_a_set_precision_is_never_lowered() -> None:
    setting = Reason(field="precision", value="int8", why="asked for", source="setting")
    assert "lighter" not in names(with_levels(replace(BARE, reasons=(setting,)), SPEC))


@pytest.mark.parametrize("file", MACHINES, ids=lambda file: file.stem)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_degraded_plan_is_complete(file: Any, spec: ModelSpec) -> None:
    try:
        plan = make_plan(Settings(), recorded(file.stem), spec)
    except PlanError:
        pytest.skip("this machine cannot run it")
    for level in plan.levels:
        now = relieved(plan, [level.name])
        variant = variant_of(now, spec)
        assert (variant.precision, variant.options) == (now.precision, now.options)
        assert {reason.field for reason in now.reasons if reason.source == "pressure"} <= set(changed(plan, now))
        if level.audible:
            again = make_plan(Settings(precision=now.precision), recorded(file.stem), spec)
            assert now.options == again.options
            assert set(changed(plan, now)) <= {"precision", "options"}, "texts are cut the same"
        else:
            assert set(changed(plan, now)) <= {
                "max_batch_size",
                "max_parallel_chunks",
                "max_queue",
                "threads",
                "cache_entries",
                "cache_bytes",
            }
        assert level.frees >= 0
    everything = relieved(plan, names(plan))
    for level in plan.levels:
        for name in changed(plan, level.plan):
            assert getattr(everything, name) == getattr(level.plan, name), "levels add up"


def test_settings_that_conflict_with_a_level_are_reduced_too() -> None:
    """One that would be refused beside fewer slots must not end the program."""
    plan = make_plan(Settings(max_batch_size=8, max_parallel_chunks=8, cache_mb=64), recorded("i5-1235u-16gb"), S1_MINI)
    now = relieved(plan, ["slots"])
    assert (plan.max_parallel_chunks, now.max_batch_size, now.max_parallel_chunks) == (8, 4, 4)
    reason = next(reason for reason in now.reasons if reason.field == "max_batch_size")
    assert (reason.value, reason.source) == ("4", "pressure")


def test_pending_levels_are_not_in_force() -> None:
    report = PressureReport(level=4, steps=tuple(ALL), pending=("lighter",))
    now = in_force(PLAN, report)
    assert (now.precision, now.threads, now.max_batch_size) == ("int8", 5, 4)
    assert in_force(PLAN, replace(report, pending=())).precision == "int4"


# What a look at the machine means


@pytest.mark.parametrize(
    ("now", "push", "hold"),
    [
        (machine(), "", ""),
        (full(80), "", "memory"),
        (full(86), "memory", "memory"),
        (machine(cpu_percent=100.0, cpu_own_percent=99.0), "", ""),
        (machine(cpu_percent=100.0, cpu_own_percent=60.0), "cpu", "cpu"),
        (machine(cpu_percent=100.0, cpu_own_percent=60.0, cpu_stalled_percent=0.5), "", "cpu"),
        (machine(cpu_percent=60.0, cpu_own_percent=20.0, cpu_stalled_percent=0.5), "", ""),
        (machine(cpu_percent=100.0, cpu_own_percent=60.0, cpu_stalled_percent=40.0), "cpu", "cpu"),
        (machine(cpu_percent=85.0, cpu_own_percent=60.0), "", "cpu"),
        (machine(heat_margin=20.0), "", ""),
        (machine(heat_margin=8.0), "", "heat"),
        (machine(heat_margin=2.0), "heat", "heat"),
        (machine(throttled=("the fan has stopped",)), "heat", "heat"),
    ],
)
def test_classification(now: Resources, push: str, hold: str) -> None:
    found = classify(now, PLAN)
    assert (" ".join(found.push), " ".join(found.hold), found.critical) == (push, hold, "")


def test_memory_is_critical_above_95_percent() -> None:
    assert classify(full(96), PLAN).critical == "96 % of 8.0 GB of memory is in use"


def test_heat_counts_only_if_the_plan_is_thermal() -> None:
    hot = machine(heat_margin=2.0, throttled=("the fan has stopped",))
    assert classify(hot, replace(PLAN, thermal=False)) == classify(machine(), PLAN)


def test_pressure_reasons_contain_figures() -> None:
    both = classify(full(91, throttled=("the GPU is slowed down by heat",)), PLAN)
    assert both.push == {"memory": "91 % of 8.0 GB of memory is in use", "heat": "the GPU is slowed down by heat"}
    assert classify(machine(), PLAN) == replace(CALM, room=2 * GIB)
    assert classify(full(80), PLAN).hold == {"memory": "80 % of 8.0 GB of memory is in use"}
    assert classify(full(90), PLAN).missing == pytest.approx(0.05 * 8 * GIB, abs=2)


def gpu(percent: float, total: int = 24 * GIB) -> GpuLoad:
    return GpuLoad(name="RTX 4090", utilisation=50.0, memory_used=int(total * percent / 100), memory_total=total)


def test_on_a_gpu_its_memory_counts() -> None:
    plan = replace(PLAN, device=Device("cuda"))
    small = replace(gpu(99.0, 4 * GIB), index=1)
    pressed = classify(machine(gpus=(small, gpu(90.0))), plan)
    assert pressed.push == {"memory": "90 % of 24.0 GB of memory on the RTX 4090 is in use"}
    assert pressed.missing == pytest.approx(0.05 * 24 * GIB, abs=2)
    assert pressed.critical == ""
    assert classify(machine(gpus=(small, gpu(50.0))), plan) == replace(CALM, room=6 * GIB)
    assert "RTX 4090" in classify(machine(gpus=(gpu(96.0),)), plan).critical


def test_full_host_memory_rejects_requests_to_a_gpu_without_degrading() -> None:
    plan = replace(PLAN, device=Device("cuda"))
    pressed = classify(full(97, gpus=(gpu(50.0),)), plan)
    assert pressed.push == {}
    assert pressed.critical == "97 % of 8.0 GB of memory is in use"


def test_other_gpus_do_not_count() -> None:
    assert classify(machine(gpus=(gpu(99.0),)), PLAN) == classify(machine(), PLAN)


# The ladder


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def ladder(*only: str) -> tuple[DegradationLadder, Clock]:
    clock = Clock()
    return DegradationLadder(
        tuple(level for level in PLAN.levels if level.name in (only or ALL)), Timing(), clock
    ), clock


def feed(
    it: DegradationLadder, clock: Clock, pressure: Pressure, seconds: float
) -> list[tuple[float, tuple[str, ...]]]:
    """What was given up after each move, with the seconds it took."""
    found, begun = [], clock.now
    while clock.now < begun + seconds:
        if it.feed(pressure):
            found.append((clock.now - begun, it.steps))
        clock.now += 0.5
    return found


def pressed(*kinds: str, **fields: Any) -> Pressure:
    whys = {kind: f"{kind} presses" for kind in kinds}
    return Pressure(**{"push": whys, "hold": whys, **fields})


CRITICAL = pressed("memory", critical="memory presses")


def test_down_within_two_seconds_then_step_by_step() -> None:
    it, clock = ladder()
    found = feed(it, clock, pressed("memory"), 30)
    assert [steps[-1] for _, steps in found] == ["slots", "caches", "lighter"]
    assert found[0][0] <= 1.0
    assert all(b - a >= 1.0 for (a, _), (b, _) in itertools.pairwise(found))
    assert it.reason == "memory presses"


def test_a_short_peak_is_ignored() -> None:
    it, clock = ladder()
    for _ in range(20):
        assert not it.feed(CRITICAL)
        clock.now += 0.5
        assert not it.feed(CALM)
        clock.now += 0.5


@pytest.mark.parametrize(
    ("kinds", "given_up"),
    [
        (["cpu"], ("threads",)),
        (["heat"], ("slots", "threads")),
        (["memory"], ("slots", "caches", "lighter")),
        (["cpu", "memory"], ("slots", "threads", "caches", "lighter")),
    ],
)
def test_only_levels_that_help_are_applied(kinds: list[str], given_up: tuple[str, ...]) -> None:
    it, clock = ladder()
    feed(it, clock, pressed(*kinds), 60)
    assert it.steps == given_up


def test_all_levels_are_undone_within_thirty_seconds() -> None:
    it, clock = ladder()
    feed(it, clock, pressed("cpu", "memory", critical="memory is full"), 30)
    assert it.steps == (*ALL, "refuse")
    found = feed(it, clock, CALM, 40)
    assert [steps for _, steps in found] == [tuple(ALL[:count]) for count in (4, 3, 2, 1, 0)]
    assert found[-1][0] <= 30
    assert it.reason == GONE
    assert (it.downs, it.ups) == (5, 5)


def test_the_reason_names_what_keeps_levels_active() -> None:
    it, clock = ladder()
    feed(it, clock, pressed("memory", "cpu"), 30)
    assert it.reason == "memory presses and cpu presses"
    feed(it, clock, classify(machine(cpu_percent=85.0, cpu_own_percent=60.0), PLAN), 30)
    assert it.steps == ("threads",)
    assert it.reason == "other programs use 25 % of the CPUs"
    it.feed(CALM)
    assert it.reason == SLOWLY
    feed(it, clock, CALM, 30)
    assert (it.steps, it.reason) == ((), GONE)


def test_between_the_thresholds_nothing_moves() -> None:
    it, clock = ladder()
    feed(it, clock, pressed("memory"), 2.5)
    steps = it.steps
    assert steps
    assert feed(it, clock, pressed("memory", push={}), 60) == []
    assert it.steps == steps


def test_undoing_backs_off_if_pressure_returns() -> None:
    it, clock = ladder("threads")
    waits = []
    for _ in range(6):
        feed(it, clock, pressed("cpu"), 2)
        waits.append(feed(it, clock, CALM, 100)[0][0])
        it._climbed = it._stepped = clock.now  # as if the pressure came back at once
    assert waits == sorted(waits)
    assert waits[0] == 4.0
    assert waits[-1] == 64.0
    clock.now += 100
    feed(it, clock, pressed("cpu"), 2)
    assert feed(it, clock, CALM, 100)[0][0] == 4.0, "long forgotten"


def test_precision_is_restored_only_with_enough_memory() -> None:
    it, clock = ladder("lighter")
    feed(it, clock, pressed("memory"), 20)
    assert it.steps == ("lighter",)
    assert feed(it, clock, replace(CALM, room=150 * MIB), 60) == []
    assert it.reason == "the planned weights need 200 MB more, and 150 MB is available"
    assert feed(it, clock, replace(CALM, room=250 * MIB), 5)[0][1] == ()


def test_lower_precision_only_if_it_frees_a_relevant_share() -> None:
    it, clock = ladder()
    feed(it, clock, pressed("memory", missing=GIB), 20)
    assert it.steps == ("slots", "caches"), "200 MB are next to nothing"
    feed(it, clock, pressed("memory", missing=700 * MIB), 20)
    assert it.steps == ("slots", "caches", "lighter")
    assert feed(it, clock, pressed("memory", missing=GIB), 20) == [], "and is not taken up again for that"


def test_precision_is_kept_when_another_program_fills_the_memory() -> None:
    """7 GB at 93 %, 6.5 GB of it another program's, and a voice of a few megabytes."""
    spec = replace(SPEC, variants=made_up(int8=12 * MIB, int4=8 * MIB), slot_bytes=MIB)
    plan = with_levels(replace(BARE, cache_bytes=8 * MIB), spec, 7 * GIB)
    it, clock = DegradationLadder(plan.levels, Timing(), Clock()), Clock()
    it._clock = clock
    assert feed(it, clock, classify(full(93, 7 * GIB), plan), 60) == []


def test_out_of_memory_applies_all_memory_levels_at_once() -> None:
    it, _ = ladder()
    assert it.drop(pressed("memory"))
    assert it.steps == ("slots", "caches", "lighter")
    assert not it.drop(pressed("memory"))
    assert (it.downs, it.reason) == (3, "memory presses")


def test_out_of_memory_restarts_the_calm_period() -> None:
    it, clock = ladder()
    feed(it, clock, pressed("cpu"), 60)
    feed(it, clock, CALM, 3.5)
    assert it.drop(pressed("memory"))
    assert feed(it, clock, CALM, 5)[0][0] >= 4.0


def test_rejection_starts_and_ends_quickly() -> None:
    """However often it had to be closed again, and whatever is given up beside it."""
    it, clock = ladder()
    for _ in range(6):
        closed = feed(it, clock, CRITICAL, 12)
        assert closed[0][0] <= 1.0
        assert it.steps[-1] == "refuse"
        assert it.reason == "memory presses"
        feed(it, clock, pressed("memory", push={}), 1.6)
        assert not it.refusing
        assert it.steps == ("slots", "caches", "lighter"), "what holds still holds the rest"


def test_a_plan_without_levels_still_rejects() -> None:
    it, clock = DegradationLadder(()), Clock()
    it._clock = clock
    assert [steps for _, steps in feed(it, clock, CRITICAL, 10)] == [("refuse",)]
    assert [steps for _, steps in feed(it, clock, CALM, 10)] == [()]
    assert it.reason == GONE


def test_dropping_rejects_if_memory_is_critical() -> None:
    it, _ = ladder()
    assert it.drop(CRITICAL)
    assert it.steps == ("slots", "caches", "lighter", "refuse")
