"""The server with what other packages add to it, and without."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from fastapi import FastAPI

from fake_engine import FakeEngine, decision
from paths import TESTS
from saywell.server import extensions
from saywell.server.app import create_app
from saywell.server.service import Service

WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("saywell_compat", "s1_mini", "smart_backend"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, TESTS)
import asyncio, httpx
from fake_engine import FakeEngine, decision
from saywell.server.app import create_app

async def main():
    engine = FakeEngine(chunks=1)
    app = create_app(engine, decision(engine))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        for path in ("/health", "/ready", "/metrics", "/v1/models", "/v1/audio/voices", "/openapi.json"):
            assert (await client.get(path)).status_code == 200, path
        assert "s1_mini" not in (await client.get("/metrics")).text
        answer = await client.post("/v1/audio/speech", json={"input": "Hello there."})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
        assert (await client.post("/cache/clear")).status_code == 200
        for path in ("/hardware", "/system-status"):
            assert (await client.get(path)).status_code == 404, path
        for path in ("/tts", "/v1/tts", "/v1/tts/stream", "/estimate-memory", "/optimize-for-hardware"):
            assert (await client.post(path, json={"text": "Hello."})).status_code == 404, path

asyncio.run(main())
"""


def test_without_the_packages_for_other_programs_everything_else_works() -> None:
    code = WITHOUT.replace("TESTS", repr(str(TESTS)))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_installed_extension_adds_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(app: FastAPI, service: Service) -> None:
        app.add_api_route("/added", lambda: service.engine.spec.name)

    found = [_entry("one", install), EntryPoint("gone", "no_such_package.routes:install", extensions.GROUP)]
    monkeypatch.setattr(extensions, "entry_points", lambda *, group: found if group == extensions.GROUP else [])
    engine = FakeEngine()
    assert "/added" in create_app(engine, decision(engine)).openapi()["paths"]


def test_a_broken_extension_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(app: FastAPI, service: Service) -> None:
        raise ModuleNotFoundError("No module named 'its_own'", name="its_own")

    monkeypatch.setattr(extensions, "entry_points", lambda *, group: [_entry("one", install)])
    engine = FakeEngine()
    with pytest.raises(ModuleNotFoundError, match="its_own"):
        create_app(engine, decision(engine))


def _entry(name: str, install: object) -> EntryPoint:
    class Entry(EntryPoint):
        def load(self) -> object:
            return install

    return Entry(name, "somewhere:install", extensions.GROUP)
