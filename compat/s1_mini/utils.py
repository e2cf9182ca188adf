"""GPU memory, without loading torch."""

from __future__ import annotations

import sys
from importlib import import_module, util
from typing import TypedDict


class VramInfo(TypedDict):
    """Memory of the first NVIDIA GPU in GiB; all zero without one."""

    available: bool
    used_gb: float
    free_gb: float
    total_gb: float
    utilization: float
    """Share in use, 0 to 1."""


def get_vram_info() -> VramInfo:
    used, total = _memory()
    return {
        "available": total > 0,
        "used_gb": round(used / 2**30, 2),
        "free_gb": round((total - used) / 2**30, 2),
        "total_gb": round(total / 2**30, 2),
        "utilization": round(used / total, 4) if total else 0.0,
    }


def _memory() -> tuple[int, int]:
    """(used, total) bytes as reported by the driver."""
    if util.find_spec("pynvml") is None:
        return 0, 0
    nvml = import_module("pynvml")
    try:
        nvml.nvmlInit()
        info = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(0))
    except nvml.NVMLError:
        return 0, 0  # no driver, or no GPU
    return int(info.used), int(info.total)


def empty_cache() -> bool:
    """Make torch release cached GPU memory, if this process uses torch on a GPU. Returns whether it does."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return False
    torch.cuda.empty_cache()
    return True
