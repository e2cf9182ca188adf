"""Speech by the other engines' routes, their forms, and the names they have in `/metrics`."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from importlib.metadata import entry_points

import httpx
import numpy as np
import pytest
import soundfile as sf

from fake_engine import SPEC, FakeEngine, decision, tagged
from paths import ROOT
from saywell.audio.encode import to_int16
from saywell.server import extensions, middleware
from saywell.server.app import create_app
from saywell.server.middleware import body_limit
from saywell.types import Option

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.anyio
PROJECT = ROOT / "pyproject.toml"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def client(engine):
    transport = httpx.ASGITransport(create_app(engine, decision(engine)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def whole(engine) -> np.ndarray:
    request, knobs = engine.requests[-1], engine.knobs
    return np.concatenate([tagged(request, index, knobs.chunk_s) for index in range(knobs.chunks)])


@pytest.mark.parametrize("route", ["/v1/tts", "/tts"])
async def test_a_complete_wav(client, engine, route):
    fields = {"text": "Hello there.", "voice": "fenrir", "speed": 1.25}
    answer = await client.post(route, **({"json": fields} if route == "/v1/tts" else {"data": fields}))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert int(answer.headers["content-length"]) == len(answer.content)
    data, rate = sf.read(io.BytesIO(answer.content), dtype="float32")
    assert rate == 24_000
    np.testing.assert_array_equal(to_int16(data), to_int16(whole(engine)))
    assert engine.requests[-1].speed == 1.25
    assert answer.headers["x-audio-seconds"] == "0.500"
    assert "total;dur=" in answer.headers["server-timing"]


async def test_a_failure_of_a_complete_file_is_a_status(client, engine):
    engine.knobs.fail_at = 4
    answer = await client.post("/v1/tts", json={"text": "Hello there."})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "model_failure"


async def test_streamed_tts(client, engine):
    answer = await client.post("/v1/tts/stream", json={"text": "Hello there.", "format": "pcm"})
    assert answer.content == to_int16(whole(engine)).tobytes()
    answer = await client.post("/v1/tts/stream", json={"text": "Hello there."})
    assert answer.headers["content-type"] == "audio/wav"


# Forms


async def test_a_multipart_form(client, engine):
    answer = await client.post("/tts", files={"text": (None, "Hello there."), "voice": (None, "")})
    assert answer.status_code == 200
    assert engine.requests[-1].voice is None


async def test_numbers_in_a_form_are_parsed(anyio_backend):
    options = {"warmth": Option(high=1.0), "mood": Option(choices=("glad", "sad"))}
    engine = FakeEngine(spec=replace(SPEC, options={**SPEC.options, **options}))
    transport = httpx.ASGITransport(create_app(engine, decision(engine)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.post("/tts", data={"text": "Hi.", "warmth": "0.5", "mood": "sad"})
        assert answer.status_code == 200, answer.text
        assert engine.requests[-1].options == {"warmth": 0.5, "mood": "sad"}
        answer = await client.post("/tts", data={"text": "Hi.", "warmth": "much"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "warmth")


async def test_a_form_is_asked_for_where_something_else_comes(client):
    for route in ("/tts", "/estimate-memory"):
        answer = await client.post(route, json={"text": "Hello."})
        assert answer.status_code == 415
        assert "multipart/form-data" in answer.json()["error"]["message"]
        answer = await client.post(route, files={"text": ("book.txt", b"Hello.")})
        assert answer.status_code == 400
        assert "text=<book.txt" in answer.json()["error"]["message"]


async def test_forms_are_bounded(client):
    answer = await client.post("/tts", content=b"&".join(b"f%d=1" % i for i in range(10_000)), headers={
        "content-type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert answer.status_code == 400
    assert "Too many fields" in answer.json()["error"]["message"]
    answer = await client.post("/tts", data={"speed": "1"})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "text"
    answer = await client.post("/tts", data={"text": "Hi.", "speed": "quick"})
    assert answer.json()["error"]["param"] == "speed"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/x-www-form-urlencoded", 413),
        ("multipart/form-data; boundary=x", 400),  # the parser sees first that this is no multipart at all
    ],
)
async def test_a_long_form_is_refused_before_it_is_read(client, engine, kind, status, monkeypatch):
    monkeypatch.setattr(middleware, "DRAIN_BYTES", 0)  # what is taken in after the answer
    taken = 0

    async def flood():
        nonlocal taken
        while taken < 10 << 20:
            taken += 1 << 14
            yield b"x" * (1 << 14)

    answer = await client.post("/tts", content=flood(), headers={"content-type": kind})
    assert answer.status_code == status
    assert taken <= body_limit(engine.plan.max_text_chars) + (1 << 16)
    assert answer.headers["connection"] == "close"


# Metrics


async def test_names_of_the_s1_mini_engine(client, engine):
    for route, fields in (("/v1/tts", "json"), ("/v1/tts/stream", "json"), ("/tts", "data")):
        await client.post(route, **{fields: {"text": "Hello there."}})
    await client.post("/v1/audio/speech", json={"input": "Hello there.", "voice": "nobody"})
    text = (await client.get("/metrics")).text
    for line in (
        r"s1_mini_requests_total 4\.0",
        r"s1_mini_requests_success_total 3\.0",
        r"s1_mini_requests_error_total 1\.0",
        r's1_mini_request_duration_seconds_bucket{le="60\.0"} 4\.0',
        r"s1_mini_request_duration_seconds_count 4\.0",
        r"s1_mini_vram_utilization [01]\.\d*",
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE), text
    spent = re.search(r"^s1_mini_request_duration_seconds_sum (\S+)$", text, re.MULTILINE)
    assert float(spent[1]) > 0


def test_entry_points_of_the_project_are_installed() -> None:
    named = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["entry-points"][extensions.GROUP]
    there = {entry.name: entry.value for entry in entry_points(group=extensions.GROUP)}
    assert there.items() >= named.items(), "pip install --editable . again"
