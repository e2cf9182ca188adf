"""What runtimes share."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from saywell.runtimes.base import once


def test_threads_that_load_together_load_once() -> None:
    loads = []
    together = threading.Barrier(4)

    @once
    def load() -> int:
        time.sleep(0.05)
        loads.append(1)
        return len(loads)

    def call(_: int) -> int:
        together.wait()
        return load()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(call, range(4))) == [1, 1, 1, 1]
