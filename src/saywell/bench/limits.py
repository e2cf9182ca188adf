"""A memory limit on a child process, enforced by the kernel: a control group, or a limit of the address space."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from saywell.errors import MissingDependency
from saywell.machine.cgroup import own_group, read_int, read_text

_SAMPLE_S = 0.1
_EXIT_S = 5.0
"""How long the processes of a group may take to exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """A limit that a child applies to itself (`enter`), and the kernel's figures about it: 0 where it has none."""

    kind: str
    """cgroup v1, cgroup v2 or address space."""
    bytes: int
    group: Path | None = None
    """The control group's directory."""

    @property
    def about(self) -> str:
        """One sentence."""
        if self.group is not None:
            return f"a {self.kind} memory limit of {self.bytes >> 20} MB: everything its processes and their files hold"
        return (
            f"no control group can be made here, so each process has {self.bytes >> 20} MB of address space: "
            "allocations fail instead of processes being killed, and the machine's facts do not show the limit"
        )

    def peak(self) -> int:
        """Peak bytes of the group, including the page cache."""
        if self.group is None:
            return 0
        return read_int(self.group / "memory.max_usage_in_bytes") or read_int(self.group / "memory.peak") or 0

    def own(self) -> int:
        """Anonymous memory of the group's processes now, in bytes."""
        figures = self._figures("memory.stat")
        return int(figures.get("total_rss") or figures.get("anon") or 0)

    def kills(self) -> int:
        """Processes killed by the kernel for exceeding the limit."""
        figures = self._figures("memory.oom_control") or self._figures("memory.events")
        return int(figures.get("oom_kill", 0))

    def _figures(self, file: str) -> dict[str, str]:
        lines = read_text(self.group / file).splitlines() if self.group is not None else []
        return dict(line.split(" ", 1) for line in lines if " " in line)


def enter(limit: MemoryLimit) -> None:
    """Apply the limit to this process and all its future children."""
    if limit.group is not None:
        (limit.group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limit.bytes, limit.bytes))


class OwnPeak:
    """Context manager: the peak of `MemoryLimit.own`, sampled ten times a second, in `bytes`."""

    def __init__(self, limit: MemoryLimit) -> None:
        self.bytes = 0
        self._limit = limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> OwnPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self.bytes = max(self.bytes, self._limit.own())


def check() -> None:
    """Raises MissingDependency on Windows, which has no such limits."""
    if sys.platform == "win32":
        raise MissingDependency("Windows has neither control groups nor address space limits; measure on Linux")


@contextmanager
def limited(size: int, name: str) -> Iterator[MemoryLimit]:
    """A control group of `size` bytes, removed at the end; an address space limit if no group can be made.

    Raises MissingDependency on Windows.
    """
    check()
    group, kind = _make_group(size, name)
    try:
        yield MemoryLimit(kind=kind, bytes=size, group=group)
    finally:
        if group is not None:
            _remove(group)


def _make_group(size: int, name: str) -> tuple[Path | None, str]:
    """The group's directory and its kind."""
    parent = own_group("memory")
    if parent is None:
        return None, "address space"
    group = parent / f"saywell-bench-{name}-{os.getpid()}"
    try:
        group.mkdir()
        for kind, file in (("cgroup v1", "memory.limit_in_bytes"), ("cgroup v2", "memory.max")):
            if (group / file).exists():
                (group / file).write_text(str(size), encoding="ascii")
                _forbid_swap(group, size)
                return group, kind
        group.rmdir()  # cgroup v2 without the memory controller
    except OSError:
        with suppress(OSError):
            group.rmdir()
    return None, "address space"


def _forbid_swap(group: Path, size: int) -> None:
    """Where the kernel has the files for it."""
    for file, limit in (("memory.memsw.limit_in_bytes", size), ("memory.swap.max", 0)):
        if (group / file).exists():
            (group / file).write_text(str(limit), encoding="ascii")


def _remove(group: Path) -> None:
    """Drop the page cache charged to the group, so that the next group is charged for its own, and remove the group."""
    until = time.monotonic() + _EXIT_S
    while read_text(group / "cgroup.procs") and time.monotonic() < until:
        time.sleep(0.02)
    for file, text in (("memory.force_empty", "0"), ("memory.reclaim", str(1 << 40))):
        if (group / file).exists():
            with suppress(OSError):  # raised if less than all could be reclaimed
                (group / file).write_text(text, encoding="ascii")
    group.rmdir()
