"""A real quota of CPU time is detected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from saywell.machine.cgroup import own_group

PERIOD_US = 100_000
"""The period that container engines use."""
LOOK = """
import json, os, sys
from pathlib import Path
from saywell.machine import detect
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
hardware = detect()
print(json.dumps([hardware.limits.quota, hardware.usable_cpus]))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with one and a half CPUs."""
    parent = own_group("cpu")
    if parent is None:
        pytest.skip("no control groups here")
    group = parent / f"saywell-test-quota-{os.getpid()}"
    try:
        group.mkdir()
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{PERIOD_US * 3 // 2} {PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(PERIOD_US * 3 // 2))
    except OSError:
        if group.is_dir():
            group.rmdir()
        pytest.skip("no control group with a quota can be made here")
    yield group
    group.rmdir()


def test_cpu_quota_is_detected(group: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK, str(group)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1.5, 1]
