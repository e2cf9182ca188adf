"""A transformer whose graph updates its KV cache in place: prompts in parts, then steps of any number of sequences.

The graph's inputs are `x` [B, S, dim], `lens` [B] (position of the newest key), `total` (longest of them, plus 1) and
`past.k.N`, `past.v.N`; its outputs are rows [B, …] for the last position and `present.…`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.runtimes.base import Threading
from saywell.runtimes.kv_cache import KvCache, Prefix
from saywell.runtimes.onnx import Binding, Graph

Floats = npt.NDArray[np.float32]

CHUNK = 128
"""Positions of a prompt that one run of the graph reads. More would cost memory, and also time: attention with an int8
cache computes all pairs of a chunk, masked ones included."""


@dataclass(slots=True, eq=False, kw_only=True)
class Row:
    """A sequence in the cache. Valid in the decoder that started it."""

    row: int = -1
    """Of the cache; it changes while other sequences end."""
    length: int = 0
    """Positions in the cache."""


class Decoder:
    """A loaded graph with room for `rows` sequences of `positions` positions."""

    def __init__(
        self,
        path: Path,
        threading: Threading,
        *,
        rows: int,
        positions: int,
        scales: Floats | None = None,
        pairs: bool = False,
    ) -> None:
        """`scales` of an int8 cache: [2 · layer, kv head, head_dim]. `pairs`: the graph's kernels compute rows in pairs
        and an odd last row differently, so that batches are padded to even. Raises GraphError."""
        self.graph = Graph(path, threading)
        _, heads, _, size = self.graph.shapes["past.k.0"]
        layers = sum(name.startswith("past.k.") for name in self.graph.inputs)
        self._pairs = pairs and rows > 1
        rows += rows % 2 if self._pairs else 0
        self.cache = KvCache(layers, rows, int(heads), positions, int(size), self.graph.inputs["past.k.0"])
        self._scales = {} if scales is None else _by_name(scales)
        self._rows: list[Row | None] = [None] * rows
        self._x = np.zeros((rows, 1, int(self.graph.shapes["x"][2])), np.float32)
        self._lens, self._total = np.zeros(rows, np.int32), np.zeros((), np.int32)
        widths = {name: int(self.graph.shapes[name][1]) for name in self.graph.outputs if not _of_cache(name)}
        self.outputs = {name: np.zeros((rows, width), np.float32) for name, width in widths.items()}
        """Of the last step, by cache row."""
        self._bound: dict[int, Binding] = {}
        self.seconds = 0.0
        """Spent in steps since loading."""

    @property
    def rows(self) -> int:
        """Of the cache."""
        return len(self._rows)

    def start(self, owner: Row, x: Floats, prefix: Prefix | None = None) -> dict[str, Floats]:
        """Give `owner` a free row (there must be one) and read x [T, dim] after the positions of `prefix`.

        Returns the outputs of the last position.
        """
        owner.row, owner.length = self._rows.index(None), 0
        if prefix:
            self.cache.load(owner.row, prefix)
            owner.length = prefix.length
        last: dict[str, Floats] = {}
        for first in range(0, len(x), CHUNK):
            last = self._read(owner, x[first : first + CHUNK])
        self._rows[owner.row] = owner
        return last

    def prefix(self, x: Floats) -> Prefix:
        """Keys and values of x [T, dim], for `start`. Uses a row during the call."""
        owner = Row()
        self.start(owner, x)
        try:
            return self.cache.copy(owner.row, owner.length)
        finally:
            self.release(owner)

    def gather(self, owners: Sequence[Row]) -> int:
        """Make the rows of all sequences the first ones; returns how many a step of `owners` runs."""
        for owner in reversed([owner for owner in self._rows if owner is not None]):
            free = self._rows.index(None) if None in self._rows else len(self._rows)
            if free > owner.row:
                break
            self.cache.move(owner.row, free, owner.length)
            self._rows[owner.row], self._rows[free] = None, owner
            owner.row = free
        count = max(owner.row for owner in owners) + 1
        return count + (count % 2 if self._pairs else 0)

    def step(self, owners: Sequence[Row], x: Floats, count: int) -> None:
        """Read x [len(owners), dim], a position of each, into `outputs`. `count`: from `gather`.

        Other rows among the first `count` also run; they write past their length, which is ignored.
        """
        self._x[[owner.row for owner in owners], 0] = x
        self._lens[:] = [owner.length if owner else 0 for owner in self._rows]
        self._total[...] = self._lens[:count].max() + 1
        if count not in self._bound:
            inputs = {"x": self._x[:count], "lens": self._lens[:count], "total": self._total}
            outputs = {name: array[:count] for name, array in self.outputs.items()}
            self._bound[count] = self._bind(inputs, outputs, 0, count)
        start = time.perf_counter()
        self._bound[count].run()
        self.seconds += time.perf_counter() - start
        for owner in owners:
            owner.length += 1

    def release(self, owner: Row) -> None:
        """Free the row."""
        self.cache.clear(owner.row)
        self._rows[owner.row] = None

    def _read(self, owner: Row, x: Floats) -> dict[str, Floats]:
        last = owner.length + len(x) - 1
        outputs = {name: np.empty((1, array.shape[1]), np.float32) for name, array in self.outputs.items()}
        inputs = {
            "x": np.ascontiguousarray(x[None]),
            "lens": np.array([last], np.int32),
            "total": np.array(last + 1, np.int32),
        }
        self._bind(inputs, outputs, owner.row, owner.row + 1).run()
        owner.length = last + 1
        return {name: array[0] for name, array in outputs.items()}

    def _bind(self, inputs: dict[str, Any], outputs: dict[str, Any], first: int, last: int) -> Binding:
        inputs, outputs = {**inputs, **self._scales}, dict(outputs)
        for index in range(self.cache.data.shape[0]):
            part = self.cache.part(index, first, last)
            name = f"{'kv'[index % 2]}.{index // 2}"
            inputs[f"past.{name}"] = outputs[f"present.{name}"] = part
        return self.graph.bind(inputs, outputs)


def _of_cache(name: str) -> bool:
    return name.startswith("present.")


def _by_name(scales: Floats) -> dict[str, Floats]:
    """Scales by input name, each [1, kv head, 1, head_dim]."""
    return {
        f"scale.{'kv'[index % 2]}.{index // 2}": np.ascontiguousarray(part[None, :, None])
        for index, part in enumerate(scales)
    }
