"""Pressure and the ladder: what is given up, in which order, when, and how it comes back. Nothing here is real."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from machines import made_up
from plans import TINY_PLAN
from saywell.machine.monitor import Resources
from saywell.plan.degradation import (
    CALM,
    GONE,
    SLOWLY,
    Depth,
    Ladder,
    Pressure,
    PressureReport,
    Step,
    Timing,
    changed,
    in_force,
    judge,
    relieve,
    steps,
)
from saywell.plan.plan import Reason
from saywell.types import ModelSpec

MIB, GIB = 1 << 20, 1 << 30
SPEC = ModelSpec(
    name="m",
    family="m",
    kind="autoregressive",
    sample_rate=24_000,
    frame_rate=21.5,
    variants=made_up(fp32=2000 * MIB, int8=600 * MIB, int4=400 * MIB),
)
PLAN = replace(
    TINY_PLAN, precision="int8", threads=10, slots=8, lookahead=6, queue=16, first_frames=8, chunk_frames=24,
    cache_entries=25,
)  # fmt: skip
ALL = ["chunks", "slots", "threads", "caches", "lighter", "refuse"]


def machine(**fields: object) -> Resources:
    quiet = {
        "cpu_percent": 10.0, "cpu_own_percent": 5.0, "memory_limit": 8 * GIB, "memory_available": 4 * GIB,
        "memory_percent": 50.0, "process_memory": GIB,
    }  # fmt: skip
    return Resources(**{**quiet, **fields})


def full(percent: float) -> Resources:
    return machine(memory_percent=percent, memory_available=int(8 * GIB * (1 - percent / 100)))


# The plan of a level


def test_every_step_halves_and_the_order_is_kept() -> None:
    assert [step.name for step in steps(PLAN, SPEC)] == ALL
    now = relieve(PLAN, SPEC, 6, "memory is short")
    assert (now.chunk_frames, now.slots, now.threads, now.cache_entries, now.precision) == (8, 4, 5, 12, "int4")
    assert now.lookahead == 4
    assert now.slots + now.queue == PLAN.slots + PLAN.queue, "who would have been let in still is"
    assert now.chunk_chars == PLAN.chunk_chars, "a model that streams frames keeps its texts as they are"
    assert changed(PLAN, now)["threads"] == "10 → 5"


def test_each_level_adds_one_step_with_its_reason() -> None:
    assert relieve(PLAN, SPEC, 0, "") is PLAN
    now = relieve(PLAN, SPEC, 2, "91 % of memory is in use")
    assert set(changed(PLAN, now)) == {"chunk_frames", "slots", "lookahead", "queue"}
    reason = next(reason for reason in now.reasons if reason.field == "slots")
    assert (reason.value, reason.source) == ("4", "pressure")
    assert "91 % of memory" in reason.why
    assert "planned: 8" in reason.why


def test_a_text_is_cut_the_same_under_any_pressure() -> None:
    """It would sound otherwise."""
    for plan in (PLAN, replace(PLAN, first_frames=1, chunk_frames=1)):
        for level in range(len(steps(plan, SPEC)) + 1):
            now = relieve(plan, SPEC, level, "")
            assert (now.chunk_chars, now.first_chunk_chars) == (plan.chunk_chars, plan.first_chunk_chars)


def test_what_is_in_force_leaves_out_what_waits() -> None:
    report = PressureReport(level=5, steps=tuple(ALL[:5]), pending=("lighter",))
    now = in_force(PLAN, SPEC, report)
    assert (now.precision, now.threads, now.slots) == ("int8", 5, 4)
    assert in_force(PLAN, SPEC, replace(report, pending=())).precision == "int4"


def test_what_cannot_shrink_is_no_step() -> None:
    least = replace(PLAN, chunk_frames=1, first_frames=1, slots=1, threads=1, cache_entries=1, precision="int4")
    assert [step.name for step in steps(least, SPEC)] == ["refuse"]
    assert relieve(least, SPEC, 1, "") == least


def test_portions_stay_multiples_of_the_first_one() -> None:
    assert relieve(replace(PLAN, chunk_frames=40), SPEC, 1, "").chunk_frames == 16


def test_a_precision_somebody_asked_for_is_kept() -> None:
    wish = Reason(field="precision", value="int8", why="asked for", source="wish")
    assert "lighter" not in [step.name for step in steps(replace(PLAN, reasons=(wish,)), SPEC)]


def test_what_can_be_heard_is_said() -> None:
    assert [step.name for step in steps(PLAN, SPEC) if step.audible] == ["lighter"]
    single = replace(PLAN, first_frames=1, chunk_frames=1)
    assert [step.name for step in steps(single, SPEC) if step.audible] == ["lighter"]


def test_going_back_to_heavier_weights_is_counted() -> None:
    lighter = next(step for step in steps(PLAN, SPEC) if step.name == "lighter")
    assert lighter.bytes == 200 * MIB


# What a look at the machine means


@pytest.mark.parametrize(
    ("now", "push", "hold"),
    [
        (machine(), Depth.NONE, Depth.NONE),
        (full(80), Depth.NONE, Depth.MEMORY),
        (full(86), Depth.MEMORY, Depth.MEMORY),
        (full(96), Depth.DOOR, Depth.DOOR),
        (machine(cpu_percent=100.0, cpu_own_percent=99.0), Depth.NONE, Depth.NONE),
        (machine(cpu_percent=100.0, cpu_own_percent=60.0), Depth.WORK, Depth.WORK),
        (machine(cpu_percent=100.0, cpu_own_percent=60.0, cpu_stalled_percent=0.5), Depth.NONE, Depth.WORK),
        (machine(cpu_percent=60.0, cpu_own_percent=20.0, cpu_stalled_percent=0.5), Depth.NONE, Depth.NONE),
        (machine(cpu_percent=100.0, cpu_own_percent=60.0, cpu_stalled_percent=40.0), Depth.WORK, Depth.WORK),
        (machine(cpu_percent=85.0, cpu_own_percent=60.0), Depth.NONE, Depth.WORK),
        (machine(heat_margin=20.0), Depth.NONE, Depth.NONE),
        (machine(heat_margin=8.0), Depth.NONE, Depth.WORK),
        (machine(heat_margin=2.0), Depth.WORK, Depth.WORK),
        (machine(throttled=("the fan has stopped",)), Depth.WORK, Depth.WORK),
    ],
)
def test_judgement(now: Resources, push: Depth, hold: Depth) -> None:
    found = judge(now)
    assert (found.push, found.hold) == (push, hold)


def test_heat_counts_only_where_the_plan_says_so() -> None:
    hot = machine(heat_margin=2.0, throttled=("the fan has stopped",))
    assert judge(hot, heat=False) == judge(machine())
    assert judge(replace(full(86), throttled=("hot",)), heat=False).why == judge(full(86)).why


def test_reasons_have_figures() -> None:
    both = replace(full(91), throttled=("the GPU is slowed down by heat",))
    why = judge(both).why
    assert "91 % of 8.0 GB of memory" in why
    assert "the GPU is slowed down by heat" in why
    assert judge(machine()) == replace(CALM, room=2 * GIB)
    assert judge(full(80)).holds == "80 % of 8.0 GB of memory is in use"


# The ladder


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def ladder(*steps_: Step, **timing: float) -> tuple[Ladder, Clock]:
    clock = Clock()
    return Ladder(steps_ or steps(PLAN, SPEC), Timing(**timing), clock), clock


def feed(it: Ladder, clock: Clock, pressure: Pressure, seconds: float, every: float = 0.5) -> list[tuple[float, int]]:
    """Levels reached, with the seconds it took."""
    found, begun = [], clock.now
    while clock.now < begun + seconds:
        if it.feed(pressure):
            found.append((clock.now - begun, it.level))
        clock.now += every
    return found


def pressed(depth: Depth, hold: Depth | None = None) -> Pressure:
    return Pressure(push=depth, hold=depth if hold is None else hold, why="pressed", holds="pressed")


def test_down_within_two_seconds_then_step_by_step() -> None:
    it, clock = ladder()
    found = feed(it, clock, pressed(Depth.MEMORY), 30)
    assert [level for _, level in found] == [1, 2, 3, 4, 5]
    assert found[0][0] <= 1.0
    assert all(b - a >= 1.0 for (a, _), (b, _) in itertools.pairwise(found))
    assert it.reason == "pressed"


def test_one_peak_is_no_pressure() -> None:
    it, clock = ladder()
    for _ in range(20):
        assert not it.feed(pressed(Depth.MEMORY))
        clock.now += 0.5
        assert not it.feed(CALM)
        clock.now += 0.5


def test_other_programs_never_close_the_door_nor_lighten_the_model() -> None:
    it, clock = ladder()
    feed(it, clock, pressed(Depth.WORK), 60)
    assert [step.name for step in it.taken] == ["chunks", "slots", "threads"]


def test_back_up_within_thirty_seconds() -> None:
    it, clock = ladder()
    feed(it, clock, pressed(Depth.DOOR), 30)
    assert it.level == 6
    found = feed(it, clock, CALM, 40)
    assert [level for _, level in found] == [5, 4, 3, 2, 1, 0]
    assert found[-1][0] <= 30
    assert it.reason == GONE
    assert (it.downs, it.ups) == (6, 6)


def test_while_steps_are_down_the_reason_is_what_keeps_them_down() -> None:
    it, clock = ladder()
    feed(it, clock, judge(full(90)), 30)
    busy = machine(cpu_percent=85.0, cpu_own_percent=60.0)
    feed(it, clock, busy_look := judge(busy), 30)
    assert [step.name for step in it.taken] == ["chunks", "slots", "threads"]
    assert it.reason == "other programs take 25 % of the CPUs"
    assert it.moved == "less presses: other programs take 25 % of the CPUs"
    assert busy_look.why == CALM.why, "it holds and does not push"
    it.feed(CALM)
    assert it.reason == SLOWLY
    feed(it, clock, CALM, 30)
    assert (it.level, it.reason, it.moved) == (0, GONE, GONE)


def test_between_the_thresholds_nothing_moves() -> None:
    it, clock = ladder()
    feed(it, clock, pressed(Depth.MEMORY), 2.5)
    level = it.level
    assert level > 0
    assert feed(it, clock, pressed(Depth.NONE, hold=Depth.MEMORY), 60) == []
    assert it.level == level


def test_a_smaller_pressure_lets_up_to_its_own_depth() -> None:
    it, clock = ladder()
    feed(it, clock, pressed(Depth.MEMORY), 20)
    feed(it, clock, pressed(Depth.WORK), 60)
    assert it.level == 3


def test_a_step_up_that_does_not_hold_makes_the_next_one_wait() -> None:
    it, clock = ladder(Step(name="slots", depth=Depth.WORK, about="", changes={}))
    waits = []
    for _ in range(6):
        feed(it, clock, pressed(Depth.WORK), 2)
        waits.append(feed(it, clock, CALM, 100)[0][0])
        it.since = clock.now  # as if the pressure came back at once
        it._climbed = clock.now
    assert waits == sorted(waits)
    assert waits[0] == 4.0
    assert waits[-1] == 64.0
    clock.now += 100
    feed(it, clock, pressed(Depth.WORK), 2)
    assert feed(it, clock, CALM, 100)[0][0] == 4.0, "long forgotten"


def test_heavier_weights_come_back_only_when_there_is_room() -> None:
    it, clock = ladder()
    feed(it, clock, pressed(Depth.MEMORY), 20)
    assert it.taken[-1].name == "lighter"
    assert feed(it, clock, replace(CALM, room=150 * MIB), 60) == []
    assert it.reason == "taking up again what was given up last needs 200 MB, and 150 MB may be taken"
    assert feed(it, clock, replace(CALM, room=250 * MIB), 5)[0][1] == 4


def test_running_out_of_memory_takes_all_steps_but_the_door() -> None:
    it, _ = ladder()
    assert it.drop("it ran out", Depth.MEMORY)
    assert [step.name for step in it.taken] == ALL[:-1]
    assert not it.drop("again", Depth.MEMORY)
    assert (it.downs, it.reason) == (5, "it ran out")


def test_calm_counts_anew_after_memory_ran_out() -> None:
    it, clock = ladder()
    feed(it, clock, pressed(Depth.WORK), 60)
    feed(it, clock, CALM, 3.5)
    assert it.drop("memory ran out", Depth.MEMORY)
    assert feed(it, clock, CALM, 5)[0][0] >= 4.0


def test_the_door_opens_within_two_seconds_of_memory_being_free() -> None:
    """However often it had to be closed again, and however long the other steps wait."""
    it, clock = ladder()
    for _ in range(6):
        feed(it, clock, pressed(Depth.DOOR), 12)
        assert it.taken[-1].name == "refuse"
        feed(it, clock, Pressure(push=Depth.NONE, hold=Depth.MEMORY, why="", holds="80 % is in use"), 1.6)
        assert it.taken[-1].name != "refuse"
    assert it.level == len(it.rungs) - 1, "what holds still holds the rest"
