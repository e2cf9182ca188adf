"""Worker processes as the system sees them."""

from __future__ import annotations

import psutil

from saywell.engine.worker.client import EngineClient


def pid(client: EngineClient) -> int:
    assert client._link is not None
    return client._link.child.process.pid


def workers() -> list[int]:
    children = psutil.Process().children()
    return [each.pid for each in children if "saywell.engine.worker.process" in " ".join(each.cmdline())]
