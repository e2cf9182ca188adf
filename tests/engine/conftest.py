from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from paths import TESTS
from plans import TINY, TINY_PLAN
from saywell.engine.worker.client import EngineClient


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EngineClient]]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    made: list[EngineClient] = []

    def _start(family: str = "tiny_ar.family", python: Path | None = None, **fields: object) -> EngineClient:
        spec = replace(TINY, family=family)
        client = EngineClient(spec, replace(TINY_PLAN, **fields), python=python)
        made.append(client)
        client.start()
        return client

    yield _start
    for client in made:
        client.close()
