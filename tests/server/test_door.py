"""What the server refuses, how fast, and what it says about it."""

from __future__ import annotations

import json
import logging
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fake_engine import FakeEngine, decision
from saywell.engine.admission import check_language
from saywell.errors import InvalidRequest, PlanError
from saywell.server import middleware
from saywell.server.app import create_app
from saywell.server.middleware import body_limit
from saywell.server.routes import admin, catalogue, health, metrics, speech
from saywell.server.service import is_loopback
from saywell.types import Voice

pytestmark = pytest.mark.anyio

SPEECH = "/v1/audio/speech"
KEY = "a-key-for-tests"


def open_client(base="http://127.0.0.1", engine=None, **overrides):
    engine = engine or FakeEngine(chunks=1)
    app = create_app(engine, decision(engine, **overrides))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=base)


@pytest.fixture
async def client():
    async with open_client() as client:
        yield client


def error_of(answer) -> dict:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"]
    return error


BAD = {
    "empty": ({"input": ""}, 422, "input"),
    "spaces": ({"input": " \n "}, 422, "input"),
    "nothing to say": ({"input": "—…!"}, 422, "input"),
    "NUL": ({"input": "a\0b"}, 422, "input"),
    "control": ({"input": "a\x1b[31mb"}, 422, "input"),
    "too long": ({"input": "word " * 1200}, 413, "input"),
    "no input": ({}, 422, "input"),
    "number": ({"input": 5}, 422, "input"),
    "list": ({"input": ["a"]}, 422, "input"),
    "voice": ({"input": "Hi.", "voice": "nobody"}, 404, "voice"),
    "voice type": ({"input": "Hi.", "voice": 3}, 422, "voice"),
    "voice object": ({"input": "Hi.", "voice": {"name": "x"}}, 422, "voice"),
    "voice path": ({"input": "Hi.", "voice": "../../etc/passwd"}, 404, "voice"),
    "model": ({"input": "Hi.", "model": "nope"}, 404, "model"),
    "format": ({"input": "Hi.", "response_format": "midi"}, 422, "response_format"),
    "slow": ({"input": "Hi.", "speed": 0.1}, 422, "speed"),
    "fast": ({"input": "Hi.", "speed": 5}, 422, "speed"),
    "speed type": ({"input": "Hi.", "speed": "quick"}, 422, "speed"),
    "speed bool": ({"input": "Hi.", "speed": True}, 422, "speed"),
    "seed": ({"input": "Hi.", "seed": -1}, 422, "seed"),
    "big seed": ({"input": "Hi.", "seed": 10**30}, 422, "seed"),
    "frames": ({"input": "Hi.", "max_frames": 999_999}, 400, "max_frames"),
    "stream": ({"input": "Hi.", "stream_format": "x"}, 422, "stream_format"),
    "language": ({"input": "Hi.", "language": "zz"}, 400, "language"),
    "no tag": ({"input": "Hi.", "language": "English please"}, 400, "language"),
}


@pytest.mark.parametrize(("body", "status", "param"), BAD.values(), ids=BAD)
async def test_a_bad_field_is_named(client, body, status, param):
    answer = await client.post(SPEECH, json=body)
    assert answer.status_code == status
    assert error_of(answer)["param"] == param


