"""Several devices behind one client: requests by load, failures of one device hidden by the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from asking import ask, until
from fake_engine import PLAN, FakeEngine
from saywell.engine.balanced import BalancedEngine
from saywell.errors import InvalidText, ModelFailure, TooManyRequests, Unavailable
from saywell.plan.degradation import REFUSE, PressureReport

Pair = Callable[..., tuple[BalancedEngine, FakeEngine, FakeEngine]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    made: list[BalancedEngine] = []

    def _pair(**knobs: object) -> tuple[BalancedEngine, FakeEngine, FakeEngine]:
        plan = replace(PLAN, max_batch_size=2, max_queue=2)
        first, second = (FakeEngine(plan, started=False, **knobs) for _ in range(2))
        engine = BalancedEngine([first, second])
        made.append(engine)
        return engine, first, second

    yield _pair
    for engine in made:
        engine.close()


def test_the_plan_has_the_slots_and_queue_of_all_devices(pair: Pair) -> None:
    engine, *_ = pair()
    assert (engine.plan.max_batch_size, engine.plan.max_queue) == (4, 4)


def test_requests_go_to_the_least_loaded_device(pair: Pair) -> None:
    engine, first, second = pair(hang_at=0)
    engine.start()
    streams = [engine.submit(ask()) for _ in range(4)]
    assert (first.running, second.running) == (2, 2)
    health = engine.health()
    assert (health.state, health.slots, health.running) == ("ready", 4, 4)
    for stream in (streams[0], streams[2]):
        stream.close()
    until(lambda: first.running == 0)
    engine.submit(ask())
    engine.submit(ask())
    assert (first.running, second.running) == (2, 2)


def test_simultaneous_requests_are_spread_evenly(pair: Pair) -> None:
    engine, first, second = pair(hang_at=0)
    engine.start()
    threads = [threading.Thread(target=lambda: engine.submit(ask())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (first.running, second.running) == (3, 3)


def test_a_request_is_refused_once_every_device_is_full(pair: Pair) -> None:
    engine, first, second = pair(hang_at=0)
    engine.start()
    for _ in range(8):
        engine.submit(ask())
    assert (first.running, second.running) == (4, 4)
    with pytest.raises(TooManyRequests):
        engine.submit(ask())


def test_a_device_that_is_down_gets_no_requests(pair: Pair) -> None:
    engine, first, second = pair()
    engine.start()
    first.close()
    for _ in range(3):
        engine.submit(ask()).collect()
    assert (len(first.requests), len(second.requests)) == (0, 3)
    assert engine.health().state == "ready"


def test_a_device_that_refuses_under_pressure_is_passed_over(pair: Pair) -> None:
    engine, first, second = pair()
    engine.start()
    first.pressure = PressureReport(level=3, steps=("slots", "threads", REFUSE), reason="memory is short")
    second.pressure = PressureReport(level=1, steps=("slots",))
    engine.submit(ask()).collect()
    assert (len(first.requests), len(second.requests)) == (0, 1)
    assert not engine.health().pressure.refusing
    second.pressure = first.pressure
    assert engine.health().pressure.refusing


def test_a_device_whose_model_is_unloaded_waits_until_the_others_are_full(pair: Pair) -> None:
    engine, first, second = pair(hang_at=0)
    engine.start()
    first.loaded = False
    for _ in range(2):
        engine.submit(ask())
    assert (first.running, second.running) == (0, 2)
    engine.submit(ask())
    assert first.running == 1


def test_a_device_that_does_not_start_leaves_the_work_to_the_others(pair: Pair) -> None:
    engine, first, second = pair()
    first.knobs.load_error = ModelFailure("the GPU is taken")
    engine.start()
    assert engine.health().state == "ready"
    engine.submit(ask()).collect()
    assert len(second.requests) == 1


def test_the_start_fails_if_no_device_starts(pair: Pair) -> None:
    engine, *_ = pair(load_error=ModelFailure("no driver"))
    with pytest.raises(ModelFailure, match="no driver"):
        engine.start()
    assert (engine.health().state, engine.health().error) == ("failed", "no driver")


def test_an_invalid_request_is_not_tried_on_another_device(pair: Pair) -> None:
    engine, _, second = pair(refuse=InvalidText("nothing to speak", param="text"))
    engine.start()
    second.knobs.refuse = None
    with pytest.raises(InvalidText):
        engine.submit(ask())
    assert not second.requests


def test_caches_are_cleared_on_every_device_that_is_up(pair: Pair) -> None:
    engine, first, second = pair()
    with pytest.raises(Unavailable):
        engine.clear_caches()
    engine.start()
    second.knobs.pressure = ("slots",)
    cleared = engine.clear_caches(adapt=True)
    assert (cleared.freed, cleared.after.steps) == (6 << 20, ("slots",))
    assert (first.tidied, second.tidied) == ([True], [True])
    first.close()
    assert engine.clear_caches().freed == 3 << 20


def test_unload_and_close_reach_every_device(pair: Pair) -> None:
    engine, first, second = pair()
    engine.start()
    assert engine.voices() == first.voices()
    engine.unload()
    assert not engine.health().loaded
    engine.close()
    assert (first.health().state, second.health().state, engine.health().state) == ("closed", "closed", "closed")
