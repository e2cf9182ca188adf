"""Memory a process holds together with its children, counted so that it can be compared with an estimate."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psutil

_PROC = Path("/proc")
_EVERY_S = 0.02


def footprint(pid: int) -> int:
    """Bytes: everybody's own memory, and the files the largest of them has mapped.

    Libraries and weights are mapped by all of them and are there once, so adding them up would count them twice. Where
    the system does not tell these apart (not Linux), resident memory is added up. 0 for a process that is gone.
    """
    if not (_PROC / "self/status").exists():
        return _resident(pid)
    kinds = [_kinds(each) for each in _family(pid)]
    own = sum(each.get("RssAnon", 0) + each.get("RssShmem", 0) for each in kinds)
    return own + max((each.get("RssFile", 0) for each in kinds), default=0)


def most(pid: int) -> int:
    """The most bytes the process has held so far, and what its children hold now. 0 for a process that is gone.

    Where the system keeps no such figure (not Linux), what they hold now.
    """
    status = _read(_PROC / str(pid) / "status")
    highest = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if highest is None:
        return 0 if _PROC.joinpath("self/status").exists() else _resident(pid)
    children = [_kinds(child) for child in _family(pid) if child != pid]
    return (int(highest[1]) << 10) + sum(each.get("RssAnon", 0) + each.get("RssShmem", 0) for each in children)


class Peak:
    """The most a process and its children held while this was entered: `bytes`, also while it still is."""

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


def _family(pid: int) -> Iterator[int]:
    yield pid
    for listed in (_PROC / str(pid) / "task").glob("*/children"):
        for child in _read(listed).split():
            yield from _family(int(child))


def _kinds(pid: int) -> dict[str, int]:
    """Bytes by kind, as `/proc/PID/status` has them."""
    lines = (line.split() for line in _read(_PROC / str(pid) / "status").splitlines() if line.startswith("Rss"))
    return {line[0].rstrip(":"): int(line[1]) << 10 for line in lines}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # it has just ended
        return ""


def _resident(pid: int) -> int:
    total = 0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:
        return total  # one of them has just ended
    return int(total)