RAW = {
    "not JSON": (b"{", 400),
    "no body": (b"", 422),
    "not an object": (b"[1]", 422),
    "deep": (b'{"input": ' + b"[" * 100_000, 400),
    "deep and closed": (b'{"input": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    "lone surrogate": (b'{"input": "a\\ud800b"}', 422),
    "half a pair as a voice": (b'{"input": "hi", "voice": "\\udfff"}', 422),
    "invalid UTF-8": (b'{"input": "\xff\xfe"}', 400),
    "infinite": (b'{"input": "hi", "speed": 1e999}', 422),
    "NaN": (b'{"input": "hi", "speed": NaN}', 422),
    "5000 digits": (b'{"input": "hi", "seed": ' + b"9" * 5000 + b"}", 400),
    "NUL key": (b'{"input": "hi", "\\u0000": 1}', 200),
    "half a pair as a key": (b'{"input": "hi", "\\ud800": 2}', 422),
}


@pytest.mark.parametrize(("raw", "status"), RAW.values(), ids=RAW)
async def test_raw_bodies(client, raw, status):
    began = time.perf_counter()
    answer = await client.post(SPEECH, content=raw, headers={"content-type": "application/json"})
    assert time.perf_counter() - began < 2.0
    assert answer.status_code == status, answer.text
    if status != 200:
        error_of(answer)


async def test_the_content_type_is_named_when_it_is_wrong(client):
    answer = await client.post(SPEECH, content=b'{"input": "hi"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 422
    assert "application/json" in error_of(answer)["message"]


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_a_long_body_is_refused_before_it_is_read(how, monkeypatch):
    monkeypatch.setattr(middleware, "DRAIN_BYTES", 0)  # what is taken in after the answer
    engine = FakeEngine()
    limit, taken = body_limit(engine.plan.max_text_chars), 0

    async def flood():
        nonlocal taken
        while taken < 10 << 20:
            taken += 1 << 14
            yield b"x" * (1 << 14)

    headers = {"content-type": "application/json"}
    if how == "length":
        headers["content-length"] = str(10 << 20)
    async with open_client(engine=engine) as client:
        began = time.perf_counter()
        answer = await client.post(SPEECH, content=flood(), headers=headers)
    assert time.perf_counter() - began < 2.0
    assert answer.status_code == 413
    error_of(answer)
    assert taken <= (0 if how == "length" else limit + (1 << 16))
    assert answer.headers["connection"] == "close"


async def test_bytes_that_are_not_utf8_are_called_so(client):
    raw = '{"input": "caf\xe9"}'.encode("latin-1")
    answer = await client.post(SPEECH, content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "UTF-8" in error_of(answer)["message"]


async def test_voices_are_unavailable_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr(FakeEngine, "voices", lambda _: ())
    async with open_client() as client:
        answer = await client.get("/v1/audio/voices")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "loaded" in error_of(answer)["message"]


async def test_unknown_routes_and_methods(client):
    answer = await client.get("/nowhere")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "not_found")
    answer = await client.get(SPEECH)
    assert (answer.status_code, error_of(answer)["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


async def test_a_bug_is_a_500_of_the_same_shape(client):
    engine = FakeEngine(refuse=ZeroDivisionError("secret words"))
    async with open_client(engine=engine) as client:
        answer = await client.post(SPEECH, json={"input": "Hi."})
    assert answer.status_code == 500
    assert error_of(answer)["code"] == "internal_error"
    assert "secret" not in answer.text


async def test_request_ids(client):
    assert (await client.get("/livez", headers={"x-request-id": "my-id.7"})).headers["x-request-id"] == "my-id.7"
    for bad in ("a b", "x" * 65, "a\tb", ""):
        answer = await client.get("/livez", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"] not in ("", bad)


async def test_no_text_of_a_user_in_logs_and_errors(client, caplog):
    caplog.set_level(logging.INFO)
    secret = "Zanzibar"
    for body in (
        {"input": secret * 1000},
        {"input": secret, "voice": secret},
        {"input": secret, "speed": secret},
        {"input": secret, "model": secret},
        {"input": {secret: secret}},
        {"input": f"{secret}\0"},
        {"input": secret},
    ):
        answer = await client.post(f"{SPEECH}?{secret}", json=body)
        assert secret not in answer.text
    await client.get(f"/{secret}")
    assert SPEECH in caplog.text
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    assert secret not in "".join(ours)


# Keys, hosts, origins


async def test_every_route_needs_the_key_but_the_probes():
    engine = FakeEngine(chunks=1)
    app = create_app(engine, decision(engine, api_keys=(KEY, "another-key")))
    routes = [route for room in (admin, catalogue, health, metrics, speech) for route in room.router.routes]
    paths = {route.path for route in routes} | {*app.openapi()["paths"], "/openapi.json", "/nowhere"}
    assert paths > health.PROBES
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in paths:
            for method in ("GET", "POST", "OPTIONS", "DELETE"):
                for key in (None, "Bearer wrong-key", f"Basic {KEY}", "Bearer", f"Bearer {KEY}x"):
                    answer = await client.request(method, path, headers={"authorization": key} if key else {})
                    assert (answer.status_code == 401) == (path not in health.PROBES), (method, path, key)
            for key in (KEY, "another-key"):
                answer = await client.post(path, headers={"authorization": f"bearer {key}"}, json={})
                assert answer.status_code != 401, path
        answer = await client.post(SPEECH, json={"input": "Hi."})
        assert answer.headers["www-authenticate"] == "Bearer"
        assert error_of(answer)["type"] == "authentication_error"


async def test_machine_details_are_for_trusted_clients_only():
    async def health(base="http://127.0.0.1", key=None, **overrides):
        async with open_client(base, **overrides) as client:
            answer = await client.get("/health", headers={"authorization": f"Bearer {key}"} if key else {})
        return set(answer.json())

    assert "system_info" in await health()
    assert await health(api_keys=(KEY,)) == {"status"}
    assert "system_info" in await health(api_keys=(KEY,), key=KEY)
    assert await health("http://example.org", host="0.0.0.0", allow_public=True) == {"status"}


def test_a_public_bind_needs_a_key():
    engine = FakeEngine()
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(PlanError, match="API_KEYS") as caught:
            create_app(engine, decision(engine, host=host))
        assert caught.value.param == "host"
        create_app(engine, decision(engine, host=host, api_keys=(KEY,)))
        create_app(engine, decision(engine, host=host, allow_public=True))
    create_app(engine, decision(engine, host="::1"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback(host):
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example.org")


async def test_a_foreign_host_is_refused_on_loopback():
    for base in ("http://evil.example", "http://localhost.evil.example", "http://169.254.169.254"):
        async with open_client(base) as client:
            answer = await client.get("/v1/models")
            assert answer.status_code == 421
            assert error_of(answer)["param"] == "Host"
    for base in ("http://localhost:8000", "http://[::1]:8000", "http://127.0.0.1"):
        async with open_client(base) as client:
            assert (await client.get("/v1/models")).status_code == 200
    async with open_client("http://example.org", host="0.0.0.0", api_keys=(KEY,)) as client:
        assert (await client.get("/livez")).status_code == 200


async def test_no_page_of_another_origin_gets_in():
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        async with open_client() as client:
            answer = await client.post(SPEECH, json={"input": "Hi."}, headers={"origin": origin})
            assert answer.status_code == 403
            preflight = await client.options(
                SPEECH, headers={"origin": origin, "access-control-request-method": "POST"}
            )
            for reply in (answer, preflight, await client.get("/v1/models", headers={"origin": origin})):
                assert "access-control-allow-origin" not in reply.headers
    async with open_client() as client:
        answer = await client.post(SPEECH, json={"input": "Hi."}, headers={"origin": "http://localhost:3000"})
        assert answer.status_code == 200
    async with open_client(cors_origins=("https://good.example",), api_keys=(KEY,)) as client:
        headers = {"origin": "https://good.example"}
        preflight = await client.options(SPEECH, headers={**headers, "access-control-request-method": "POST"})
        assert preflight.headers["access-control-allow-origin"] == "https://good.example"
        answer = await client.post(SPEECH, json={"input": "Hi."}, headers={**headers, "authorization": f"Bearer {KEY}"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://good.example")


# Health and metrics


async def test_health_in_the_documented_shape(client):
    found = (await client.get("/health")).json()
    assert found["status"] == "healthy"
    assert found["device"] == "cpu"
    assert set(found["current_resources"]) == {"cpu_percent", "memory_percent", "memory_available_gb"}
    assert set(found["hardware_profile"]) == {"tier", "device", "thermal_monitoring"}
    assert isinstance(found["smart_insights"], list)
    assert found["system_info"]["model"] == "fake"


async def test_readiness_follows_the_engine():
    engine = FakeEngine(started=False)
    async with open_client(engine=engine) as client:
        for path in ("/ready", "/readyz", "/ping"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/health")).json()["status"] == "loading"
        answer = await client.post(SPEECH, json={"input": "Hi."})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        engine.start()
        assert (await client.get("/ready")).status_code == 200
        engine.close()
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).json()["status"] == "stopping"


async def test_a_scrape_is_not_counted_as_an_active_request(client):
    for path in ("/health", "/ready", "/metrics", "/metrics"):
        answer = await client.get(path)
    assert "\nsaywell_in_flight_requests 0.0\n" in answer.text


async def test_metrics_are_bounded_and_come_in_two_kinds(client):
    async def series() -> set:
        text = (await client.get("/metrics")).text
        return {(s.name, *sorted(s.labels.items())) for f in text_string_to_metric_families(text) for s in f.samples}

    await client.post(SPEECH, json={"input": "Hi."})
    await client.post(SPEECH, json={"input": "Hi.", "voice": "nobody"})
    before = await series()
    for i in range(100):
        await client.post(SPEECH, json={"input": "Hi.", "voice": f"v{i}"})
        await client.post(f"/v1/audio/{i}", json={})
        await client.get(f"/v1/models/m{i}")
    assert len(await series()) - len(before) <= 5
    assert ("saywell_requests_total", ("code", "200"), ("model", "fake"), ("route", SPEECH)) in before
    found = (await client.get("/metrics", headers={"accept": "application/json"})).json()
    assert set(found) >= {"rolling_aggregates", "current_gpu_util", "current_resources"}
    assert found["rolling_aggregates"]["requests"] == 102
    assert (await client.get("/metrics")).headers["content-type"].startswith("text/plain")


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
    | st.fixed_dictionaries(
        {"input": st.text(st.characters(), max_size=30)},
        optional={
            "voice": st.text() | st.dictionaries(st.text(), st.text()),
            "speed": st.floats() | st.text() | st.none(),
            "seed": st.integers(),
            "timeout": st.floats(),
            "response_format": st.sampled_from(["wav", "pcm", "x"]) | st.integers(),
            "language": st.text(),
            "priority": st.integers(),
        },
    )
)
async def test_nothing_sent_makes_a_500(client, body):
    raw = json.dumps(body).encode()
    answer = await client.post(SPEECH, content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 404, 413, 422), answer.text


# Languages


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
