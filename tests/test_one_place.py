"""A route and an output format are added as files of their own; no existing file changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paths import ROOT

ROUTE = """
from fastapi import APIRouter
from saywell.server.routes.common import ServiceOf

router = APIRouter()
PROBES = frozenset({"/hello"})

@router.get("/hello")
async def hello(service: ServiceOf):
    return {"model": service.engine.spec.name}
"""
FORMAT = """
from saywell.audio.formats.base import Format, to_int16

class Text:
    def __init__(self, rate):
        self.lines = [str(rate)]

    def write(self, samples):
        self.lines += map(str, to_int16(samples))

    def close(self):
        pass

    def take(self):
        new, self.lines = self.lines, []
        return "".join(f"{line}\\n" for line in new).encode()

    def whole(self):
        return self.take()

    def patches(self):
        return []

FORMATS = (Format(name="text", content_type="text/plain", extensions=(".txt",), open=lambda rate, _: Text(rate)),)
"""
PROGRAM = """
import json
import numpy as np
from starlette.testclient import TestClient
from fake_engine import FakeEngine, decision
from saywell.audio.encode import encode, format_of
from saywell.server.app import create_app
import saywell

engine = FakeEngine()
app = create_app(engine, decision(engine, api_keys=("a-secret-key",)))
with TestClient(app, base_url="http://127.0.0.1") as client:
    key = {"authorization": "Bearer a-secret-key"}
    spoken = client.post("/v1/audio/speech", headers=key, json={"input": "Hi.", "response_format": "text"})
    schema = client.get("/openapi.json", headers=key).text
    print(json.dumps({
        "from": saywell.__file__,
        "route": client.get("/hello").json(),
        "format": [format_of("x.txt"), encode(np.zeros(2, np.float32), 8000, "text").decode()],
        "spoken": [spoken.status_code, spoken.headers["content-type"], spoken.text.split()[0]],
        "listed": ['"text"' in schema, "text/plain" in schema, "/hello" in schema],
    }))
"""


def files(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*.py"))}


def test_a_route_and_a_format_are_found_by_their_files(tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    shutil.copytree(ROOT / "src" / "saywell", tmp_path / "saywell", ignore=shutil.ignore_patterns("__pycache__"))
    before = files(tmp_path)
    (tmp_path / "saywell/server/routes/hello.py").write_text(ROUTE, encoding="utf-8")
    (tmp_path / "saywell/audio/formats/text.py").write_text(FORMAT, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT / "tests"))), "SAYWELL_CONFIG": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["from"].startswith(str(tmp_path))
    assert answer["route"] == {"model": "fake"}
    assert answer["format"] == ["text", "8000\n0\n0\n"]
    assert answer["spoken"] == [200, "text/plain; charset=utf-8", "24000"]
    assert answer["listed"] == [True, True, True]
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before, "no existing file changed"
    assert sorted(after.keys() - before.keys()) == ["saywell/audio/formats/text.py", "saywell/server/routes/hello.py"]
