"""What the server tells about pressure: in /health, in both kinds of /metrics, at the door."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from fake_engine import PLAN, SPEC, FakeEngine, decision
from plans import with_levels
from saywell.plan.degradation import PressureReport
from saywell.server.app import create_app

pytestmark = pytest.mark.anyio
GIVEN_UP = PressureReport(
    level=2, steps=("slots", "caches"), changes={"max_batch_size": "16 → 8"}, frees=460 << 20,
    reason="91 % of 8.0 GB of memory is in use", since_s=3.0, downs=3, ups=1,
)  # fmt: skip
SHUT = PressureReport(level=1, steps=("refuse",), reason="97 % of 8.0 GB of memory is in use")


def open_client(engine: FakeEngine) -> httpx.AsyncClient:
    app = create_app(engine, decision(engine))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_health_reports_degradation_steps_and_reason() -> None:
    engine = FakeEngine()
    engine.pressure, engine.loaded = GIVEN_UP, False
    async with open_client(engine) as client:
        found = (await client.get("/health")).json()
    assert found["status"] == "healthy"
    assert found["engine"]["model_loaded"] is False
    assert found["engine"]["pressure"] == {
        "level": 2, "steps": ["slots", "caches"], "pending": [], "changes": {"max_batch_size": "16 → 8"},
        "frees": 460 << 20, "reason": "91 % of 8.0 GB of memory is in use", "since_s": 3.0, "downs": 3, "ups": 1,
    }  # fmt: skip


async def test_health_reports_the_plan_in_force_and_the_original() -> None:
    plan = replace(PLAN, threads=2)
    engine = FakeEngine(with_levels(plan, replace(SPEC, slot_bytes=64 << 20)))
    engine.pressure = replace(GIVEN_UP, steps=("slots", "threads"))
    async with open_client(engine) as client:
        system = (await client.get("/health")).json()["system_info"]
    assert system["threads"] == 1
    assert system["planned"] == {"precision": "fp32", "threads": 2}


async def test_both_metrics_formats_report_the_pressure_level() -> None:
    engine = FakeEngine()
    engine.pressure = GIVEN_UP
    async with open_client(engine) as client:
        text = (await client.get("/metrics")).text
        figures = (await client.get("/metrics", headers={"accept": "application/json"})).json()
    lines = set(text.splitlines())
    assert {
        "saywell_pressure_level 2.0", "saywell_pressure_downs_total 3.0", "saywell_pressure_ups_total 1.0",
        "saywell_model_loaded 1.0",
    } <= lines  # fmt: skip
    assert figures["engine"]["pressure"]["steps"] == ["slots", "caches"]
    assert figures["engine"]["model_loaded"] is True


async def test_refusing_under_pressure_is_not_ready_and_gives_the_reason() -> None:
    engine = FakeEngine()
    async with open_client(engine) as client:
        assert (await client.get("/ready")).status_code == 200
        engine.pressure = SHUT
        answer = await client.get("/ready")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "97 % of 8.0 GB of memory is in use" in answer.json()["error"]["message"]
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/health")).json()["status"] == "healthy"
        engine.pressure = PressureReport()
        assert (await client.get("/ready")).status_code == 200
