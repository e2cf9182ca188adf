"""CPU time and memory of a process together with its descendants."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from saywell.machine.cgroup import read_text

PROC = Path("/proc")
_EVERY_S = 0.02


def family(pid: int) -> Iterator[int]:
    """A process and its living descendants."""
    yield pid
    for child in _children(pid):
        yield from family(child)


def _children(pid: int) -> Iterator[int]:
    """Direct children. Linux lists them for each thread; elsewhere psutil has to search all processes."""
    try:
        threads = list((PROC / str(pid) / "task").iterdir())
    except OSError:  # not Linux, or the process has just ended
        with suppress(psutil.Error):
            yield from (child.pid for child in psutil.Process(pid).children())
        return
    for thread in threads:
        yield from (int(child) for child in read_text(thread / "children").split())


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of the ended children it has waited for; 0 for a process that has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0  # its parent's `children_user` includes it now
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


def footprint(pid: int) -> int:
    """Bytes of a process and its descendants: the private memory of each, plus the largest shared part.

    Libraries and mapped weights are shared, so adding them up would count them once for each process. Where the
    system does not report shared memory (not Linux), resident memory is added up. 0 for a process that has ended.
    """
    held = [_private_and_shared(member) for member in family(pid)]
    return sum(private for private, _ in held) + max(shared for _, shared in held)


def highest_footprint(pid: int) -> int:
    """Peak resident bytes of a process so far, plus the private memory its descendants hold now.

    Where the system keeps no peak (not Linux), the current footprint. 0 for a process that has ended.
    """
    peak = re.search(r"^VmHWM:\s+(\d+) kB", read_text(PROC / str(pid) / "status"), re.MULTILINE)
    if peak is None:
        return footprint(pid)
    return (int(peak[1]) << 10) + sum(_private_and_shared(child)[0] for child in family(pid) if child != pid)


def _private_and_shared(pid: int) -> tuple[int, int]:
    try:
        memory: Any = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0, 0  # it has just ended
    shared = int(getattr(memory, "shared", 0))
    return int(memory.rss) - shared, shared


class Peak:
    """Samples the footprint of a process while entered: `bytes` is the highest value so far."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.bytes = footprint(pid)
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="saywell-footprint", daemon=True)

    def __enter__(self) -> Peak:
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._sampler.join()

    def _sample(self) -> None:
        while True:
            self.bytes = max(self.bytes, footprint(self._pid))
            if self._over.wait(_EVERY_S):
                return
