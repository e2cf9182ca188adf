"""The degradation ladder in a running engine: what each level does, that the audio stays the same, how it is restored.

The machine is simulated and samples are taken by the tests, so that nothing waits for a clock.
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
from plans import TINY_PLAN, with_levels
from saywell.engine import loop as loop_module
from saywell.engine.engine import Engine
from saywell.engine.pressure_monitor import PressureMonitor
from saywell.errors import ModelFailure, Unavailable
from saywell.machine.monitor import Resources
from saywell.plan.degradation import GONE, SLOWLY, Timing
from saywell.plan.plan import Plan
from saywell.types import Frame, ModelSpec, Samples, Sequence
from tiny_ar import family as tiny_ar

GIB = 1 << 30
AT_ONCE = Timing(confirm=0.0, down=0.0, up=0.0, door=0.0)
MIB = 1 << 20
PLAN = replace(
    TINY_PLAN, adapt=True, threads=4, max_batch_size=4, max_parallel_chunks=4, cache_entries=8, cache_bytes=256 * MIB,
    first_frames=2, chunk_frames=8,
)  # fmt: skip
SPEC = replace(
    tiny_ar.spec("tiny", None),
    variants=made_up(fp32=1000 * MIB, int8=400 * MIB), slot_bytes=64 * MIB, sheds=("threads",),
)  # fmt: skip
"""Sizes that matter on a machine of 8 GB; the model itself is tiny."""
DOWN = ["slots", "caches", "lighter"]
"""Levels under memory pressure."""
CALM, FULL, CRITICAL = 50.0, 90.0, 97.0


def machine(memory_percent: float = CALM, **fields: object) -> Resources:
    free = int(8 * GIB * (1 - memory_percent / 100))
    quiet = {"cpu_percent": 10.0, "memory_limit": 8 * GIB}
    return Resources(**{**quiet, "memory_percent": memory_percent, "memory_available": free, **fields})


BUSY = machine(cpu_percent=99.0, cpu_own_percent=49.0, cpu_stalled_percent=60.0)
"""Another program uses half of the CPUs."""


class Told(tiny_ar.TinyModel):
    """Records the plans it gets and the size of each batch."""

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
    """An engine whose monitor takes samples when the test says so."""

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
        """Wait until the engine has run all its actions."""
        done = threading.Event()
        self.engine.wake(done.set)
        assert done.wait(5)

    def say(self, text: str = LONG, **fields: object) -> Samples:
        return self.engine.submit(ask(text, **fields)).collect().samples


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def start(model: type[Told] = Told, start_degraded_reason: str = "", **fields: object) -> Rig:
        made.append(Rig(with_levels(replace(PLAN, **fields), SPEC), model, start_degraded_reason=start_degraded_reason))
        return made[-1]

    yield start
    for each in made:
        each.engine.close()


# Down and up


def test_every_level_is_taken_reported_and_logged_with_its_reason(rig, caplog) -> None:
    it = rig()
    caplog.set_level(logging.WARNING, "saywell.engine.pressure_monitor")

    def said() -> str:
        return [each.message for each in caplog.records if each.name == "saywell.engine.pressure_monitor"][-1]

    for level in range(1, 4):
        it.see(FULL)
        pressure = it.engine.health().pressure
        assert (pressure.level, list(pressure.steps)) == (level, DOWN[:level])
        assert pressure.reason == "90 % of 8.0 GB of memory is in use"
        assert f"degradation levels: {', '.join(DOWN[:level])} (90 % of 8.0 GB" in said()
    until(lambda: not it.engine.health().pressure.pending)
    pressure = it.engine.health().pressure
    assert (pressure.changes["max_batch_size"], pressure.changes["precision"]) == ("4 → 2", "fp32 → int8")
    assert pressure.frees == (128 + 128 + 600) * MIB
    for level in range(2, -1, -1):
        it.see(CALM)
        pressure = it.engine.health().pressure
        assert (pressure.level, pressure.reason) == (level, SLOWLY if level else GONE)
        assert f"degradation levels: {', '.join(DOWN[:level]) or 'none'} ({pressure.reason})" in said()
    assert said().endswith("changed: nothing")
    assert (it.engine.health().pressure.downs, it.engine.health().pressure.ups) == (3, 3)


def test_live_fields_are_applied_to_the_running_model(rig) -> None:
    it = rig()
    it.see(BUSY)
    it.see(FULL, 2)
    assert [(p.threads, p.max_batch_size, p.cache_entries) for p in it.model.plans[-3:]] == [
        (2, 4, 8),
        (2, 2, 8),
        (2, 2, 4),
    ]
    it.see(CALM, 3)
    assert (it.model.plans[-1].threads, it.model.plans[-1].max_batch_size, it.model.plans[-1].cache_entries) == (
        4,
        4,
        8,
    )
    assert len(it.models) == 1


def test_fewer_slots_refuse_no_request_that_was_admitted_before(rig) -> None:
    it = rig(max_queue=4)
    it.say()
    assert it.model.shared == 3, "the fourth is for somebody who has heard nothing yet"
    it.see(FULL)
    assert it.engine.health().slots == 2
    it.model.shared = 0
    streams = [it.engine.submit(ask(LONG, seed=seed)) for seed in range(8)]
    assert all(stream.collect().duration_s > 1 for stream in streams), "as many as the plan lets in"
    assert it.model.shared in (2, 3), "one that was taken is lent to newcomers"


def test_cpu_pressure_takes_threads_only(rig) -> None:
    it = rig()
    it.see(BUSY, 10)
    assert it.engine.health().pressure.steps == ("threads",)
    assert it.engine.health().pressure.reason == "other programs use 50 % of the CPUs"


# Sound


def test_levels_do_not_change_the_audio(rig) -> None:
    it = rig()
    planned = it.say()
    for look, steps in ((BUSY, ("threads",)), (FULL, ("threads", "slots")), (FULL, ("threads", "slots", "caches"))):
        it.see(look)
        assert it.engine.health().pressure.steps == steps
        assert np.array_equal(it.say(), planned), steps


@pytest.mark.parametrize("live", [Told.live, frozenset()], ids=["live", "loaded again"])
def test_levels_taken_within_a_text_do_not_change_the_audio(rig, live: frozenset[str]) -> None:
    it = rig(type("Other", (Told,), {"live": live}))
    planned = it.say()
    levels: list[int] = []
    steps = iter(range(10_000))

    def during() -> None:
        count = next(steps)
        if count % 5 == 0:
            down = replace(BUSY, memory_percent=FULL) if len(levels) % 6 < 3 else machine(CALM)
            it.watch.see(down)
            levels.append(it.engine.health().pressure.level)

    it.model.during = during
    heard = it.say()
    it.model.during = lambda: None
    assert {0, 1, 2, 3} <= set(levels), "all the way down and up, more than once"
    assert np.array_equal(heard, planned)


# What a loaded model cannot change


class Fixed(Told):
    """Must be reloaded to change the number of threads."""

    live = Told.live - {"threads"}


def test_a_reload_waits_for_running_streams_and_delays_no_request(rig) -> None:
    it = rig(Fixed)
    planned = it.say()
    gate = threading.Event()
    it.model.during = lambda: gate.wait(0.02)
    slow = it.engine.submit(ask(LONG))
    until(lambda: it.engine.health().running > 0)
    it.see(BUSY)
    assert it.engine.submit(ask("A short one.")).collect().duration_s > 0
    pressure = it.engine.health().pressure
    assert (pressure.pending, pressure.changes, len(it.models)) == (("threads",), {}, 1)
    gate.set()
    assert np.array_equal(slow.collect().samples, planned)
    until(lambda: len(it.models) == 2 and it.engine.health().pressure.pending == ())
    assert [model.loaded.threads for model in it.models] == [4, 2]
    assert it.engine.health().pressure.changes == {"threads": "4 → 2"}
    assert np.array_equal(it.say(), planned)


# Another precision


def test_lighter_weights_wait_for_running_requests_and_are_restored_later(rig) -> None:
    it = rig()
    gate = threading.Event()
    it.model.during = lambda: gate.wait(10)
    under_way = it.engine.submit(ask(LONG))
    until(lambda: it.engine.health().running > 0)
    for _ in range(3):
        it.watch.see(machine(FULL))
    later = it.engine.submit(ask("Another one."))
    assert "lighter" in it.engine.health().pressure.steps
    gate.set()
    whole = under_way.collect()
    assert whole.summary.finish_reason == "stop"
    assert later.collect().duration_s > 0
    assert [model.loaded.precision for model in it.models] == ["fp32", "int8"]
    assert it.models[0].closed
    assert it.engine.health().pressure.pending == ()
    it.see(70.0, 3)
    assert it.engine.health().pressure.steps == ("lighter",), "no room for the heavier ones yet"
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
    it.see(FULL, 3)
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


def test_a_failed_reload_keeps_the_planned_weights(rig) -> None:
    it = rig(NoInt8)
    planned = it.say()
    it.see(FULL, 3)
    assert np.array_equal(it.say(), planned)
    assert it.engine.health().state == "ready"
    assert it.engine.health().pressure.pending == ("lighter",)
    assert [model.loaded.precision for model in it.models] == ["fp32", "fp32"], "tried once, nobody waits for the next"
    it.see(CALM)
    it.see(FULL)
    it.say()
    assert len(it.models) == 3, "tried again with the next plan that asks for it"


def test_a_failed_reload_is_not_retried(rig) -> None:
    it = rig(NoInt8)
    load, tried = it.engine._resident._load, []
    it.engine._resident._load = lambda plan: (tried.append(plan.precision), load(plan))[1]
    it.see(FULL, 3)
    for _ in range(5):
        it.say()
    assert tried == ["int8", "fp32"]
    it.see(CALM, 5)
    it.see(FULL, 3)
    it.say()
    assert tried == ["int8", "fp32"] * 2  # a new plan is tried again


def test_the_engine_survives_loads_that_fail_for_a_while(rig, monkeypatch) -> None:
    monkeypatch.setattr(loop_module, "_LOAD_RETRY_S", 0.05)
    it = rig()
    planned = it.say()
    load, broken = it.engine._resident._load, [ModelFailure("no memory"), MemoryError()]
    it.engine._resident._load = lambda plan: (_ for _ in ()).throw(broken.pop()) if broken else load(plan)
    it.see(FULL, 3)
    until(lambda: not broken)
    assert np.array_equal(it.say(), planned)
    assert it.engine.health().state == "ready"


def test_an_engine_started_degraded_falls_back_to_the_planned_weights(rig) -> None:
    it = rig(NoInt8, start_degraded_reason="the worker before was killed")
    assert it.say().size
    assert it.engine.health().pressure.pending == ("lighter",)


# The door


def test_refusing_affects_new_requests_only(rig, caplog) -> None:
    it = rig()
    gate = threading.Event()
    it.model.during = lambda: gate.wait(10)
    inside = it.engine.submit(ask())
    until(lambda: it.engine.health().running > 0)
    it.watch.see(machine(CRITICAL))
    assert "degradation levels: slots, refuse (97 % of 8.0 GB" in caplog.text
    with pytest.raises(Unavailable, match=r"no new requests .* 97 % of 8.0 GB .* try again in 2 s") as refused:
        it.engine.submit(ask())
    assert refused.value.retry_after == 2.0
    gate.set()
    assert inside.collect().duration_s > 0
    it.see(FULL)
    assert it.engine.submit(ask()).collect().duration_s > 0


# Trouble


def test_a_model_that_fails_to_adapt_is_reloaded(rig) -> None:
    class Stubborn(Told):
        def adapt(self, plan: Plan) -> None:
            if plan.threads < self.loaded.threads:
                raise RuntimeError("no such thread pool")

    it = rig(Stubborn)
    planned = it.say()
    it.see(BUSY)
    assert np.array_equal(it.say(), planned)
    assert [model.loaded.threads for model in it.models] == [4, 2]
    assert it.models[0].closed


def test_the_engine_after_a_killed_one_starts_degraded(rig) -> None:
    it = rig(start_degraded_reason="the worker before was killed")
    assert [model.loaded.precision for model in it.models] == ["int8"]
    assert it.engine.health().pressure.reason == "the worker before was killed"
    it.see(CALM, 3)
    until(lambda: it.engine.health().pressure.level == 0 and it.model.loaded.precision == "fp32")


def test_an_engine_with_adapt_off_has_no_monitor(tiny_engine) -> None:
    engine = tiny_engine(adapt=False)
    assert engine._watch is None
    assert engine._monitor is None
    assert engine.health().pressure.level == 0


def test_a_monitor_failure_is_logged_once(caplog) -> None:
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
    watch = PressureMonitor(with_levels(PLAN, SPEC), plans.append, look=look, timing=AT_ONCE, every_s=0.001)
    watch.start()
    assert seen.wait(5)
    watch.stop()
    assert [message for message in caplog.messages if "cannot be read" in message] == [
        "the state of the machine cannot be read: no such file"
    ]
    assert plans[0].max_batch_size == 2
