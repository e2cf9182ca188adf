"""Pinning threads to CPUs: only the engine's, and never an error if the OS refuses."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from saywell.engine.engine import Engine
from saywell.runtimes import pinning
from saywell.types import Frame, Request, Sequence
from tiny_ar import family as tiny_ar

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads a thread's CPUs the way Linux tells them")


def test_only_the_engines_thread_is_pinned(tiny_engine: Callable[..., Engine]) -> None:
    seen: list[set[int]] = []

    class Looking(tiny_ar.TinyModel):
        def step(self, batch: list[Sequence]) -> list[Frame]:
            seen.append(os.sched_getaffinity(0))
            return super().step(batch)

    before = os.sched_getaffinity(0)
    one = min(before)
    engine = tiny_engine(Looking, affinity=(one,))
    list(engine.submit(Request(text="Tied to one.")))
    assert seen
    assert all(cpus == {one} for cpus in seen)
    assert os.sched_getaffinity(0) == before


def test_threads_inherit_the_pinning() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    found: list[set[int]] = []

    def outer() -> None:
        assert pinning.pin((one,))
        inner = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        inner.start()
        inner.join()

    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    assert found == [{one}]
    assert os.sched_getaffinity(0) == before


def test_unknown_cpu_is_logged_and_not_an_error(caplog: pytest.LogCaptureFixture) -> None:
    before = os.sched_getaffinity(0)
    assert not pinning.pin((60_000,))
    assert "60000" in caplog.text
    assert os.sched_getaffinity(0) == before


def test_empty_affinity_pins_nothing() -> None:
    assert not pinning.pin(())
