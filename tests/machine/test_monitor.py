"""Samples of the current load: container limits, CPU use, temperatures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from saywell.machine import monitor, process_memory
from saywell.machine.sensors import Heat
from trees import MOUNT_V2, tree, v1_mount

GIB = 1 << 30
HOST = "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n"


def test_this_machine() -> None:
    now = monitor.resources()
    assert 0 <= now.memory_available <= now.memory_limit <= psutil.virtual_memory().total
    assert 0 <= now.memory_percent <= 100
    assert bool(now.temperatures) != bool(now.temperature_note)


def test_available_memory_takes_under_ten_milliseconds() -> None:
    monitor.resources()
    started = time.process_time()
    for _ in range(20):
        monitor.available_memory()
    assert (time.process_time() - started) / 20 < 0.01


def test_host_memory_without_groups(tmp_path: Path) -> None:
    assert monitor.memory(tree(tmp_path, {"proc/meminfo": HOST})) == (16 * GIB, 8 * GIB)


def test_v2_inactive_page_cache_is_available(tmp_path: Path) -> None:
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


def test_v1_group_over_its_limit_has_no_memory_available(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": HOST, "proc/self/cgroup": "4:memory:/box\n", "proc/self/mountinfo": v1_mount("memory"),
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{GIB}",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{2 * GIB}",
        "sys/fs/cgroup/memory/box/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 2}\n",
    }  # fmt: skip
    assert monitor.memory(tree(tmp_path, files)) == (GIB, 0)


def test_full_machine_limits_an_empty_container(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 1024 kB\n",
        "proc/self/cgroup": "0::/box\n", "proc/self/mountinfo": MOUNT_V2, "sys/fs/cgroup/box/memory.max": f"{4 * GIB}",
    }  # fmt: skip
    assert monitor.available_memory(tree(tmp_path, files)) == 1 << 20


def test_temperatures_are_read_at_most_every_two_seconds() -> None:
    clock, readings = [10.0], iter(range(50, 60))

    class Counting:
        def read(self) -> Heat:
            return Heat(temperatures={"coretemp": float(next(readings))})

        def close(self) -> None:
            pass

    watch = monitor.Monitor(sensors=Counting(), clock=lambda: clock[0])
    seen = []
    for clock[0] in (10.0, 11.9, 12.0):
        seen.append(watch.look().temperatures["coretemp"])
    assert seen == [50.0, 50.0, 51.0]


def test_note_explains_missing_sensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    now = monitor.resources(tree(tmp_path, {"proc/meminfo": HOST}))
    assert now.temperature_note == "this machine has no temperature sensor that can be read"
    assert (now.temperatures, now.heat_margin, now.throttled) == ({}, None, ())


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_child_that_ends_during_a_sample_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = 4_194_304 + 1  # above the highest possible process id
    monkeypatch.setattr(process_memory, "PROC", tree(tmp_path, {f"{os.getpid()}/task/1/children": str(gone)}))
    (tmp_path / str(gone) / "task").mkdir(parents=True)
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if str(gone) in path.parts:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert monitor.Monitor().look().cpu_percent >= 0
    assert process_memory.footprint(gone) == 0


def test_work_of_own_process_and_children_is_own() -> None:
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


def test_overlapping_process_trees_are_counted_once() -> None:
    """Counting own work twice would hide the load of other programs."""
    code = (
        "import os, time; from saywell.machine.monitor import Monitor\n"
        "once, also = Monitor(), Monitor(also_own=(os.getpid(), os.getppid()))\n"
        "end = time.perf_counter() + 0.5\n"
        "while time.perf_counter() < end: pass\n"
        "print(once.look().cpu_own_percent, also.look().cpu_own_percent)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    once, also = map(float, output.split())
    assert once > 10 / (psutil.cpu_count() or 1)
    assert also < 1.5 * once


def test_cpu_stalls_are_read_from_pressure_stall_information(tmp_path: Path) -> None:
    clock = [10.0]
    pressure = "some avg10=9.00 avg60=1.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    root = tree(tmp_path, {"proc/meminfo": HOST, "proc/pressure/cpu": pressure.format(1_000_000)})
    watch = monitor.Monitor(root, clock=lambda: clock[0])
    (root / "proc/pressure/cpu").write_text(pressure.format(1_250_000))
    clock[0] += 1.0
    assert watch.look().cpu_stalled_percent == 25.0


def test_two_samples_at_once_share_one_result() -> None:
    watch = monitor.Monitor()
    spin(0.1)
    first = watch.look()
    assert watch.look().cpu_percent == first.cpu_percent
    watch.close()
