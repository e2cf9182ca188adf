"""The smart backend's routes about the machine: what they answer, and whom."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from fake_engine import HARDWARE, PLAN, SPEC, FakeEngine, decision
from plans import with_levels
from saywell.engine import ClearedCaches
from saywell.machine import GIB, Hardware
from saywell.machine.monitor import Resources
from saywell.plan import memory
from saywell.plan.degradation import PressureReport
from saywell.plan.memory import MIB
from saywell.plan.plan import make_plan
from saywell.server.app import create_app
from saywell.settings import Settings
from saywell.types import Variant
from saywell_compat.configuration import configuration

pytestmark = pytest.mark.anyio
KEY = "a-key-for-tests"


def open_client(base="http://127.0.0.1", engine=None, hardware=HARDWARE, now=None, **overrides):
    engine = engine or FakeEngine(chunks=1)
    app = create_app(engine, replace(decision(engine, **overrides), hardware=hardware))
    if now is not None:
        app.state.service.resources = lambda: now
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=base)


def looked(cpu=10.0, percent=50.0, available=4 * GIB, **more) -> Resources:
    return Resources(
        cpu_percent=cpu,
        memory_limit=8 * GIB,
        memory_available=available,
        memory_percent=percent,
        **more,
    )


async def test_the_machine_and_the_plan():
    plan = make_plan(Settings(), HARDWARE, SPEC)
    async with open_client(engine=FakeEngine(plan, chunks=1)) as client:
        found = (await client.get("/hardware")).json()
    assert Hardware.from_json(httpx.Response(200, json=found["hardware"]).content) == HARDWARE
    assert found["fingerprint"] == HARDWARE.fingerprint()
    assert found["selected_configuration"]["max_text_length"] == plan.max_text_chars
    assert found["selected_configuration"]["chunk_length"] == plan.chunk_chars
    assert {name: choice["value"] for name, choice in found["plan"].items()}["max_batch_size"] == str(
        plan.max_batch_size
    )
    assert all(choice["why"] for choice in found["plan"].values())


@pytest.mark.parametrize(
    ("precision", "shown"), [("int8", ("fp32", "int8")), ("int4", ("fp32", "int4")), ("bf16", ("bf16", "none"))]
)
def test_precision_and_quantisation_are_separate_fields(precision, shown):
    spec = replace(SPEC, variants=(Variant(executor="onnx", precision=precision),))
    made = FakeEngine(replace(PLAN, precision=precision, executor="onnx"), spec)
    found = configuration(decision(made))
    assert (found["precision"], found["quantization"]) == shown
    assert (found["use_onnx"], found["use_torch_compile"]) == (True, False)


AIR = replace(HARDWARE, product="MacBookAir10,1")
STATUS = {
    "well": (HARDWARE, looked(), set(), "OK"),
    "at the limits": (HARDWARE, looked(cpu=90.0, percent=85.0), set(), "OK"),
    "full": (HARDWARE, looked(percent=85.1), {"memory_critical"}, "Reduce text length or clear cache"),
    "busy": (HARDWARE, looked(cpu=90.1), {"cpu_maxed"}, "Reduce CPU load"),
    "hot": (AIR, looked(cpu=70.1), {"thermal_likely"}, "Wait for system to cool"),
    "throttled": (HARDWARE, looked(throttled=("package 0 is throttled",)), {"thermal_likely"},
                  "Wait for system to cool"),
    "near its limit": (HARDWARE, looked(heat_margin=4.0), {"thermal_likely"}, "Wait for system to cool"),
    "warm": (HARDWARE, looked(heat_margin=6.0), set(), "OK"),
    "busy with a fan": (HARDWARE, looked(cpu=70.1), set(), "OK"),
    "everything": (AIR, looked(cpu=99.0, percent=99.0), {"memory_critical", "cpu_maxed", "thermal_likely"},
                   "Reduce text length or clear cache"),
}  # fmt: skip


@pytest.mark.parametrize(("hardware", "now", "risks", "action"), STATUS.values(), ids=STATUS)
async def test_the_state_of_the_system(hardware, now, risks, action):
    async with open_client(hardware=hardware, now=now) as client:
        found = (await client.get("/system-status")).json()
    assert {name for name, risky in found["throttling_risk"].items() if risky} == risks
    assert set(found["throttling_risk"]) == {"memory_critical", "cpu_maxed", "thermal_likely"}
    assert found["recommended_action"] == action
    assert found["resources"] == {
        "cpu_percent": now.cpu_percent, "memory_percent": now.memory_percent, "memory_available_gb": 4.0,
    }  # fmt: skip
    assert found["memory_budget_safe"] is True


async def test_the_budget_is_not_safe_when_the_longest_text_would_not_fit():
    longest = memory.estimate(PLAN, SPEC, PLAN.max_text_chars)
    for free, safe in ((longest.working, True), (longest.working - 1, False)):
        async with open_client(now=looked(available=free)) as client:
            assert (await client.get("/system-status")).json()["memory_budget_safe"] is safe


async def test_memory_estimate_of_a_text():
    needed, server = memory.estimate(PLAN, SPEC, 500, server=memory.SERVER), memory.SERVER // MIB
    async with open_client(now=looked()) as client:
        for sent in ({"data": {"text": "x" * 500}}, {"files": {"text": (None, "x" * 500)}}):
            answer = await client.post("/estimate-memory", **sent)
            assert answer.json() == {
                "status": "ok",
                "estimate": {
                    "estimated_mb": -(-needed.total // MIB), "busy_mb": 1 + server, "available_mb": 1024 + server,
                    "safe": True, "text_tokens": 150, "text_length": 500,
                },
                "recommendation": "OK",
            }  # fmt: skip


async def test_a_text_that_is_too_long_or_does_not_fit_is_a_warning():
    async with open_client(now=looked()) as client:
        found = (await client.post("/estimate-memory", data={"text": "x" * 5001})).json()
        assert (found["status"], found["estimate"]["safe"]) == ("warning", True)
        assert "5000 characters" in found["recommendation"]
    async with open_client(now=looked(available=10)) as client:
        found = (await client.post("/estimate-memory", data={"text": "x" * 5000})).json()
        assert (found["status"], found["estimate"]["safe"]) == ("warning", False)
        assert found["recommendation"].startswith("Text may be too long")


async def test_an_estimate_needs_a_text():
    async with open_client() as client:
        for sent in ({}, {"data": {"text": ""}}, {"json": {"text": "Hi."}}, {"files": {"text": ("a.txt", b"Hi.")}}):
            answer = await client.post("/estimate-memory", **sent)
            assert answer.status_code in (400, 415, 422), answer.text
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        answer = await client.post("/estimate-memory", data={"text": "x" * 200_000})
        assert answer.status_code == 413


async def test_hardware_is_for_trusted_clients_only():
    async with open_client("http://example.org", host="0.0.0.0", allow_public=True) as client:
        answer = await client.get("/hardware")
        assert answer.status_code == 403
        assert "SAYWELL_API_KEYS" in answer.json()["error"]["message"]
    async with open_client(api_keys=(KEY,)) as client:
        assert (await client.get("/hardware")).status_code == 401
        answer = await client.get("/hardware", headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200


async def test_the_answers_are_documented():
    async with open_client() as client:
        document = (await client.get("/openapi.json")).json()
    for path, method in (("/hardware", "get"), ("/system-status", "get"), ("/estimate-memory", "post")):
        schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema["$ref"].rpartition("/")[2] in document["components"]["schemas"]
    form = document["paths"]["/estimate-memory"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["text"]


async def test_the_configuration_in_force_is_reported():
    engine = FakeEngine(with_levels(replace(PLAN, max_batch_size=16), SPEC))
    engine.pressure = PressureReport(level=1, steps=("slots",), reason="full")
    async with open_client(engine=engine) as client:
        found = (await client.get("/hardware")).json()["selected_configuration"]
    assert found["max_batch_size"] == 8


# What changes the engine

OPTIMISE = "/optimize-for-hardware"
LARGE = with_levels(
    replace(PLAN, threads=10, max_batch_size=8, chunk_chars=512, cache_entries=25, cache_bytes=512 << 20),
    replace(SPEC, sheds=("threads",)),
)


async def test_nothing_to_adjust():
    engine = FakeEngine()
    async with open_client(engine=engine, now=looked()) as client:
        answer = await client.post(OPTIMISE)
    assert answer.json() == {"status": "optimal", "message": "No adjustments needed"}
    assert engine.tidied == [True]


async def test_memory_that_presses_is_never_optimal():
    async with open_client(now=looked(percent=91.0)) as client:
        found = (await client.post(OPTIMISE)).json()
    assert found["status"] == "exhausted"
    assert found["message"].startswith(
        "91 % of 8.0 GB of memory is in use, and the plan cannot degrade further. Reduce"
    )


async def adjusted(engine):
    async with open_client(engine=engine) as client:
        found = (await client.post(OPTIMISE)).json()
    names = ("chunk_length", "num_threads", "cache_limit", "max_text_length")
    assert (found["status"], found["message"]) == ("adjusted", "97 % of memory is in use")
    assert [found["previous_config"][name] for name in names] == [512, 10, 25, 5000]
    assert [found["new_config"][name] for name in names] == [512, 5, 12, 5000]
    assert found["changes"]["threads"] == "10 → 5"


async def test_adjusted_reports_before_and_after():
    await adjusted(FakeEngine(LARGE, pressure=("threads", "caches")))


async def test_earlier_degradation_by_the_engine_is_an_adjustment():
    report = PressureReport(level=2, steps=("threads", "caches"), reason="97 % of memory is in use")

    class Quicker(FakeEngine):
        def clear_caches(self, *, adapt: bool = False) -> ClearedCaches:
            return ClearedCaches(freed=0, before=report, after=report)

    await adjusted(Quicker(LARGE))


async def test_the_engine_is_changed_by_trusted_clients_only():
    engine = FakeEngine()
    async with open_client("http://example.org", engine=engine, host="0.0.0.0", allow_public=True) as client:
        assert (await client.post(OPTIMISE)).status_code == 403
    async with open_client(engine=engine, api_keys=(KEY,)) as client:
        assert (await client.post(OPTIMISE)).status_code == 401
    async with open_client(engine=engine) as client:
        assert (await client.post(OPTIMISE, headers={"origin": "https://evil.example"})).status_code == 403
        assert (await client.get(OPTIMISE)).status_code == 405
    assert engine.tidied == []
    async with open_client(engine=engine, api_keys=(KEY,), now=looked()) as client:
        assert (await client.post(OPTIMISE, headers={"authorization": f"Bearer {KEY}"})).status_code == 200


async def test_an_engine_that_is_not_ready_is_a_503():
    async with open_client(engine=FakeEngine(started=False)) as client:
        answer = await client.post(OPTIMISE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
