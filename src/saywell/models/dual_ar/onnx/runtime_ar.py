"""Both transformers at run time: prompts in, frames out, any number of sequences in one step.

`prefill` starts a sequence, `step` computes the next frame of each sequence of a batch, `release` frees its row.
Sequences may start and end between any two steps. A sequence's frames depend on its prompt, its sampling parameters and
its seed alone, never on the batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from saywell.errors import BadCheckpoint, TooLarge, Unavailable
from saywell.files import Damaged, read_plain
from saywell.graphs.numerics import Codes, Floats, from_bfloat16
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.onnx.ar_files import (
    CODES_FILE,
    EMBEDDINGS_FILE,
    FACTS_FILE,
    fast_file,
    scales_file,
    slow_file,
)
from saywell.models.dual_ar.sampling import PENALTY_FRAMES, TEMPERATURE_FLOOR, Sampling, uniforms
from saywell.runtimes.base import Threading
from saywell.runtimes.kv_cache import KvCache, Prefix
from saywell.runtimes.onnx import Binding, Graph

CHUNK = 128
"""Positions of a prompt that one run of the graph reads. More would cost memory, and also time: attention with an int8
cache computes all pairs of a chunk, masked ones included."""
BROKEN = -1
"""Token of a frame whose logits were not finite."""
_MAX_FACTS_BYTES = 1 << 20
_PAIRED = frozenset({"int4"})
"""Precisions whose kernel computes rows in pairs and an odd last row differently: their batches are padded to even."""


@dataclass(slots=True, eq=False)
class Running:
    """State of one sequence, valid in the runtime that returned it."""

    row: int
    sampling: Sampling
    length: int = 0
    """Positions in the cache."""
    frame: int = 0
    recent: list[Codes] = field(default_factory=list)
    """Codes of the last frames, oldest first."""
    ready: tuple[Floats, Floats] | None = None
    """Logits and hidden state at the end of the prompt, until the first frame is sampled from them."""


class Tables:
    """Embedding tables, mapped from disk: only the rows in use are read."""

    def __init__(self, path: Path, config: Config, begin: int) -> None:
        self._text = _array(path / EMBEDDINGS_FILE, mapped=True)
        self._codes = _array(path / CODES_FILE, mapped=True)
        self._begin, self._end = begin, begin + config.codebook_size
        self._books = np.arange(config.num_codebooks) * config.codebook_size
        self._scale = np.float32((config.num_codebooks + 1) ** -0.5) if config.scale_codebook_embeddings else None

    def embed(self, columns: Codes) -> Floats:
        """columns [1 + num_codebooks, T] → [T, dim]; codes are added at semantic positions only."""
        x = from_bfloat16(self._text[columns[0]])
        semantic = np.flatnonzero((columns[0] >= self._begin) & (columns[0] < self._end))
        rows = columns[1:, semantic] + self._books[:, None]
        x[semantic] += from_bfloat16(self._codes[rows]).sum(axis=0)
        if self._scale is not None:
            x[semantic] *= self._scale
        return x


class ArRuntime:
    """Loaded transformers with room for `slots` sequences of `max_len` positions (prompt and frames together)."""

    def __init__(
        self,
        path: Path,
        precision: str,
        threading: Threading,
        *,
        slots: int,
        max_len: int,
        cache: str = "int8",
        activation_bits: int = 7,
    ) -> None:
        """`cache`: element type of keys and values, "int8" or "fp32". `activation_bits`: in products of int8 weights;
        8 only on processors with exact int8 sums. Raises GraphError, BadConfig, BadCheckpoint."""
        self.config = Config.read(path)
        ids = _ids(path / FACTS_FILE)
        self.begin, self.im_end = ids.semantic_begin_id, ids.im_end_id
        self.slots, self.max_len = slots, min(max_len, self.config.max_seq_len)
        self.tables = Tables(path, self.config, self.begin)
        self._graphs = (
            Graph(path / slow_file(precision, cache, activation_bits), threading),
            Graph(path / fast_file(precision, activation_bits), threading),
        )
        self._slow_bound: dict[int, Binding] = {}
        self._fast_bound: dict[int, Binding] = {}
        self._pairs = precision in _PAIRED and slots > 1
        rows = slots + slots % 2 if self._pairs else slots
        c = self.config
        self.cache = KvCache(
            c.n_layer, rows, c.n_local_heads, self.max_len, c.head_dim, np.int8 if cache == "int8" else np.float32
        )
        self._scales = _scales(path / scales_file(precision), c) if cache == "int8" else {}
        self._rows: list[Running | None] = [None] * rows
        self._buffers = _Buffers(c, rows)
        self.slow_s = self.fast_s = 0.0
        """Seconds spent in steps of each transformer since loading."""

    @property
    def free(self) -> int:
        """Slots without a sequence."""
        return self.slots - sum(running is not None for running in self._rows)

    def prefill(self, prompt: Codes, sampling: Sampling, prefix: Prefix | None = None) -> Running:
        """Start a sequence: prompt [1 + num_codebooks, T] after the positions of `prefix`.

        Raises Unavailable if every slot is taken, TooLarge if the prompt leaves no room for a frame.
        """
        start = prefix.length if prefix else 0
        if start + prompt.shape[1] >= self.max_len:
            message = f"the prompt (reference and text) takes all of the {self.max_len} positions a sequence has"
            raise TooLarge(message, param="text")
        if not self.free:
            raise Unavailable(f"all {self.slots} slots are taken")
        running = Running(self._rows.index(None), sampling, start)
        if prefix:
            self.cache.load(running.row, prefix)
        for first in range(0, prompt.shape[1], CHUNK):
            running.ready = self._read(running, prompt[:, first : first + CHUNK])
        self._rows[running.row] = running
        return running

    def prefix(self, prompt: Codes) -> Prefix:
        """Keys and values of the first part of a prompt (a voice), for `prefill`. Uses a slot during the call."""
        running = self.prefill(prompt, Sampling())
        try:
            return self.cache.copy(running.row, running.length)
        finally:
            self.release(running)

    def room(self, running: Running) -> int:
        """Frames that fit into the sequence's remaining positions."""
        return self.max_len - running.length - (running.frame > 0)

    def step(self, batch: Sequence[Running]) -> Codes:
        """The next frame of each sequence, [len(batch), 1 + num_codebooks]: token, then codes.

        The token `im_end` ends its sequence, without codes; the token `BROKEN` reports logits that were not finite.
        After either the sequence must not be stepped again.
        """
        if not batch:
            return np.empty((0, 1 + self.config.num_codebooks), np.int64)
        self._close_gaps()
        rows = [running.row for running in batch]
        count = max(rows) + 1
        count += count % 2 if self._pairs else 0
        buffers = self._buffers
        self._advance([running for running in batch if running.ready is None], count)
        for running in batch:
            if running.ready is not None:
                buffers.logits[running.row], buffers.hidden[running.row] = running.ready
        finite = buffers.finite(count)
        for running in batch:
            buffers.set_sampling(running, self.config.num_codebooks)
        self._run_fast(count)
        return self._frames(batch, buffers.codes[rows], finite[rows])

    def release(self, running: Running) -> None:
        """Free the sequence's row."""
        self.cache.clear(running.row)
        self._rows[running.row] = None

    def _read(self, running: Running, columns: Codes) -> tuple[Floats, Floats]:
        """Run the slow transformer on columns [1 + num_codebooks, T]; logits and hidden state of the last position."""
        x = self.tables.embed(columns)[None]
        last = running.length + x.shape[1] - 1
        logits = np.empty((1, self.config.codebook_size + 1), np.float32)
        hidden = np.empty((1, self.config.dim), np.float32)
        lens, total = np.array([last], np.int32), np.array(last + 1, np.int32)
        row = running.row
        self._bind_slow({"x": x, "lens": lens, "total": total}, logits, hidden, row, row + 1).run()
        running.length = last + 1
        return logits[0], hidden[0]

    def _advance(self, batch: list[Running], count: int) -> None:
        """One slow step of each sequence, on its last frame.

        Inactive rows among the first `count` also run; they write past their length, which is ignored.
        """
        if not batch:
            return
        b = self._buffers
        columns = np.stack([_column(running, self.begin) for running in batch], axis=1)
        b.x[[running.row for running in batch], 0] = self.tables.embed(columns)
        b.lens[:] = [running.length if running else 0 for running in self._rows]
        b.total[...] = b.lens[:count].max() + 1
        if count not in self._slow_bound:
            inputs = {"x": b.x[:count], "lens": b.lens[:count], "total": b.total}
            self._slow_bound[count] = self._bind_slow(inputs, b.logits[:count], b.hidden[:count], 0, count)
        start = time.perf_counter()
        self._slow_bound[count].run()
        self.slow_s += time.perf_counter() - start
        for running in batch:
            running.length += 1

    def _bind_slow(self, inputs: dict[str, Any], logits: Floats, hidden: Floats, first: int, last: int) -> Binding:
        inputs, outputs = {**inputs, **self._scales}, {"logits": logits, "hidden": hidden}
        for index in range(self.cache.data.shape[0]):
            part = self.cache.part(index, first, last)
            name = f"{'kv'[index % 2]}.{index // 2}"
            inputs[f"past.{name}"] = outputs[f"present.{name}"] = part
        return self._graphs[0].bind(inputs, outputs)

    def _run_fast(self, count: int) -> None:
        if count not in self._fast_bound:
            inputs, outputs = self._buffers.fast_ports(count)
            self._fast_bound[count] = self._graphs[1].bind(inputs, outputs)
        start = time.perf_counter()
        self._fast_bound[count].run()
        self.fast_s += time.perf_counter() - start

    def _frames(self, batch: Sequence[Running], codes: Codes, finite: npt.NDArray[np.bool_]) -> Codes:
        ended = codes[:, 0] == self.config.codebook_size
        tokens = np.where(ended, self.im_end, self.begin + codes[:, 0])
        for running, row in zip(batch, codes, strict=True):
            running.ready = None
            running.frame += 1
            running.recent = [*running.recent[1 - PENALTY_FRAMES :], row]
        frames = np.concatenate([np.where(finite, tokens, BROKEN)[:, None], codes], axis=1)
        frames[ended, 1:] = 0
        return frames

    def _close_gaps(self) -> None:
        """Move the last rows into free rows before them: a step runs all rows up to its last one."""
        for running in reversed([running for running in self._rows if running is not None]):
            free = self._rows.index(None) if None in self._rows else len(self._rows)
            if free > running.row:
                return
            self.cache.move(running.row, free, running.length)
            self._rows[running.row], self._rows[free] = None, running
            running.row = free


