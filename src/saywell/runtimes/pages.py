"""Memory of this process (Linux): weights on huge pages, for fewer TLB misses; freed blocks back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HUGE = 2 << 20
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_MAPS = Path("/proc/self/maps")
_M_MMAP_THRESHOLD, _LARGE = -3, 1 << 20
Range = tuple[int, int]


def keep_no_large_blocks() -> None:
    """From now on blocks of a megabyte and more return to the system when they are freed.

    By default glibc keeps blocks of up to 32 MB, in one heap per thread: 80 MB behind the runs of Kokoro's graphs.
    """
    _glibc("mallopt", _M_MMAP_THRESHOLD, _LARGE)


def trim_heap() -> None:
    """Return freed memory that the allocator keeps to the system."""
    gc.collect()
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    """musl, which lacks these, keeps little anyway."""
    call = getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
    if call is not None:
        call(*arguments)


@contextmanager
def huge_pages() -> Iterator[None]:
    """Move private memory allocated inside the block to huge pages, as far as the kernel allows. Never raises."""
    before = _private() if sys.platform == "linux" else []
    yield
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in new_ranges(before, _private()):
        start, end = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if start < end:
            # Hints: a kernel that does not support them refuses, without effect.
            madvise(start, end - start, _MADV_HUGEPAGE)
            madvise(start, end - start, _MADV_COLLAPSE)


def new_ranges(before: list[Range], after: list[Range]) -> list[Range]:
    """The parts of `after` that `before` does not cover; both ascending and without overlaps."""
    found = []
    for start, end in after:
        for taken_start, taken_end in before:
            if taken_end <= start or taken_start >= end:
                continue
            if taken_start > start:
                found.append((start, taken_start))
            start = max(start, taken_end)
        if start < end:
            found.append((start, end))
    return found


def _private() -> list[Range]:
    """Writable memory of this process without a backing file."""
    found = []
    for line in _MAPS.read_text(encoding="utf-8").splitlines():
        span, rights, _, _, inode = line.split()[:5]
        if rights.startswith("rw") and rights.endswith("p") and inode == "0":
            start, _, end = span.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found
