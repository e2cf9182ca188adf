"""The ladder in the running engine: what each step does, that none of them is heard, and how it comes back.

The machine is made up, and looks are taken by hand: nothing here waits for a clock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from asking import LONG, ask, until
from machines import made_up
from plans import TINY_PLAN
from saywell.engine import loop as loop_module
from saywell.engine.engine import Engine
from saywell.engine.pressure.watch import Watch
from saywell.errors import ModelFailure, Unavailable
from saywell.machine.monitor import Resources
from saywell.plan.degradation import GONE, SLOWLY, Timing
from saywell.plan.plan import Plan
from saywell.types import Frame, ModelSpec, Samples, Sequence
from tiny_ar import family as tiny_ar

GIB = 1 << 30
AT_ONCE = Timing(confirm=0.0, down=0.0, up=0.0)
PLAN = replace(TINY_PLAN, adapt=True, threads=4, slots=4, lookahead=4, cache_entries=8, first_frames=2, chunk_frames=8)
SPEC = replace(tiny_ar.spec("tiny", None), variants=made_up(fp32=100_000, int8=40_000))
DOWN = ["chunks", "slots", "threads", "caches", "lighter", "refuse"]
CALM, FULL, CRITICAL = 50.0, 90.0, 97.0


def machine(memory_percent: float = CALM, **fields: object) -> Resources:
    free = int(8 * GIB * (1 - memory_percent / 100))
    quiet = {"cpu_percent": 10.0, "memory_limit": 8 * GIB, "process_memory": GIB}
    return Resources(**{**quiet, "memory_percent": memory_percent, "memory_available": free, **fields})


BUSY = machine(cpu_percent=99.0, cpu_own_percent=49.0, cpu_stalled_percent=60.0)
"""Another program takes half of the CPUs."""


class Told(tiny_ar.TinyModel):
    """Notes the plans it is given and how many share a step."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        super().__init__(spec, plan)
        self.loaded = plan
        self.plans: list[Plan] = []
        self.shared = 0
        self.during: Callable[[], None] = lambda: None

    def adapt(self, plan: Plan) -> None:
        self.plans.append(plan)

    def step(self, batch: list[Sequence]) -> list[Frame]:
        self.shared = max(self.shared, len(batch))
        self.during()
        return super().step(batch)


class Rig:
    """An engine whose machine is looked at when the test says so."""

    def __init__(self, plan: Plan, model: type[Told], **fields: object) -> None:
        self.models: list[Told] = []

        def load(now: Plan) -> Told:
            self.models.append(model(SPEC, now))
            return self.models[-1]

        self.engine = Engine(SPEC, plan, load, look=machine, timing=AT_ONCE, **fields)
        self.engine.start()
        self.watch = self.engine._watch
        self.watch.stop()

    @property
    def model(self) -> Told:
        return self.models[-1]

    def see(self, now: Resources | float, times: int = 1) -> None:
        for _ in range(times):
            self.watch.see(machine(now) if isinstance(now, float) else now)
        self.settle()

    def settle(self) -> None:
        """Wait until the engine has done what it was told."""
        done = threading.Event()
        self.engine.wake(done.set)
        assert done.wait(5)

    def say(self, text: str = LONG, **fields: object) -> Samples:
        return self.engine.submit(ask(text, **fields)).collect().samples


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def start(model: type[Told] = Told, strained: str = "", **fields: object) -> Rig:
        made.append(Rig(replace(PLAN, **fields), model, strained=strained))
        return made[-1]

    yield start
    for each in made:
        each.engine.close()


# Down and up


def test_every_step_is_taken_shown_and_logged_with_its_reason(rig, caplog) -> None:
    it = rig()
    caplog.set_level(logging.WARNING, "saywell.engine.pressure.watch")

    def said() -> str:
        return [each.message for each in caplog.records if each.name == "saywell.engine.pressure.watch"][-1]

    for level in range(1, 7):
        it.see(CRITICAL)
        pressure = it.engine.health().pressure
        assert (pressure.level, list(pressure.steps)) == (level, DOWN[:level])
        assert pressure.reason == "97 % of 8.0 GB of memory is in use"
        assert f"gives up: {DOWN[level - 1]} (97 % of 8.0 GB" in said()
    changes = it.engine.health().pressure.changes
    assert (changes["threads"], changes["slots"], changes["chunk_frames"]) == ("4 → 2", "4 → 2", "8 → 4")
    for level in range(5, -1, -1):
        it.see(CALM)
        pressure = it.engine.health().pressure
        assert (pressure.level, pressure.reason) == (level, SLOWLY if level else GONE)
        assert f"takes up again: {DOWN[level]} (the pressure is gone)" in said()
    assert said().endswith("Now as planned")
    assert (it.engine.health().pressure.downs, it.engine.health().pressure.ups) == (6, 6)


