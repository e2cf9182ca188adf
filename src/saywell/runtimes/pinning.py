"""Pins the calling thread to CPUs. On Linux, threads that it starts afterwards inherit the pinning."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

_log = logging.getLogger(__name__)
_GROUP = 64
"""CPUs of a Windows processor group; a thread starts in the first group."""


def pin(cpus: tuple[int, ...]) -> bool:
    """Pin the calling thread. Returns False for an empty tuple or if the OS refuses (logged as a warning)."""
    if not cpus:
        return False
    try:
        _set_affinity(cpus)
    except OSError as error:
        _log.warning("threads are not pinned to the CPUs %s: %s", cpus, error.strerror or error)
        return False
    return True


if sys.platform == "win32":

    def _set_affinity(cpus: tuple[int, ...]) -> None:
        if max(cpus) >= _GROUP:
            raise OSError(f"on Windows threads can be pinned to the first {_GROUP} CPUs only")
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetCurrentThread.restype = ctypes.c_void_p
        kernel.SetThreadAffinityMask.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        kernel.SetThreadAffinityMask.restype = ctypes.c_size_t
        if not kernel.SetThreadAffinityMask(kernel.GetCurrentThread(), sum(1 << cpu for cpu in set(cpus))):
            raise ctypes.WinError(ctypes.get_last_error())

elif sys.platform == "linux":

    def _set_affinity(cpus: tuple[int, ...]) -> None:
        os.sched_setaffinity(0, cpus)  # 0 is the calling thread, not its process

else:

    def _set_affinity(_cpus: tuple[int, ...]) -> None:
        raise OSError("this operating system does not support pinning threads")
