"""A memory limit the kernel enforces on a child process: a control group of its own, or its address space."""

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

_EVERY_S = 0.1
_GONE_S = 5.0
"""How long a group may take to lose its last process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """Where a child locks itself in (`enter`), and what the kernel says about it."""

    kind: str
    """cgroup v1, cgroup v2 or address space."""
    bytes: int
    group: Path | None = None
    """The control group's directory."""

    @property
    def about(self) -> str:
        """One plain sentence."""
        if self.group is not None:
            return f"a {self.kind} memory limit of {self.bytes >> 20} MB: everything its processes and their files hold"
        return (
            f"no control group can be made here, so each process has {self.bytes >> 20} MB of address space: "
            "allocations fail instead of processes being killed, and the machine's facts do not show the limit"
        )

    def peak(self) -> int:
        """Most bytes the group ever held, pages of files included; 0: not told."""
        if self.group is None:
            return 0
        return read_int(self.group / "memory.max_usage_in_bytes") or read_int(self.group / "memory.peak") or 0

    def own(self) -> int:
        """Bytes its processes hold now that are theirs alone, without pages of files; 0: not told."""
        if self.group is None:
            return 0
        stat = dict(line.split(" ", 1) for line in read_text(self.group / "memory.stat").splitlines() if " " in line)
        return int(stat.get("total_rss") or stat.get("anon") or "0")

    def kills(self) -> int:
        """Processes the kernel has killed for memory."""
        if self.group is None:
            return 0
        text = read_text(self.group / "memory.oom_control") or read_text(self.group / "memory.events")
        fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        return int(fields.get("oom_kill", "0"))


def enter(cage: MemoryLimit) -> None:
    """For the child, first of all: lock this process and all it starts in."""
    if cage.group is not None:
        (cage.group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (cage.bytes, cage.bytes))


class OwnPeak:
    """While it is entered: the most bytes of `MemoryLimit.own`, looked at ten times a second."""

    def __init__(self, cage: MemoryLimit) -> None:
        self.bytes = 0
        self._cage = cage
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> OwnPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_EVERY_S):
            self.bytes = max(self.bytes, self._cage.own())


def check() -> None:
    """Raises MissingDependency where nothing can be limited."""
    if sys.platform == "win32":
        raise MissingDependency("Windows has neither control groups nor address space limits; measure on Linux")


@contextmanager
def caged(size: int, name: str) -> Iterator[MemoryLimit]:
    """A group of `size` bytes as long as it is entered; without the right to make one, the address space is limited.

    Raises MissingDependency on Windows.
    """
    check()
    cage = _group(size, name)
    if cage is None or cage.group is None:
        yield MemoryLimit(kind="address space", bytes=size)
        return
    try:
        yield cage
    finally:
        _remove(cage.group)


def _group(size: int, name: str) -> MemoryLimit | None:
    parent = own_group("memory")
    if parent is None:
        return None
    group = parent / f"saywell-bench-{name}-{os.getpid()}"
    try:
        group.mkdir()
        for kind, file in (("cgroup v1", "memory.limit_in_bytes"), ("cgroup v2", "memory.max")):
            if (group / file).exists():
                (group / file).write_text(str(size), encoding="ascii")
                _no_swap(group, size)
                return MemoryLimit(kind=kind, bytes=size, group=group)
        group.rmdir()  # version 2 without the memory controller for groups below this one
    except OSError:
        with suppress(OSError):
            group.rmdir()
    return None


def _no_swap(group: Path, size: int) -> None:
    """What does not fit must not go to the disk instead. Many kernels have no such file, and machines no swap."""
    for file, limit in (("memory.memsw.limit_in_bytes", size), ("memory.swap.max", 0)):
        if (group / file).exists():
            (group / file).write_text(str(limit), encoding="ascii")


def _remove(group: Path) -> None:
    """Give back the files' pages it was charged for, so that the next group pays for its own, and remove it."""
    until = time.monotonic() + _GONE_S
    while read_text(group / "cgroup.procs") and time.monotonic() < until:
        time.sleep(0.02)
    for file, text in (("memory.force_empty", "0"), ("memory.reclaim", str(1 << 40))):
        if (group / file).exists():
            with suppress(OSError):  # it says so when less could be reclaimed than was asked for
                (group / file).write_text(text, encoding="ascii")
    group.rmdir()
