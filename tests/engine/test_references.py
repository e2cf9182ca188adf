"""References are encoded outside the engine's thread, and every request that waits for it gets an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from asking import ask, until
from encoding import KNOWN, RECORDING, SPEC, Encoder, model
from saywell.engine.engine import _RECORDINGS, Engine
from saywell.errors import EngineClosed, ModelFailure, SaywellError

Start = Callable[..., Engine]


@pytest.fixture
def start(tiny_engine: Start) -> Start:
    return partial(tiny_engine, Encoder, SPEC)


def test_closing_the_engine_fails_requests_being_prepared(start: Start) -> None:
    engine = start()
    streams = [engine.submit(ask(reference=RECORDING)) for _ in range(4)]
    assert model(engine).begun.acquire(timeout=5.0)
    threading.Timer(0.1, model(engine).may_end.set).start()
    engine.close()
    closed = time.monotonic()
    for stream in streams:
        with pytest.raises(EngineClosed):
            stream.collect()
    assert time.monotonic() - closed < 1.0


def test_closing_does_not_wait_for_an_unloaded_model(start: Start) -> None:
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


def test_a_cancelled_reference_is_not_encoded(start: Start) -> None:
    engine = start()
    encoder = model(engine)
    begun = [engine.submit(ask(reference=RECORDING)) for _ in range(_RECORDINGS)]
    for _ in begun:
        assert encoder.begun.acquire(timeout=5.0)
    for stream in [engine.submit(ask(reference=RECORDING)) for _ in range(4)]:
        stream.close()
    encoder.may_end.set()
    assert all(stream.collect().duration_s > 0 for stream in begun)
    assert engine.submit(ask(reference=RECORDING)).collect().duration_s > 0
    assert encoder.encoded == _RECORDINGS + 1


def test_a_slow_recording_delays_no_other_request(start: Start) -> None:
    engine = start()
    slow = engine.submit(ask(reference=RECORDING))
    assert model(engine).begun.acquire(timeout=5.0)
    for fields in ({"reference": KNOWN}, {"voice": "tiny-2"}, {}):
        assert engine.submit(ask(**fields)).collect().duration_s > 0
    more = [engine.submit(ask(reference=RECORDING)) for _ in range(2 * _RECORDINGS)]
    assert engine.submit(ask(voice="tiny-2")).collect().duration_s > 0, "a saved voice waits for no recording"
    model(engine).may_end.set()
    assert all(stream.collect().duration_s > 0 for stream in (slow, *more))


def test_the_default_voice_is_not_prepared(start: Start) -> None:
    engine = start()
    for voice in (None, "tiny-0", "TINY-0"):
        engine.submit(ask(voice=voice)).collect()
    assert not model(engine).begun.acquire(blocking=False)


def test_unloading_does_not_wait_for_a_recording_nor_closes_the_model_in_use(start: Start) -> None:
    engine = start()
    encoder = model(engine)
    slow = engine.submit(ask(reference=RECORDING))
    assert encoder.begun.acquire(timeout=5.0)
    engine.wake(engine._resident.unload)
    other = engine.submit(ask())
    until(lambda: not engine.health().loaded)
    time.sleep(0.05)
    assert not encoder.closed
    assert not engine.health().loaded, "there may be no room for two"
    encoder.may_end.set()
    assert all(stream.collect().duration_s > 0 for stream in (slow, other))
    assert encoder.closed
    assert model(engine) is not encoder


def test_a_request_admitted_during_shutdown_is_failed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's thread ends between admission and hand-over."""
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