def _column(running: Running, begin: int) -> Codes:
    last = running.recent[-1]
    return np.concatenate([[begin + last[0]], last])


def _array(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """The content of a .npy file. Raises BadCheckpoint."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None)
    except (OSError, ValueError, EOFError) as error:
        raise BadCheckpoint(f"{path} is missing or damaged; run `saywell convert` again") from error
    return array


class _Ids(msgspec.Struct):
    semantic_begin_id: int
    im_end_id: int


def _ids(path: Path) -> _Ids:
    """Raises BadCheckpoint."""
    try:
        return msgspec.json.decode(read_plain(path, _MAX_FACTS_BYTES, links=True), type=_Ids)
    except (OSError, Damaged, ValueError) as error:
        raise BadCheckpoint(f"{path} is missing or damaged; run `saywell convert` again") from error


def _scales(path: Path, config: Config) -> dict[str, Floats]:
    """Scales of an int8 cache by input name, each [1, kv head, 1, head_dim]."""
    table = _array(path)
    shape = (1, config.n_local_heads, 1, config.head_dim)
    return {
        f"scale.{part}.{layer}": np.ascontiguousarray(table[2 * layer + index].reshape(shape))
        for layer in range(config.n_layer)
        for index, part in enumerate("kv")
    }


class _Buffers:
    """Inputs and outputs of the graphs at every step, a row for each sequence."""

    def __init__(self, config: Config, rows: int) -> None:
        books = config.num_codebooks
        self.x = np.zeros((rows, 1, config.dim), np.float32)
        self.lens, self.total = np.zeros(rows, np.int32), np.zeros((), np.int32)
        self.logits = np.zeros((rows, config.codebook_size + 1), np.float32)
        self.hidden = np.zeros((rows, config.dim), np.float32)
        self.recent = np.zeros((rows, books, PENALTY_FRAMES), np.int64)
        self.uniforms = np.zeros((rows, books + 1), np.float64)
        self.temperature, self.top_p, self.penalty = (np.ones((rows, 1), np.float64) for _ in range(3))
        self.again = np.zeros(rows, np.bool_)
        self.codes = np.zeros((rows, books), np.int64)

    def finite(self, count: int) -> npt.NDArray[np.bool_]:
        """Which rows are finite; the others are zeroed, and the codes sampled from them are meaningless."""
        logits, hidden = self.logits[:count], self.hidden[:count]
        finite = np.asarray(np.isfinite(logits).all(axis=1) & np.isfinite(hidden).all(axis=1))
        logits[~finite], hidden[~finite] = 0, 0
        return finite

    def fast_ports(self, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
        names = ("logits", "hidden", "recent", "uniforms", "temperature", "top_p", "penalty", "again")
        return {name: getattr(self, name)[:count] for name in names}, {"codes": self.codes[:count]}

    def set_sampling(self, running: Running, books: int) -> None:
        """Set the inputs for the sequence's next frame; see `graphs.draw.Inputs`."""
        s, row = running.sampling, running.row
        greedy = s.temperature == 0
        self.uniforms[row] = uniforms(s.seed, running.frame, books + 1)
        self.temperature[row] = 1.0 if greedy else max(s.temperature, TEMPERATURE_FLOOR)
        self.top_p[row] = 0.0 if greedy else (s.top_p if s.top_p < 1 else 2.0)
        recent = running.recent
        self.penalty[row] = s.repetition_penalty if recent else 1.0
        self.again[row] = bool(recent) and s.repetition_aware and not greedy
        if recent:
            self.recent[row] = np.array([recent[0]] * (PENALTY_FRAMES - len(recent)) + recent).T
