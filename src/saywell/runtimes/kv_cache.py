"""Keys and values of every running sequence, in memory that is committed page by page on the first write."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_HEADROOM = 1.25
"""Factor on the largest value measured for a scale; larger values are clipped."""


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Keys and values of a prompt's first positions, shared by the sequences that start with them."""

    data: Array
    """[2 · layer, kv head, length, head_dim]."""

    @property
    def length(self) -> int:
        return int(self.data.shape[2])

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)


class KvCache:
    """[2 · layer, row, kv head, position, head_dim]: the keys of a layer, then its values.

    A batch is always the first rows, because its rows must be contiguous. The whole cache is reserved address space:
    a page is committed when a position on it is written, and `clear` returns it to the system.
    """

    def __init__(self, layers: int, rows: int, heads: int, positions: int, size: int, dtype: npt.DTypeLike) -> None:
        bytes_each = size * np.dtype(dtype).itemsize
        positions += -positions % (
            mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, bytes_each)
        )  # rows begin on page boundaries
        shape = (2 * layers, rows, heads, positions, size)
        count = math.prod(shape)
        self._memory = _reserve(count * np.dtype(dtype).itemsize)
        self.data: Array = np.frombuffer(self._memory, dtype=dtype, count=count).reshape(shape)

    def part(self, index: int, first: int, last: int) -> Array:
        """Rows first … last − 1 of one layer's keys (index 2 · layer) or values (2 · layer + 1), in place."""
        return self.data[index, first:last]

    def copy(self, row: int, length: int) -> Prefix:
        return Prefix(self.data[:, row, :, :length].copy())

    def load(self, row: int, prefix: Prefix) -> None:
        self.data[:, row, :, : prefix.length] = prefix.data

    def move(self, source: int, target: int, length: int) -> None:
        self.data[:, target, :, :length] = self.data[:, source, :, :length]
        self.clear(source)

    def scales(self, used: Iterable[tuple[int, int]]) -> npt.NDArray[np.float32]:
        """Scales of an int8 cache of such sequences, [2 · layer, kv head, head_dim]. `used`: rows and their lengths, of
        a float cache. One for each channel of each layer, so that no sequence depends on another."""
        largest = [np.abs(self.data[:, row, :, :length]).max(axis=2) for row, length in used]
        return np.asarray(np.maximum(np.max(largest, axis=0) * (_HEADROOM / 127), 1e-6), np.float32)

    def clear(self, row: int) -> None:
        """Return the memory of a row to the system."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        one = self.data[0, 0].nbytes
        for index in range(self.data.shape[0]):
            start = (index * self.data.shape[1] + row) * one
            self._memory.madvise(mmap.MADV_DONTNEED, start, one)


def _reserve(size: int) -> mmap.mmap:
    if hasattr(mmap, "MAP_PRIVATE") and hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)
