"""Several models in one server: loaded by requests, kept while in use, unloaded when idle or when memory is short."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paths import TESTS
from saywell.engine import fleet as fleet_module
from saywell.engine.engine import Engine
from saywell.engine.fleet import Fleet
from saywell.engine.launch import Decision, build, decide
from saywell.errors import EngineClosed, ModelFailure, OutOfMemory, UnknownModel
from saywell.machine import Cpu, Hardware, Runtime
from saywell.models import base
from saywell.models.installed import Installed, installed
from saywell.settings import Settings
from saywell.types import Request, SamplingParams
from tiny_ar import family as tiny_ar

MIB = 1 << 20

NAMES = ("own", "second", "third")
CPU = Cpu(model="any", vendor="", sockets=1, physical=2, logical=2, performance=2, efficiency=0)
MACHINE = Hardware(
    os="linux", arch="x86_64", python="3.11", product="", cpu=CPU, memory=8 << 30,
    runtimes={"onnxruntime": Runtime(version="1.30")},
)  # fmt: skip
Start = Callable[..., Fleet]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """A fleet of tiny models in this process, each reported as holding `held` bytes."""
    made: list[Fleet] = []
    monkeypatch.setattr(fleet_module, "_EVERY_S", 0.05)
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    for name in NAMES:
        monkeypatch.setitem(base.built_in(), name, "tiny_ar.family")

    def _start(held: int = 0, step_s: float = 0.0, worker: bool = False, **settings: object) -> Fleet:
        class Slow(tiny_ar.TinyModel):
            def step(self, batch):  # type: ignore[no-untyped-def]
                time.sleep(step_s)
                return super().step(batch)

        class Sized(Engine):
            def health(self):  # type: ignore[no-untyped-def]
                health = super().health()
                return replace(health, rss_bytes=held if health.loaded else held // 10)

        def make(decision: Decision) -> Engine:
            if worker:
                return build(decision, worker=True)  # type: ignore[return-value]
            return Sized(decision.spec, decision.plan, lambda plan: Slow(decision.spec, plan))

        first = decide(Settings(model="own", data_dir=tmp_path, adapt=False, **settings), MACHINE)
        engine = make(first)
        there = {name: Installed(name, "tiny_ar.family") for name in NAMES}
        found = Fleet(first, engine, make=make, there=lambda: there)
        made.append(found)
        engine.start()
        return found

    yield _start
    for each in made:
        each.close()


def say(fleet: Fleet, name: str, text: str = "Hello there.", **fields: float) -> np.ndarray:
    fleet.load(name)
    return fleet.submit(name, Request(text=text, sampling=SamplingParams(seed=1)), **fields).collect().samples


def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def loaded(fleet: Fleet) -> set[str]:
    return {name for name, health in fleet.health().items() if health is not None and health.loaded}


def test_a_model_is_loaded_by_its_first_request(start: Start) -> None:
    fleet = start()
    assert fleet.names() == list(NAMES)
    assert loaded(fleet) == {"own"}
    np.testing.assert_array_equal(say(fleet, "second"), say(fleet, "own"))
    assert loaded(fleet) == {"own", "second"}


def test_unknown_names_are_refused(start: Start) -> None:
    fleet = start()
    assert [fleet.find(name) for name in (None, "own", "SECOND")] == ["own", "own", "second"]
    with pytest.raises(UnknownModel, match="own, second, third"):
        fleet.find("../etc")


def test_an_idle_model_is_unloaded(start: Start) -> None:
    fleet = start(keep_alive_s=0.3)
    say(fleet, "second")
    assert loaded(fleet) == {"own", "second"}
    until(lambda: loaded(fleet) == {"own"})
    assert len(say(fleet, "second")) > 0


def test_a_request_sets_how_long_its_model_stays_loaded(start: Start) -> None:
    fleet = start()
    say(fleet, "own", keep_s=0.0)  # unloads the weights, keeps the worker
    until(lambda: loaded(fleet) == set())
    say(fleet, "second", keep_s=0.0)
    until(lambda: fleet.engine("second") is None)
    assert fleet.engine("own") is not None
    assert len(say(fleet, "own", keep_s=60.0)) > 0
    assert loaded(fleet) == {"own"}


def test_a_model_in_use_is_not_unloaded(start: Start) -> None:
    fleet = start(step_s=0.003)
    fleet.load("second")
    stream = fleet.submit("second", Request(text="A sentence that takes a while to speak. " * 40), keep_s=0.0)
    next(stream)
    time.sleep(0.2)
    assert "second" in loaded(fleet)
    stream.collect()
    until(lambda: loaded(fleet) == {"own"})


def test_a_model_is_not_unloaded_while_it_waits_for_text(start: Start) -> None:
    fleet = start(keep_alive_s=0.5)
    stream = fleet.load("second").submit(Request(text=""), more=True)
    stream.feed("The first sentence is spoken. The second")
    until(lambda: stream.window.unread_s > 0 and stream.window.starved)
    time.sleep(1.2)  # longer than the sweeper's interval
    assert "second" in loaded(fleet)
    stream.feed(" as well.")
    stream.end_text()
    assert stream.collect().summary.sequences == 2
    until(lambda: loaded(fleet) == {"own"})


def test_the_model_idle_for_longest_makes_room(start: Start) -> None:
    fleet = start(held=100 * MIB, memory_budget_mb=220)
    say(fleet, "second")
    time.sleep(0.02)
    say(fleet, "own")
    time.sleep(0.02)
    say(fleet, "third")
    assert loaded(fleet) == {"own", "third"}
    say(fleet, "second")  # unloads the server's own model as well
    assert loaded(fleet) == {"third", "second"}
    say(fleet, "own")
    assert loaded(fleet) == {"own", "second"}


def test_the_plan_of_another_model_has_what_is_left_of_the_budget(start: Start) -> None:
    fleet = start(held=100 * MIB, memory_budget_mb=250, precision="fp32", max_batch_size=3)
    engine = fleet.load("second")
    assert engine.plan.memory_budget == 150 * MIB
    assert engine.plan.max_batch_size != 3  # that setting applies to the server's own model


def test_models_in_use_do_not_make_room(start: Start) -> None:
    fleet = start(held=100 * MIB, step_s=0.003, memory_budget_mb=110)
    stream = fleet.submit("own", Request(text="A sentence that takes a while to speak. " * 40))
    next(stream)
    with pytest.raises(OutOfMemory, match=r"second needs .* is left by own"):
        fleet.load("second")
    stream.collect()
    assert len(say(fleet, "second")) > 0


def test_simultaneous_requests_start_one_engine(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, started = start(), []
    monkeypatch.setattr(Engine, "start", lambda self, run=Engine.start: (started.append(self), run(self)))
    asking = [threading.Thread(target=say, args=(fleet, "second")) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(started) == 1


def test_a_failed_load_is_reported_and_retried_by_the_next_request(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = start()

    def fail(*_: object) -> None:
        raise ModelFailure("the disk is away")

    with monkeypatch.context() as away:
        away.setattr(tiny_ar.TinyModel, "__init__", fail)
        with pytest.raises(ModelFailure, match="the disk is away"):
            fleet.load("second")
    assert len(say(fleet, "second")) > 0


def test_each_model_has_its_own_worker(start: Start) -> None:
    fleet = start(worker=True)
    np.testing.assert_array_equal(say(fleet, "second"), say(fleet, "own"))
    say(fleet, "own", keep_s=0.0)
    until(lambda: loaded(fleet) == {"second"})
    assert len(say(fleet, "own")) > 0


def test_closing_aborts_a_load(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, begun, over = start(), threading.Event(), threading.Event()

    def slow(self: Engine) -> None:
        begun.set()
        assert over.wait(10.0)
        raise EngineClosed("closed while it was loading")

    monkeypatch.setattr(Engine, "start", slow)
    monkeypatch.setattr(Engine, "close", lambda self, drain_s=0.0, close=Engine.close: (over.set(), close(self)))
    told: list[Exception] = []

    def ask_for() -> None:
        try:
            fleet.load("second")
        except EngineClosed as error:
            told.append(error)

    asking = threading.Thread(target=ask_for)
    asking.start()
    assert begun.wait(5.0)
    fleet.close()
    asking.join(5.0)
    assert len(told) == 1
    with pytest.raises(EngineClosed):
        fleet.load("third")


def test_installed_models_are_listed_and_damaged_ones_are_not(tmp_path: Path) -> None:
    names = set(installed(tmp_path))
    assert "hibari" in names
    whole, damaged = tmp_path / "converted" / "0123" / "mine", tmp_path / "checkpoints" / "broken"
    for place, manifest in ((whole, '{"family": "dual_ar", "files": {}}'), (damaged, "{")):
        place.mkdir(parents=True)
        (place / base.MANIFEST).write_text(manifest)
    found = installed(tmp_path)
    assert set(found) - names == {"mine"}
    assert found["mine"].path == whole
