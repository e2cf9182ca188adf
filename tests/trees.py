"""Invented file trees of `/proc` and `/sys`."""

from __future__ import annotations

from pathlib import Path

MOUNT_V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1_mount(controller: str, inside: str = "/") -> str:
    return f"32 31 0:29 {inside} /sys/fs/cgroup/{controller} rw - cgroup cgroup rw,{controller}\n"