def test_the_model_is_told_of_what_it_can_change_while_it_runs(rig) -> None:
    it = rig()
    it.see(FULL, 4)
    assert [(p.threads, p.slots, p.cache_entries) for p in it.model.plans[-4:]] == [
        (4, 4, 8),
        (4, 2, 8),
        (2, 2, 8),
        (2, 2, 4),
    ]
    it.see(CALM, 4)
    assert (it.model.plans[-1].threads, it.model.plans[-1].slots, it.model.plans[-1].cache_entries) == (4, 4, 8)


def test_fewer_slots_are_used_and_nobody_is_turned_away_for_it(rig) -> None:
    it = rig(queue=4)
    it.say()
    assert it.model.shared == 3, "the fourth is for somebody who has heard nothing yet"
    it.see(BUSY, 2)
    assert it.engine.health().slots == 2
    it.model.shared = 0
    streams = [it.engine.submit(ask(LONG, seed=seed)) for seed in range(8)]
    assert all(stream.collect().duration_s > 1 for stream in streams), "as many as the plan lets in"
    assert it.model.shared in (2, 3), "one that was taken is lent to newcomers"


def test_other_programs_on_the_cpus_take_work_and_nothing_else(rig) -> None:
    it = rig()
    it.see(BUSY, 10)
    assert list(it.engine.health().pressure.steps) == DOWN[:3]
    assert it.engine.health().pressure.reason == "other programs take 50 % of the CPUs"


# Sound


def test_no_step_is_heard_that_must_not_be(rig) -> None:
    it = rig()
    planned = it.say()
    for level in range(1, 5):
        it.see(FULL)
        assert it.engine.health().pressure.level == level
        assert np.array_equal(it.say(), planned), DOWN[level - 1]


