"""References are encoded beside the engine's thread: whoever waits for that is answered, whatever happens meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from asking import ask, until
from plans import TINY
from saywell.engine.engine import Engine
from saywell.errors import EngineClosed, ModelFailure, SaywellError
from saywell.plan.plan import Plan
from saywell.types import ModelSpec, Reference, Request
from tiny_ar import family as tiny_ar

SPEC = replace(TINY, clones=True)
RECORDING = Reference(pcm=np.zeros(16_000, np.float32).tobytes(), sample_rate=16_000)
Start = Callable[..., Engine]


class Encoder(tiny_ar.TinyModel):
    """Takes as long over a reference as the test wants."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        super().__init__(spec, plan)
        self.begun, self.may_end, self.encoded = threading.Event(), threading.Event(), 0

    def prepare(self, request: Request) -> None:
        self.begun.set()
        assert self.may_end.wait(10.0)
        self.encoded += 1


@pytest.fixture
def start(tiny_engine: Start) -> Start:
    return partial(tiny_engine, Encoder, SPEC)


def model(engine: Engine) -> Encoder:
    found = engine._resident.model
    assert isinstance(found, Encoder)
    return found


def test_who_waits_is_told_when_the_engine_closes(start: Start) -> None:
    engine = start()
    streams = [engine.submit(ask(reference=RECORDING)) for _ in range(4)]
    assert model(engine).begun.wait(5.0)
    threading.Timer(0.1, model(engine).may_end.set).start()
    engine.close()
    closed = time.monotonic()
    for stream in streams:
        with pytest.raises(EngineClosed):
            stream.collect()
    assert time.monotonic() - closed < 1.0


def test_closing_does_not_wait_for_a_model_nobody_loads_again(start: Start) -> None:
    engine = start(idle_unload_s=0.05)
    until(lambda: not engine.health().loaded)
    away = ModelFailure("the disk is away")
    engine._resident._load = lambda plan: (_ for _ in ()).throw(away)
    stream = engine.submit(ask(reference=RECORDING))
    begun = time.monotonic()
    engine.close()
    with pytest.raises(SaywellError):
        stream.collect()
    assert time.monotonic() - begun < 2.0


def test_what_nobody_waits_for_is_not_encoded(start: Start) -> None:
    engine = start()
    first, *others = [engine.submit(ask(reference=RECORDING)) for _ in range(4)]
    encoder = model(engine)
    assert encoder.begun.wait(5.0)
    for stream in others:
        stream.close()
    encoder.may_end.set()
    assert first.collect().duration_s > 0
    assert engine.submit(ask(reference=RECORDING)).collect().duration_s > 0
    assert encoder.encoded == 2


def test_a_request_let_in_as_the_engine_ends_is_answered(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's thread ends between the check at the door and the hand-over."""
    engine = start()
    wake, closing = engine.wake, threading.Thread(target=engine.close)

    def late(action: Callable[[], None]) -> None:
        if threading.current_thread() is threading.main_thread() and not closing.ident:
            closing.start()
            closing.join(0.5)
        wake(action)

    monkeypatch.setattr(engine, "wake", late)
    stream = engine.submit(ask(timeout_s=5.0))
    with pytest.raises(EngineClosed):
        stream.collect()
    closing.join()
