"""Clearing the caches of a running engine, between two steps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from paths import TESTS
from plans import TINY_PLAN, with_levels
from saywell.engine.engine import Engine
from saywell.engine.worker import client as client_module
from saywell.engine.worker.client import EngineClient
from saywell.errors import Unavailable
from saywell.machine.monitor import Resources
from saywell.plan.degradation import Timing
from saywell.plan.plan import Plan
from saywell.types import Request
from tiny_ar import family as tiny_ar

GIB = 1 << 30
NEVER = Timing(confirm=1e9, down=1e9, up=1e9)
"""The ladder moves only when the test says so."""
PLAN = replace(
    TINY_PLAN,
    adapt=True,
    max_batch_size=4,
    max_parallel_chunks=2,
    threads=2,
    cache_entries=8,
    first_frames=2,
    chunk_frames=8,
)


class Told(tiny_ar.TinyModel):
    """Records the plans it gets."""

    seen: list[Plan] = []  # noqa: RUF012 - one engine a test
    emptied = 0

    def adapt(self, plan: Plan) -> None:
        self.seen.append(plan)

    def clear_caches(self) -> None:
        Told.emptied += 1


class Machine:
    def __init__(self) -> None:
        self.percent = 50.0

    def look(self) -> Resources:
        return Resources(
            cpu_percent=10.0, memory_limit=8 * GIB, memory_available=int(8 * GIB * (1 - self.percent / 100)),
            memory_percent=self.percent,
        )  # fmt: skip


@pytest.fixture
def start() -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def go(machine: Machine | None = None, **fields: object) -> Engine:
        spec = replace(tiny_ar.spec("tiny", None), slot_bytes=64 << 20)
        look = (machine or Machine()).look
        engine = Engine(
            spec, with_levels(replace(PLAN, **fields), spec), lambda now: Told(spec, now), look=look, timing=NEVER
        )
        made.append(engine)
        engine.start()
        Told.seen.clear()
        Told.emptied = 0
        return engine

    yield go
    for engine in made:
        engine.close()


def test_caches_are_emptied_and_the_plan_is_unchanged(start):
    engine = start()
    done = engine.clear_caches()
    assert (Told.emptied, Told.seen) == (1, [])
    assert (done.before.level, done.after.level) == (0, 0)
    assert done.freed >= 0


def test_clearing_caches_does_not_change_running_audio(start):
    engine = start()
    request = Request(text="A text that takes a number of steps to be spoken, and is not hurt by tidying. " * 4)
    alone = engine.submit(replace(request, id="a", sampling=replace(request.sampling, seed=1))).collect().samples
    stream = engine.submit(replace(request, id="b", sampling=replace(request.sampling, seed=1)))
    tidied = threading.Thread(target=lambda: [engine.clear_caches(adapt=True) for _ in range(5)])
    tidied.start()
    together = stream.collect().samples
    tidied.join()
    assert np.array_equal(alone, together)


def test_adapt_takes_all_levels_at_once(start):
    machine = Machine()
    engine = start(machine)
    assert engine.clear_caches(adapt=True).after.level == 0
    machine.percent = 90.0
    done = engine.clear_caches(adapt=True)
    assert (done.before.level, done.after.steps) == (0, ("slots",))
    assert "90 % of 8.0 GB of memory is in use" in done.after.reason
    assert engine.clear_caches().after.level == 1
    assert engine.submit(Request(text="Still speaking.")).collect().duration_s > 0


def test_adapt_under_pressure_is_refused_by_an_engine_with_adapt_off(start):
    machine = Machine()
    engine = start(machine, adapt=False)
    assert engine.clear_caches(adapt=True).after.level == 0
    machine.percent = 90.0
    with pytest.raises(Unavailable, match=r"90 % of 8.0 GB of memory is in use, .* restart it"):
        engine.clear_caches(adapt=True)
    assert engine.clear_caches().after.level == 0
    assert engine.submit(Request(text="Still speaking.")).collect().duration_s > 0


def test_clearing_caches_of_a_closed_engine_is_refused(start):
    engine = start()
    engine.close()
    with pytest.raises(Unavailable, match="not ready"):
        engine.clear_caches()


@pytest.fixture
def worker(monkeypatch) -> Iterator[EngineClient]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    client = EngineClient(tiny_ar.spec("tiny", None), replace(TINY_PLAN, cache_entries=8))
    client.start()
    yield client
    client.close()


def test_a_worker_clears_its_caches(worker):
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(worker.clear_caches(adapt=True).freed)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 4
    assert worker.submit(Request(text="Still speaking.")).collect().duration_s > 0


def test_a_worker_that_does_not_answer_is_reported(worker, monkeypatch):
    monkeypatch.setattr(client_module, "CLEAR_CACHES_S", 0.2)
    monkeypatch.setattr(worker, "_send", lambda _: None)
    with pytest.raises(Unavailable, match="too busy"):
        worker.clear_caches()
    worker.close()
    with pytest.raises(Unavailable, match="not ready"):
        worker.clear_caches()
