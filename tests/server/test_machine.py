"""What the server says about its machine, its plan and the cost of a text, and to whom."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from fake_engine import HARDWARE, PLAN, SPEC, FakeEngine, decision
from saywell.engine.admission import check_language
from saywell.errors import InvalidRequest
from saywell.machine import GIB, Hardware
from saywell.machine.monitor import Resources
from saywell.plan import memory
from saywell.plan.memory import MIB
from saywell.plan.plan import make_plan
from saywell.server.app import create_app
from saywell.server.describe import configuration
from saywell.settings import Settings
from saywell.types import Variant, Voice

pytestmark = pytest.mark.anyio
KEY = "a-key-for-tests"


def open_client(base="http://127.0.0.1", engine=None, hardware=HARDWARE, now=None, **wishes):
    engine = engine or FakeEngine(chunks=1)
    app = create_app(engine, replace(decision(engine, **wishes), hardware=hardware))
    if now is not None:
        app.state.service.resources = lambda: now
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=base)


def looked(cpu=10.0, percent=50.0, available=4 * GIB, **more) -> Resources:
    return Resources(
        cpu_percent=cpu,
        memory_limit=8 * GIB,
        memory_available=available,
        memory_percent=percent,
        process_memory=1 << 26,
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
    assert {name: choice["value"] for name, choice in found["plan"].items()}["slots"] == str(plan.slots)
    assert all(choice["why"] for choice in found["plan"].values())


@pytest.mark.parametrize(
    ("precision", "shown"), [("int8", ("fp32", "int8")), ("int4", ("fp32", "int4")), ("bf16", ("bf16", "none"))]
)
def test_precision_and_quantisation_are_told_apart(precision, shown):
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


async def test_what_a_text_would_cost():
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


async def test_the_machine_is_shown_to_its_owner_only():
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


@pytest.mark.parametrize(
    ("tag", "voice", "fits"),
    [
        ("en", "en-US", True), ("en-GB", "en-US", True), ("EN_us", "en-US", True), ("und", "de", True),
        ("ja", "und", True), (None, "de", True), ("de", "en-US", False), ("zz", "en", False), ("e", "en", False),
    ],
)  # fmt: skip
def test_a_voice_is_not_asked_for_a_language_it_does_not_speak(tag, voice, fits):
    speaker = Voice(id="somebody", name="", language=voice, sample_rate=24_000)
    if fits:
        check_language(tag, speaker)
        return
    with pytest.raises(InvalidRequest, match="somebody speaks") as caught:
        check_language(tag, speaker)
    assert caught.value.param == "language"
