"""Pressure and idle unloading in a worker: what it reports, and how the way it ended affects the next worker."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asking import ask, until
from plans import TINY_PLAN, with_levels
from saywell.engine.worker.client import EngineClient
from saywell.engine.worker.messages import Pulse
from saywell.errors import Unavailable
from saywell.machine import cgroup
from saywell.plan.degradation import PressureReport

Start = Callable[..., EngineClient]


def test_the_workers_pressure_is_reported(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start()
    until(lambda: client.health().rss_bytes > 0)
    assert client.health().pressure == PressureReport()
    pulse = client._pulse
    monkeypatch.setattr(client, "_pulse", lambda _: None)
    shut = PressureReport(level=2, steps=("slots", "refuse"), reason="97 % of memory is in use", downs=2)
    pulse(Pulse(health=replace(client.health(), slots=2, pressure=shut), busy_s=0.0))
    assert (client.health().pressure, client.health().slots) == (shut, 2)
    with pytest.raises(Unavailable, match="97 % of memory is in use; try again in 2 s"):
        client.submit(ask())
    pulse(Pulse(health=replace(client.health(), pressure=PressureReport()), busy_s=0.0))
    assert client.submit(ask()).collect().duration_s > 0


def test_a_worker_unloads_and_loads_on_demand(start: Start) -> None:
    client = start(idle_unload_s=0.2)
    planned = client.submit(ask()).collect().samples
    until(lambda: not client.health().loaded)
    assert client.health().state == "ready"
    assert np.array_equal(client.submit(ask()).collect().samples, planned)


def test_the_worker_after_an_oom_kill_starts_degraded(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kills = itertools.count()
    monkeypatch.setattr(cgroup, "oom_kills", lambda: next(kills))
    plan = replace(TINY_PLAN, adapt=True)
    client = start(adapt=True, levels=with_levels(plan, available=1).levels)
    planned = client.submit(ask()).collect().samples
    first = client.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: client.health().restarts == 1 and client.health().pressure.level > 0, 60)
    pressure = client.health().pressure
    assert set(pressure.steps) >= {"slots", "caches"}
    assert "which the system does when memory runs out" in pressure.reason
    assert np.array_equal(client.submit(ask()).collect().samples, planned)


def test_a_worker_killed_without_oom_is_replaced_as_planned(start: Start) -> None:
    client = start(adapt=True, threads=2)
    planned = client.submit(ask()).collect().samples
    os.kill(client.pid, signal.SIGKILL)
    until(lambda: client.health().restarts == 1 and client.health().rss_bytes > 0, 60)
    assert client.health().pressure.level == 0
    assert np.array_equal(client.submit(ask()).collect().samples, planned)


def test_a_worker_killed_by_the_client_is_not_taken_for_oom(start: Start) -> None:
    client = start(adapt=True, threads=2)
    client._kill("a test")
    until(lambda: client.health().restarts == 1 and client.health().rss_bytes > 0, 60)
    assert client._start_degraded_reason == ""
    assert "killed" not in client.health().pressure.reason


def test_a_worker_that_exits_by_itself_is_not_taken_for_oom(start: Start) -> None:
    client = start(adapt=True, threads=2)
    os.kill(client.pid, signal.SIGABRT)
    until(lambda: client.health().restarts == 1 and client.health().rss_bytes > 0, 60)
    assert client._start_degraded_reason == ""
