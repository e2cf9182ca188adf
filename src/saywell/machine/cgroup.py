"""Limits of a container from control groups v1 and v2. Each level up to the root may set one; the tightest applies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 62
"""Version 1 writes "no limit" as a number near 2**63, rounded down to the page size."""


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """A group that has a memory limit. Bytes; `used` excludes file pages the kernel can drop."""

    limit: int
    used: int


def version(root: Path = Path("/")) -> str:
    """`v1`, `v2`, `hybrid` (limits in v1, processes also in v2) or an empty string."""
    kinds = {kind for kind, _, _, _ in _mounts(root)}
    if kinds == {"cgroup", "cgroup2"}:
        return "hybrid"
    return {"cgroup": "v1", "cgroup2": "v2"}.get(next(iter(kinds), ""), "")


def memory_levels(root: Path = Path("/")) -> tuple[MemoryLevel, ...]:
    """Every level with a memory limit, own group first."""
    levels = []
    for group in _groups(root, "memory"):
        limits = [read_int(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        limit = min((limit for limit in limits if limit is not None), default=None)
        if limit is not None:
            levels.append(MemoryLevel(limit, _used(group)))
    return tuple(levels)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes this process may use, or None."""
    return min((level.limit for level in memory_levels(root)), default=None)


def oom_kills(root: Path = Path("/")) -> int | None:
    """OOM kills in this process's groups and on the machine; None if the kernel does not report any count."""
    files = [group / name for group in _groups(root, "memory") for name in ("memory.events", "memory.oom_control")]
    counts = [_counter(file, "oom_kill") for file in (*files, root / "proc/vmstat")]
    reported = [count for count in counts if count is not None]
    return sum(reported) if reported else None


def _counter(path: Path, name: str) -> int | None:
    """The value of `name` in a file of lines `name value`."""
    fields = (line.split() for line in read_text(path).splitlines())
    return next((int(parts[1]) for parts in fields if parts[:1] == [name] and parts[1:2] and parts[1].isdigit()), None)


def own_group(controller: str, root: Path = Path("/")) -> Path | None:
    """Directory of this process's group for a controller; None without control groups."""
    return next(_groups(root, controller), None)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time this process may use, or None. 1.5 is one and a half CPUs."""
    return min((quota for group in _groups(root, "cpu") if (quota := _quota(group))), default=None)


def cpuset(root: Path = Path("/")) -> tuple[int, ...] | None:
    """CPUs the groups allow, or None. The first level that lists them already gives the effective set."""
    for group in _groups(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            if cpus := parse_cpus(read_text(group / name)):
                return cpus
    return None


def parse_cpus(text: str) -> tuple[int, ...]:
    """The kernel's list format: `0-3,8` → 0, 1, 2, 3, 8. Other words are ignored."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))


def read_text(path: Path) -> str:
    """The file's text, stripped; empty if it cannot be read: a missing fact is not an error."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def read_int(path: Path) -> int | None:
    """A limit in a file; None when the file is absent or states no limit."""
    text = read_text(path)
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _used(group: Path) -> int:
    used = read_int(group / "memory.current") or read_int(group / "memory.usage_in_bytes") or 0
    stat = dict(line.split(" ", 1) for line in read_text(group / "memory.stat").splitlines() if " " in line)
    # In v1 `inactive_file` is the group alone; `total_inactive_file` is its subtree, as is `usage_in_bytes`.
    idle = stat.get("total_inactive_file") or stat.get("inactive_file") or "0"
    return max(used - (int(idle) if idle.isdigit() else 0), 0)


def _quota(group: Path) -> float | None:
    limit, _, period = read_text(group / "cpu.max").partition(" ")
    if not limit:
        limit = read_text(group / "cpu.cfs_quota_us")
        period = read_text(group / "cpu.cfs_period_us")
    if limit.isdigit() and period.isdigit() and int(period) > 0:
        return int(limit) / int(period)
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Directories of this process's group for one controller, itself first, then each parent up to the mount."""
    own = _own(root)
    for kind, options, inside, point in _mounts(root):
        path = own.get("" if kind == "cgroup2" else controller)
        if path is None or (kind == "cgroup" and controller not in options):
            continue
        yield from _upwards(root / point.lstrip("/"), path, inside)


def _upwards(mount: Path, path: str, inside: str) -> Iterator[Path]:
    # In a container its own group is mounted as the top: strip the part of the path that leads there.
    below = path.removeprefix(inside) if inside != "/" and _under(path, inside) else path
    parts = [part for part in below.split("/") if part]
    if ".." in parts or not mount.joinpath(*parts).is_dir():
        parts = []  # the group lies outside the mount, whose top is then the nearest visible level
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _under(path: str, parent: str) -> bool:
    return path == parent or path.startswith(parent.rstrip("/") + "/")


def _own(root: Path) -> dict[str, str]:
    """Controller → path of this process's group; the v2 hierarchy has an empty name."""
    paths = {}
    for line in read_text(root / "proc/self/cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            paths.update(dict.fromkeys(fields[1].split(","), fields[2]))
    return paths


def _mounts(root: Path) -> Iterator[tuple[str, list[str], str, str]]:
    """(cgroup or cgroup2, options, mounted group, mount point) of each control group mount."""
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) > 4 and len(tail) > 2 and tail[0] in ("cgroup", "cgroup2"):
            yield tail[0], tail[2].split(","), fields[3], fields[4]