def test_steps_in_the_middle_of_a_text_are_not_heard(rig) -> None:
    it = rig()
    planned = it.say()
    levels: list[int] = []
    steps = iter(range(10_000))

    def during() -> None:
        count = next(steps)
        if count % 5 == 0:
            it.watch.see(machine(FULL if count // 40 % 2 == 0 else CALM))
            levels.append(it.engine.health().pressure.level)

    it.model.during = during
    heard = it.say()
    it.model.during = lambda: None
    assert {0, 1, 2, 3, 4} <= set(levels), "all the way down and up, more than once"
    assert np.array_equal(heard, planned)


# Another precision


def test_lighter_weights_wait_for_what_has_begun_and_come_back_with_the_room(rig) -> None:
    it = rig()
    gate = threading.Event()
    it.model.during = lambda: gate.wait(10)
    under_way = it.engine.submit(ask(LONG))
    until(lambda: it.engine.health().running > 0)
    for _ in range(5):
        it.watch.see(machine(FULL))
    later = it.engine.submit(ask("Another one."))
    until(lambda: it.engine.health().pressure.level == 5)
    assert "lighter" in it.engine.health().pressure.steps
    gate.set()
    whole = under_way.collect()
    assert whole.summary.finish_reason == "stop"
    assert later.collect().duration_s > 0
    assert [model.loaded.precision for model in it.models] == ["fp32", "int8"]
    assert it.models[0].closed
    assert it.engine.health().pressure.pending == ()
    it.see(replace(machine(75.0), memory_available=2 * GIB + 10_000), 3)
    assert it.engine.health().pressure.level == 5, "no room for the heavier ones yet"
    it.see(CALM)
    until(lambda: it.model.loaded.precision == "fp32")
    assert it.say("Back again.").size


def test_a_long_text_does_not_keep_others_waiting_for_lighter_weights(rig, monkeypatch) -> None:
    monkeypatch.setattr(loop_module, "_HOLD_S", 0.0)
    it = rig()
    gate = threading.Event()
    it.model.during = lambda: gate.wait(0.02)
    slow = it.engine.submit(ask(LONG))
    until(lambda: it.engine.health().running > 0)
    it.see(FULL, 5)
    assert it.engine.health().pressure.pending == ("lighter",)
    assert it.engine.submit(ask("A short one.")).collect().duration_s > 0
    assert it.engine.health().pressure.pending == ("lighter",)
    gate.set()
    slow.collect()
    until(lambda: len(it.models) == 2 and it.engine.health().pressure.pending == ())


class NoInt8(Told):
    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        if plan.precision == "int8":
            raise ModelFailure("int8.data is missing")
        super().__init__(spec, plan)


def test_weights_that_cannot_be_loaded_leave_those_there_are(rig) -> None:
    it = rig(NoInt8)
    planned = it.say()
    it.see(FULL, 5)
    assert np.array_equal(it.say(), planned)
    assert it.engine.health().state == "ready"
    assert it.engine.health().pressure.pending == ("lighter",)
    assert [model.loaded.precision for model in it.models] == ["fp32", "fp32"], "tried once, nobody waits for the next"
    it.see(CALM)
    it.see(FULL)
    it.say()
    assert len(it.models) == 3, "tried again with the next plan that asks for it"


def test_weights_that_cannot_be_loaded_are_tried_once(rig) -> None:
    it = rig(NoInt8)
    load, tried = it.engine._resident._load, []
    it.engine._resident._load = lambda plan: (tried.append(plan.precision), load(plan))[1]
    it.see(FULL, 5)
    for _ in range(5):
        it.say()
    assert tried == ["int8", "fp32"]
    it.see(CALM, 8)
    it.see(FULL, 5)
    it.say()
    assert tried == ["int8", "fp32"] * 2  # the reason may be gone


def test_an_engine_outlives_weights_that_cannot_be_loaded_for_a_while(rig, monkeypatch) -> None:
    monkeypatch.setattr(loop_module, "_AGAIN_S", 0.05)
    it = rig()
    planned = it.say()
    load, broken = it.engine._resident._load, [ModelFailure("no memory"), MemoryError()]
    it.engine._resident._load = lambda plan: (_ for _ in ()).throw(broken.pop()) if broken else load(plan)
    it.see(FULL, 5)
    until(lambda: not broken)
    assert np.array_equal(it.say(), planned)
    assert it.engine.health().state == "ready"


def test_an_engine_that_begins_under_relief_begins_with_what_loads(rig) -> None:
    it = rig(NoInt8, strained="the worker before was killed")
    assert it.say().size
    assert it.engine.health().pressure.pending == ("lighter",)


# The door


def test_the_door_closes_for_new_ones_only(rig) -> None:
    it = rig()
    gate = threading.Event()
    it.model.during = lambda: gate.wait(10)
    inside = it.engine.submit(ask())
    until(lambda: it.engine.health().running > 0)
    for _ in range(6):
        it.watch.see(machine(CRITICAL))
    with pytest.raises(Unavailable, match=r"no new requests .* 97 % of 8.0 GB .* try again in 2 s") as refused:
        it.engine.submit(ask())
    assert refused.value.retry_after == 2.0
    gate.set()
    assert inside.collect().duration_s > 0
    it.see(FULL)
    assert it.engine.submit(ask()).collect().duration_s > 0


# Trouble


def test_a_model_that_cannot_take_up_a_plan_is_loaded_anew(rig) -> None:
    class Stubborn(Told):
        def adapt(self, plan: Plan) -> None:
            if plan.threads < self.loaded.threads:
                raise RuntimeError("no such thread pool")

    it = rig(Stubborn)
    planned = it.say()
    it.see(BUSY, 3)
    assert np.array_equal(it.say(), planned)
    assert [model.loaded.threads for model in it.models] == [4, 2]
    assert it.models[0].closed


def test_an_engine_that_follows_a_killed_one_begins_under_relief(rig) -> None:
    it = rig(strained="the worker before was killed")
    assert [model.loaded.precision for model in it.models] == ["int8"]
    assert it.engine.health().pressure.reason == "the worker before was killed"
    it.see(CALM, 6)
    until(lambda: it.engine.health().pressure.level == 0 and it.model.loaded.precision == "fp32")


def test_an_engine_that_must_not_adapt_looks_at_nothing(tiny_engine) -> None:
    engine = tiny_engine(adapt=False)
    assert engine._watch is None
    assert engine._monitor is None
    assert engine.health().pressure.level == 0


def test_a_machine_that_cannot_be_read_for_a_while_is_told_of_once(caplog) -> None:
    looks = iter([OSError("no such file"), OSError("no such file"), machine(FULL), machine(FULL)])
    seen = threading.Event()

    def look() -> Resources:
        found = next(looks, None)
        if isinstance(found, OSError):
            raise found
        if found is None:
            seen.set()
        return found or machine(FULL)

    plans: list[Plan] = []
    watch = Watch(PLAN, SPEC, plans.append, look=look, timing=AT_ONCE, every_s=0.001)
    watch.start()
    assert seen.wait(5)
    watch.stop()
    assert [message for message in caplog.messages if "cannot be read" in message] == [
        "the state of the machine cannot be read: no such file"
    ]
    assert plans[0].chunk_frames == 4
