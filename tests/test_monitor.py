"""What the machine is doing: container limits first, nothing made up, cheap."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from saywell import monitor
from test_hardware import MOUNT_V2, tree, v1_mount

GIB = 1 << 30
HOST = "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n"


def test_this_machine() -> None:
    found = monitor.resources()
    assert 0 <= found.memory_available <= found.memory_limit <= psutil.virtual_memory().total
    assert 0 <= found.memory_percent <= 100
    assert found.process_memory > 10 << 20
    assert bool(found.temperatures) != bool(found.temperature_note)


def test_looking_is_cheap() -> None:
    monitor.resources()
    started = time.perf_counter()
    for _ in range(20):
        monitor.available_memory()
    assert (time.perf_counter() - started) / 20 < 0.01


def test_host_memory_without_groups(tmp_path: Path) -> None:
    assert monitor.memory(tree(tmp_path, {"proc/meminfo": HOST})) == (16 * GIB, 8 * GIB)


def test_v2_page_cache_that_can_be_dropped_is_available(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": HOST, "proc/self/cgroup": "0::/box\n", "proc/self/mountinfo": MOUNT_V2,
        "sys/fs/cgroup/box/memory.max": f"{4 * GIB}", "sys/fs/cgroup/box/memory.current": f"{3 * GIB}",
        "sys/fs/cgroup/box/memory.stat": f"anon {GIB}\ninactive_file {2 * GIB}\nactive_file 5\n",
    }  # fmt: skip
    assert monitor.memory(tree(tmp_path, files)) == (4 * GIB, 3 * GIB)
    assert monitor.resources(tmp_path).memory_percent == 25.0


def test_the_tightest_level_decides(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": HOST, "proc/self/cgroup": "0::/pod/box\n", "proc/self/mountinfo": MOUNT_V2,
        "sys/fs/cgroup/pod/memory.max": f"{6 * GIB}", "sys/fs/cgroup/pod/memory.current": f"{5 * GIB}",
        "sys/fs/cgroup/pod/box/memory.max": f"{4 * GIB}", "sys/fs/cgroup/pod/box/memory.current": f"{GIB}",
    }  # fmt: skip
    assert monitor.memory(tree(tmp_path, files)) == (4 * GIB, GIB)


def test_v1_and_a_group_over_its_limit(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": HOST, "proc/self/cgroup": "4:memory:/box\n", "proc/self/mountinfo": v1_mount("memory"),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{GIB}",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{2 * GIB}",
        "sys/fs/cgroup/memory/box/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 2}\n",
    }  # fmt: skip
    assert monitor.memory(tree(tmp_path, files)) == (GIB, 0)


def test_a_full_machine_limits_an_empty_container(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 1024 kB\n",
        "proc/self/cgroup": "0::/box\n", "proc/self/mountinfo": MOUNT_V2, "sys/fs/cgroup/box/memory.max": f"{4 * GIB}",
    }  # fmt: skip
    assert monitor.available_memory(tree(tmp_path, files)) == 1 << 20


class Sensor:
    def __init__(self, current: float) -> None:
        self.current = current


def test_temperatures(monkeypatch: pytest.MonkeyPatch) -> None:
    read = {"coretemp": [Sensor(51.0), Sensor(64.5)], "nvme": [Sensor(40.0)], "empty": []}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: read, raising=False)
    assert monitor.resources().temperatures == {"coretemp": 64.5, "nvme": 40.0}


def test_absent_sensors_are_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    assert monitor.resources().temperature_note == "this machine shows no temperature sensor"
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert "does not tell temperatures" in monitor.resources().temperature_note
