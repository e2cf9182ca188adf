"""What the machine is doing: container limits first, nothing made up, cheap."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from saywell.machine import monitor
from trees import MOUNT_V2, tree, v1_mount

GIB = 1 << 30
HOST = "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n"


def test_this_machine() -> None:
    found = monitor.resources()
    assert 0 <= found.memory_available <= found.memory_limit <= psutil.virtual_memory().total
    assert 0 <= found.memory_percent <= 100
    assert bool(found.temperatures) != bool(found.temperature_note)


def test_looking_is_cheap() -> None:
    monitor.resources()
    started = time.process_time()
    for _ in range(20):
        monitor.available_memory()
    assert (time.process_time() - started) / 20 < 0.01


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


HWMON = {
    "proc/meminfo": HOST,
    "sys/class/hwmon/hwmon0/name": "coretemp",
    "sys/class/hwmon/hwmon0/temp1_input": "51000",
    "sys/class/hwmon/hwmon0/temp1_crit": "100000",
    "sys/class/hwmon/hwmon0/temp2_input": "97500",
    "sys/class/hwmon/hwmon0/temp2_crit": "100000",
    "sys/class/hwmon/hwmon1/name": "nvme",
    "sys/class/hwmon/hwmon1/temp1_input": "40850",
    "sys/class/hwmon/hwmon1/temp1_crit": "81850",
}


def test_temperatures_and_the_margin_of_the_processor(tmp_path: Path) -> None:
    found = monitor.resources(tree(tmp_path, HWMON))
    assert found.temperatures == {"coretemp": 97.5, "nvme": 40.85}
    assert found.heat_margin == 2.5
    assert found.temperature_note == ""


def test_absent_sensors_are_said_plainly(tmp_path: Path) -> None:
    found = monitor.resources(tree(tmp_path, {"proc/meminfo": HOST}))
    assert found.temperature_note == "this machine shows no temperature sensor"
    assert (found.temperatures, found.heat_margin, found.throttled) == ({}, None, ())


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_child_that_ends_while_it_is_looked_at_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = 4_194_304 + 1  # beyond the highest process id there is
    tree(tmp_path, {"proc/meminfo": HOST, f"proc/{os.getpid()}/task/1/children": str(gone)})
    (tmp_path / "proc" / str(gone) / "task").mkdir(parents=True)
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if str(gone) in path.parts:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert monitor.Monitor(tmp_path).look().cpu_percent >= 0


def test_our_own_work_and_that_of_children_is_told_from_others() -> None:
    watch = monitor.Monitor()
    spin(0.3)
    alone = watch.look()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        time.sleep(0.4)
        mine = watch.look()
        child.kill()
    watch.close()
    cpus = len(psutil.Process().cpu_affinity())
    assert alone.cpu_own_percent > 5 / cpus
    assert mine.cpu_own_percent > 5 / cpus
    assert mine.cpu_percent >= mine.cpu_own_percent


def test_a_worker_whose_parent_is_ours_too_is_counted_once() -> None:
    """Counted twice, its own work hides what other programs take."""
    code = (
        "import os, time; from saywell.machine.monitor import Monitor\n"
        "once, also = Monitor(), Monitor(also_own=(os.getpid(), os.getppid()))\n"
        "end = time.perf_counter() + 0.5\n"
        "while time.perf_counter() < end: pass\n"
        "print(once.look().cpu_own_percent, also.look().cpu_own_percent)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    once, also = map(float, told.split())
    assert once > 10 / (psutil.cpu_count() or 1)
    assert also < 1.5 * once


def test_waiting_for_a_cpu_is_read_from_the_kernel(tmp_path: Path) -> None:
    clock = [10.0]
    pressure = "some avg10=9.00 avg60=1.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    root = tree(tmp_path, {"proc/meminfo": HOST, "proc/pressure/cpu": pressure.format(1_000_000)})
    watch = monitor.Monitor(root, clock=lambda: clock[0])
    (root / "proc/pressure/cpu").write_text(pressure.format(1_250_000))
    clock[0] += 1.0
    assert watch.look().cpu_stalled_percent == 25.0


def test_two_looks_at_once_share_one_answer() -> None:
    watch = monitor.Monitor()
    spin(0.1)
    first = watch.look()
    assert watch.look().cpu_percent == first.cpu_percent
    watch.close()
