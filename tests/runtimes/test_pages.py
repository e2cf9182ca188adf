"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KEPT = """
import sys
import numpy as np
from pathlib import Path
from saywell.runtimes import onnx

def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 >> 20

onnx.package()
first = np.ones(1 << 19)
del first  # from here on glibc would put blocks of 4 MB on the heap
blocks, pins = [], []
for _ in range(32):
    blocks.append(np.ones(1 << 19))
    pins.append(bytearray(100_000))  # the heap cannot shrink below these
held = resident_mb()
del blocks
print(held - resident_mb())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process on Linux only")
def test_large_blocks_return_to_the_system_when_they_are_freed() -> None:
    freed = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    assert int(freed.stdout) > 100  # of 128
