"""Worker processes, from outside."""

from __future__ import annotations

import psutil


def workers() -> list[int]:
    children = psutil.Process().children()
    return [child.pid for child in children if "saywell.engine.worker.process" in " ".join(child.cmdline())]
