"""Memory of the KV cache is returned row by row, for any sizes."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from saywell.runtimes.kv_cache import KvCache


@pytest.mark.parametrize("size", [16, 40, 48, 64, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_clearing_a_row_leaves_the_others(size: int, dtype: type[np.generic]) -> None:
    cache = KvCache(layers=2, rows=3, heads=2, positions=100, size=size, dtype=dtype)
    assert cache.data.shape[3] >= 100
    cache.data[...] = 1
    cache.clear(1)
    assert (cache.data[:, (0, 2)] == 1).all()
    if hasattr(mmap, "MADV_DONTNEED"):
        assert not cache.data[:, 1].any()


@pytest.mark.parametrize("page", [4096, 16384, 65536])
@pytest.mark.parametrize("size", [48, 64])
def test_rows_begin_on_page_boundaries(page: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have 16 KB on Apple and 64 KB on some ARM kernels; a row that begins inside a page cannot be returned."""
    monkeypatch.setattr(mmap, "PAGESIZE", page)
    cache = KvCache(layers=2, rows=3, heads=2, positions=100, size=size, dtype=np.int8)
    assert cache.data[0, 0].nbytes % page == 0
