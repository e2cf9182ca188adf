"""One server, several models: a request names one; lists say which are installed and which are loaded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import pytest

from fake_engine import HARDWARE, PLAN, SPEC, FakeEngine, decision
from saywell.engine.fleet import Fleet
from saywell.engine.launch import Decision
from saywell.machine import Runtime
from saywell.models import base
from saywell.models.installed import Installed
from saywell.server.app import create_app

pytestmark = pytest.mark.anyio
SPEECH = "/v1/audio/speech"
OTHER = "second"


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A server of the model `fake` that could load another one."""
    monkeypatch.setitem(base.built_in(), OTHER, "tiny_ar.family")
    own = FakeEngine()
    made = decision(own, data_dir=tmp_path)
    made = replace(made, hardware=replace(HARDWARE, runtimes={"onnxruntime": Runtime(version="1.30")}))
    app = create_app(own, made)

    def make(wanted: Decision) -> FakeEngine:
        return FakeEngine(spec=replace(SPEC, name=wanted.spec.name), started=False)

    there = {name: Installed(name, "tiny_ar.family") for name in (SPEC.name, OTHER)}
    app.state.service.fleet = Fleet(made, own, make=make, there=lambda: there)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
    app.state.service.fleet.close()


def loaded(answer: httpx.Response) -> dict[str, bool]:
    return {each["id"]: each["loaded"] for each in answer.json()["data"]}


async def test_a_request_is_spoken_by_the_model_it_names(client: httpx.AsyncClient) -> None:
    for name, speaker in ((None, SPEC.name), ("tts-1", SPEC.name), (OTHER, OTHER), (OTHER.upper(), OTHER)):
        answer = await client.post(SPEECH, json={"input": "Hi.", **({"model": name} if name else {})})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-saywell-model"] == speaker


async def test_the_list_has_installed_models_and_whether_they_are_loaded(client: httpx.AsyncClient) -> None:
    before = loaded(await client.get("/v1/models"))
    assert before == {SPEC.name: True, "tts-1": True, "tts-1-hd": True, "gpt-4o-mini-tts": True, OTHER: False}
    await client.post(SPEECH, json={"input": "Hi.", "model": OTHER})
    assert loaded(await client.get("/v1/models"))[OTHER]
    one = (await client.get(f"/v1/models/{OTHER}")).json()
    assert (one["id"], one["loaded"]) == (OTHER, True)
    found = (await client.get("/health")).json()["models"]
    assert [(each["name"], each["loaded"]) for each in found] == [(SPEC.name, True), (OTHER, True)]


async def test_voices_of_another_model_load_it(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/audio/voices", params={"model": OTHER})).json()["voices"]
    assert loaded(await client.get("/v1/models"))[OTHER]


async def test_a_model_that_is_not_here_is_refused_with_those_that_are(client: httpx.AsyncClient) -> None:
    answer = await client.post(SPEECH, json={"input": "Hi.", "model": "../second"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["param"] == "model"
    assert f"{SPEC.name}, {OTHER}, tts-1" in error["message"]


@pytest.mark.parametrize(("keep_alive", "status"), [(0, 200), (-1, 200), (30.5, 200), (-2, 422), ("long", 422)])
async def test_a_request_sets_how_long_its_model_stays_loaded(
    client: httpx.AsyncClient, keep_alive: object, status: int
) -> None:
    answer = await client.post(SPEECH, json={"input": "Hi.", "model": OTHER, "keep_alive": keep_alive})
    assert answer.status_code == status


async def test_requests_are_counted_under_the_model_that_spoke(client: httpx.AsyncClient) -> None:
    await client.post(SPEECH, json={"input": "Hi.", "model": OTHER})
    assert f'model="{OTHER}"' in (await client.get("/metrics")).text


async def test_concurrent_requests_for_a_model_share_one_load(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    may, loads = threading.Event(), []
    load = Fleet.load

    def slow(fleet: Fleet, name: str) -> object:
        loads.append(name)
        assert may.wait(10.0)
        return load(fleet, name)

    monkeypatch.setattr(Fleet, "load", slow)
    late = {"input": "Hi.", "model": OTHER, "timeout": 0.2}
    answer = await client.post(SPEECH, json=late)
    assert answer.status_code == 504
    with anyio.fail_after(10):
        waiting = [asyncio.create_task(client.post(SPEECH, json={"input": "Hi.", "model": OTHER})) for _ in range(60)]
        await asyncio.sleep(0.1)
        own = await client.post(SPEECH, json={"input": "Hi.", "response_format": "opus"})  # encoded in a thread
        assert own.status_code == 200
        may.set()
        answers = await asyncio.gather(*waiting)
    assert loads == [OTHER]
    assert {each.status_code for each in answers} <= {200, 429}
    assert any(each.status_code == 200 for each in answers)


async def test_requests_that_wait_for_a_load_count_in_queue_limit_health_and_metrics(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    may, load = threading.Event(), Fleet.load

    def slow(fleet: Fleet, name: str) -> object:
        assert may.wait(10.0)
        return load(fleet, name)

    monkeypatch.setattr(Fleet, "load", slow)
    limit = PLAN.max_batch_size + PLAN.max_queue
    body = {"input": "Hi.", "model": OTHER}
    with anyio.fail_after(20):
        waiting = [asyncio.create_task(client.post(SPEECH, json=body)) for _ in range(limit)]
        while (models := (await client.get("/health")).json()["models"])[1]["waiting"] < limit:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert [(model["name"], model["loaded"]) for model in models] == [(SPEC.name, True), (OTHER, False)]
        assert f"saywell_queue_depth {float(limit)}" in (await client.get("/metrics")).text
        refused = await client.post(SPEECH, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert (await client.post(SPEECH, json={"input": "Hi."})).status_code == 200
        may.set()
        await asyncio.gather(*waiting)
    assert "saywell_queue_depth 0.0" in (await client.get("/metrics")).text
