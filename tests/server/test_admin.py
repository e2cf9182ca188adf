"""What changes the running engine: what it answers, and who may ask."""

from __future__ import annotations

import httpx
import pytest

from fake_engine import FakeEngine, decision
from saywell.server.app import create_app

pytestmark = pytest.mark.anyio
KEY = "a-key-for-tests"
ROUTES = ("/cache/clear",)


def open_client(base="http://127.0.0.1", engine=None, **overrides):
    engine = engine or FakeEngine(chunks=1)
    app = create_app(engine, decision(engine, **overrides))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=base)


async def test_caches_are_cleared():
    engine = FakeEngine()
    async with open_client(engine=engine) as client:
        answer = await client.post("/cache/clear")
    assert answer.json() == {"status": "cleared", "freed_mb": 3.0}
    assert engine.tidied == [False]


@pytest.mark.parametrize("path", ROUTES)
async def test_loopback_needs_no_key_unless_one_is_configured(path):
    async with open_client() as client:
        assert (await client.post(path)).status_code == 200
        assert (await client.get(path)).status_code == 405
    engine = FakeEngine()
    async with open_client(engine=engine, api_keys=(KEY,)) as client:
        assert (await client.post(path)).status_code == 401
        assert (await client.post(path, headers={"authorization": "Bearer another-key"})).status_code == 401
        assert engine.tidied == []
        assert (await client.post(path, headers={"authorization": f"Bearer {KEY}"})).status_code == 200


@pytest.mark.parametrize("path", ROUTES)
async def test_on_a_public_address_a_key_is_needed(path):
    engine = FakeEngine()
    async with open_client("http://example.org", engine=engine, host="0.0.0.0", allow_public=True) as client:
        answer = await client.post(path)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "forbidden"
    async with open_client("http://example.org", engine=engine, host="0.0.0.0", api_keys=(KEY,)) as client:
        assert (await client.post(path)).status_code == 401
        assert (await client.post(path, headers={"authorization": f"Bearer {KEY}"})).status_code == 200
    assert len(engine.tidied) == 1


@pytest.mark.parametrize("path", ROUTES)
async def test_a_page_of_another_origin_may_not(path):
    engine = FakeEngine()
    async with open_client(engine=engine) as client:
        assert (await client.post(path, headers={"origin": "https://evil.example"})).status_code == 403
    assert engine.tidied == []


@pytest.mark.parametrize("path", ROUTES)
async def test_an_engine_that_is_not_ready_is_a_503(path):
    async with open_client(engine=FakeEngine(started=False)) as client:
        answer = await client.post(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
