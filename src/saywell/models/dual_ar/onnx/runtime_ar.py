"""Both transformers at run time: prompts in, frames out, any number of sequences in one step.

`prefill` begins a sequence, `step` gives each of a batch its next frame, `release` ends it, in any order between steps.
What a sequence is given depends on its prompt, its sampling and its seed alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.errors import TooLarge, Unavailable
from saywell.files import Damaged, read_plain
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.errors import BadCheckpoint
from saywell.models.dual_ar.numerics import from_bfloat16
from saywell.models.dual_ar.onnx.ar_files import (
    CODES_FILE,
    EMBEDDINGS_FILE,
    FACTS_FILE,
    fast_file,
    scales_file,
    slow_file,
)
from saywell.models.dual_ar.onnx.kv_cache import KvCache, Prefix
from saywell.models.dual_ar.sampling import PENALTY_FRAMES, TEMPERATURE_FLOOR, Sampling, uniforms
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Binding, Graph

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

CHUNK = 128
"""Positions of a prompt that go through the graph at once: more would cost memory, and time too, for attention with an
int8 cache computes all pairs of a chunk, later ones included."""
BROKEN = -1
"""Token of a frame whose logits were not finite."""
_MOST_FACTS = 1 << 20
_PAIRED = frozenset({"int4"})
"""Precisions whose kernel computes rows in pairs, an odd last one differently: their batches are filled up to even."""


@dataclass(slots=True, eq=False)
class Running:
    """One sequence. Belongs to the runtime that made it."""

    row: int
    sampling: Sampling
    length: int = 0
    """Positions in the cache."""
    frame: int = 0
    recent: list[Codes] = field(default_factory=list)
    """Codes of the last frames, oldest first."""
    ready: tuple[Floats, Floats] | None = None
    """Logits and hidden state of the prompt's end, until the first frame is drawn from them."""


