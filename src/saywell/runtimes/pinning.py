"""Ties the calling thread to some CPUs. On Linux the threads it starts from then on are tied to them, too."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

_log = logging.getLogger(__name__)
_GROUP = 64
"""CPUs of one of Windows' processor groups; a thread starts in the first one."""


def pin(cpus: tuple[int, ...]) -> bool:
    """Whether the system did it; none are nothing to do. A system that forbids it is told of in the log, no more."""
    if not cpus:
        return False
    try:
        _tie(cpus)
    except OSError as error:
        _log.warning("threads go where the system puts them, not to the CPUs %s: %s", cpus, error.strerror or error)
        return False
    return True


if sys.platform == "win32":

    def _tie(cpus: tuple[int, ...]) -> None:
        if max(cpus) >= _GROUP:
            raise OSError(f"Windows ties threads to the first {_GROUP} CPUs only")
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetCurrentThread.restype = ctypes.c_void_p
        kernel.SetThreadAffinityMask.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        kernel.SetThreadAffinityMask.restype = ctypes.c_size_t
        if not kernel.SetThreadAffinityMask(kernel.GetCurrentThread(), sum(1 << cpu for cpu in set(cpus))):
            raise ctypes.WinError(ctypes.get_last_error())

elif sys.platform == "linux":

    def _tie(cpus: tuple[int, ...]) -> None:
        os.sched_setaffinity(0, cpus)  # 0 is the calling thread, not its process

else:

    def _tie(_cpus: tuple[int, ...]) -> None:
        raise OSError("this system lets no program pin its threads")