class Tables:
    """Embeddings, left on disk: rows are read as they are needed."""

    def __init__(self, path: Path, config: Config, begin: int) -> None:
        self._text = _array(path / EMBEDDINGS_FILE, mapped=True)
        self._codes = _array(path / CODES_FILE, mapped=True)
        self._begin, self._end = begin, begin + config.codebook_size
        self._books = np.arange(config.num_codebooks) * config.codebook_size
        self._scale = np.float32((config.num_codebooks + 1) ** -0.5) if config.scale_codebook_embeddings else None

    def embed(self, columns: Codes) -> Floats:
        """columns [1 + num_codebooks, T] → [T, dim]; codes count at semantic positions only."""
        x = from_bfloat16(self._text[columns[0]])
        at = np.flatnonzero((columns[0] >= self._begin) & (columns[0] < self._end))
        if len(at):
            rows = columns[1:, at] + self._books[:, None]
            x[at] += from_bfloat16(self._codes[rows]).sum(axis=0)
            if self._scale is not None:
                x[at] *= self._scale
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
        """`cache`: element type of keys and values, "int8" or "fp32". `activation_bits`: in products of int8 weights,
        8 only where the processor adds them exactly. Raises GraphError, BadConfig."""
        self.config = Config.read(path)
        self.begin, self.im_end = _ids(path / FACTS_FILE)
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
        """Seconds spent so far in steps of each transformer."""

    @property
    def free(self) -> int:
        """Sequences that may still be begun."""
        return self.slots - sum(each is not None for each in self._rows)

    def prefill(self, prompt: Codes, sampling: Sampling, prefix: Prefix | None = None) -> Running:
        """Begin a sequence: prompt [1 + num_codebooks, T] after the positions of `prefix`.

        Raises Unavailable when every slot is taken and TooLarge when the prompt leaves no room for a frame.
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
        """The cache of a prompt's beginning (a voice), for `prefill`. Takes a slot for the time of the call."""
        running = self.prefill(prompt, Sampling())
        try:
            return self.cache.copy(running.row, running.length)
        finally:
            self.release(running)

    def room(self, running: Running) -> int:
        """Frames that still fit."""
        return self.max_len - running.length - (running.frame > 0)

    def step(self, batch: Sequence[Running]) -> Codes:
        """The next frame of each, [len(batch), 1 + num_codebooks]: token, then codes.

        A frame whose token is `im_end` ends its sequence and carries no codes; one whose token is `BROKEN` came from
        logits that were not finite. Neither may be stepped again.
        """
        if not batch:
            return np.empty((0, 1 + self.config.num_codebooks), np.int64)
        self._close_gaps()
        count = max(each.row for each in batch) + 1
        count += count % 2 if self._pairs else 0
        b = self._buffers
        self._advance([each for each in batch if each.ready is None], count)
        for each in batch:
            if each.ready is not None:
                b.logits[each.row], b.hidden[each.row] = each.ready
        rows = [each.row for each in batch]
        fine = b.finite(count)
        for each in batch:
            b.ask(each, self.config.num_codebooks)
        self._draw(count)
        return self._frames(batch, b.codes[rows], fine[rows])

    def release(self, running: Running) -> None:
        """Forget a sequence."""
        self.cache.clear(running.row)
        self._rows[running.row] = None

    def _read(self, running: Running, columns: Codes) -> tuple[Floats, Floats]:
        """Let the slow transformer read columns [1 + num_codebooks, T]; logits and hidden state of the last."""
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
        """One slow step for each, on its last frame. Rows between that are not asked write where nobody reads yet."""
        if not batch:
            return
        b = self._buffers
        columns = np.stack([_column(each, self.begin) for each in batch], axis=1)
        b.x[[each.row for each in batch], 0] = self.tables.embed(columns)
        for row, running in enumerate(self._rows):
            b.lens[row] = running.length if running else 0
        b.total[...] = b.lens[:count].max() + 1
        if count not in self._slow_bound:
            given = {"x": b.x[:count], "lens": b.lens[:count], "total": b.total}
            self._slow_bound[count] = self._bind_slow(given, b.logits[:count], b.hidden[:count], 0, count)
        start = time.perf_counter()
        self._slow_bound[count].run()
        self.slow_s += time.perf_counter() - start
        for each in batch:
            each.length += 1

    def _bind_slow(self, given: dict[str, Any], logits: Floats, hidden: Floats, first: int, last: int) -> Binding:
        inputs, outputs = {**given, **self._scales}, {"logits": logits, "hidden": hidden}
        for index in range(self.cache.data.shape[0]):
            part = self.cache.part(index, first, last)
            name = f"{'kv'[index % 2]}.{index // 2}"
            inputs[f"past.{name}"] = outputs[f"present.{name}"] = part
        return self._graphs[0].bind(inputs, outputs)

    def _draw(self, count: int) -> None:
        if count not in self._fast_bound:
            inputs, outputs = self._buffers.of_fast(count)
            self._fast_bound[count] = self._graphs[1].bind(inputs, outputs)
        start = time.perf_counter()
        self._fast_bound[count].run()
        self.fast_s += time.perf_counter() - start

    def _frames(self, batch: Sequence[Running], codes: Codes, fine: npt.NDArray[np.bool_]) -> Codes:
        ended = codes[:, 0] == self.config.codebook_size
        tokens = np.where(ended, self.im_end, self.begin + codes[:, 0])
        for each, row in zip(batch, codes, strict=True):
            each.ready = None
            each.frame += 1
            each.recent = [*each.recent[1 - PENALTY_FRAMES :], row]
        frames = np.concatenate([np.where(fine, tokens, BROKEN)[:, None], codes], axis=1)
        frames[ended, 1:] = 0
        return frames

    def _close_gaps(self) -> None:
        """Move the last rows into free ones before them: a batch is the first rows, and each costs time."""
        taken = [each for each in self._rows if each is not None]
        for running in reversed(taken):
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
    """A file of NumPy's. Raises BadCheckpoint."""
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None)
    except (OSError, ValueError, EOFError) as error:
        raise BadCheckpoint(f"{path} is missing or damaged; run `saywell convert` again") from error
    return found


def _ids(path: Path) -> tuple[int, int]:
    """The ids of the first semantic token and of the end. Raises BadCheckpoint."""
    try:
        facts = json.loads(read_plain(path, _MOST_FACTS, links=True))
        return int(facts["semantic_begin_id"]), int(facts["im_end_id"])
    except (OSError, Damaged, ValueError, KeyError, TypeError) as error:
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
    """What the graphs read and write at every step, a row for each sequence."""

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
        """Which rows have numbers to draw from; the others are given some, whose codes mean nothing."""
        logits, hidden = self.logits[:count], self.hidden[:count]
        fine = np.asarray(np.isfinite(logits).all(axis=1) & np.isfinite(hidden).all(axis=1))
        logits[~fine], hidden[~fine] = 0, 0
        return fine

    def of_fast(self, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
        names = ("logits", "hidden", "recent", "uniforms", "temperature", "top_p", "penalty", "again")
        return {name: getattr(self, name)[:count] for name in names}, {"codes": self.codes[:count]}

    def ask(self, running: Running, books: int) -> None:
        """Write how this sequence's next frame is drawn, the way `graphs_draw.Given` says."""
        s, row = running.sampling, running.row
        greedy = s.temperature == 0
        self.uniforms[row] = uniforms(s.seed, running.frame, books + 1)
        self.temperature[row] = 1.0 if greedy else max(s.temperature, TEMPERATURE_FLOOR)
        self.top_p[row] = 0.0 if greedy else (s.top_p if s.top_p < 1 else 2.0)
        heard = running.recent
        self.penalty[row] = s.repetition_penalty if heard else 1.0
        self.again[row] = bool(heard) and s.repetition_aware and not greedy
        if heard:
            filled = [heard[0]] * (PENALTY_FRAMES - len(heard)) + heard
            self.recent[row] = np.array(filled).T
