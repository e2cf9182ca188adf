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
from saywell.models.dual_ar.sampling import PENALTY_FRAMES, TEMPERATURE_FLOOR, Sampling
from saywell.runtimes.base import Threading
from saywell.runtimes.decoder import Decoder, Row
from saywell.runtimes.draws import uniforms
from saywell.runtimes.kv_cache import KvCache, Prefix
from saywell.runtimes.onnx import Binding, Graph

BROKEN = -1
"""Token of a frame whose logits were not finite."""
_MAX_FACTS_BYTES = 1 << 20
_PAIRED = frozenset({"int4"})
"""Precisions whose kernel computes rows in pairs and an odd last row differently: their batches are padded to even."""


@dataclass(slots=True, eq=False, kw_only=True)
class Running(Row):
    """State of one sequence, valid in the runtime that returned it."""

    sampling: Sampling
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
        self._slow = Decoder(
            path / slow_file(precision, cache, activation_bits),
            threading,
            rows=slots,
            positions=self.max_len,
            scales=_scales(path / scales_file(precision), self.config) if cache == "int8" else None,
            pairs=precision in _PAIRED,
        )
        self._fast = Graph(path / fast_file(precision, activation_bits), threading)
        self._fast_bound: dict[int, Binding] = {}
        self._buffers = _Buffers(self.config, self._slow.rows)
        self._running = 0
        self.fast_s = 0.0
        """Seconds spent in steps of the fast transformer since loading."""

    @property
    def slow_s(self) -> float:
        """Seconds spent in steps of the slow transformer since loading."""
        return self._slow.seconds

    @property
    def cache(self) -> KvCache:
        return self._slow.cache

    @property
    def free(self) -> int:
        """Slots without a sequence."""
        return self.slots - self._running

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
        running = Running(sampling=sampling)
        last = self._slow.start(running, self.tables.embed(prompt), prefix)
        running.ready = last["logits"], last["hidden"]
        self._running += 1
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
        count = self._slow.gather(batch)
        going = [running for running in batch if running.ready is None]
        if going:
            columns = np.stack([_column(running, self.begin) for running in going], axis=1)
            self._slow.step(going, self.tables.embed(columns), count)
        logits, hidden = (self._slow.outputs[name][:count] for name in ("logits", "hidden"))
        for running in batch:
            if running.ready is not None:
                logits[running.row], hidden[running.row] = running.ready
            self._buffers.set_sampling(running, self.config.num_codebooks)
        finite = _finite(logits, hidden)
        self._run_fast(count)
        rows = [running.row for running in batch]
        return self._frames(batch, self._buffers.codes[rows], finite[rows])

    def release(self, running: Running) -> None:
        """Free the sequence's row."""
        self._slow.release(running)
        self._running -= 1

    def _run_fast(self, count: int) -> None:
        if count not in self._fast_bound:
            every = {**self._slow.outputs, **self._buffers.sampling()}
            inputs = {name: array[:count] for name, array in every.items()}
            self._fast_bound[count] = self._fast.bind(inputs, {"codes": self._buffers.codes[:count]})
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


def _scales(path: Path, config: Config) -> Floats:
    """Of an int8 cache, [2 · layer, kv head, head_dim]."""
    return _array(path).reshape(2 * config.n_layer, config.n_local_heads, config.head_dim)


def _finite(logits: Floats, hidden: Floats) -> npt.NDArray[np.bool_]:
    """Which rows are finite; the others are zeroed, and the codes sampled from them are meaningless."""
    finite = np.asarray(np.isfinite(logits).all(axis=1) & np.isfinite(hidden).all(axis=1))
    logits[~finite], hidden[~finite] = 0, 0
    return finite


class _Buffers:
    """Sampling inputs and outputs of the fast graph at every step, a row for each sequence."""

    def __init__(self, config: Config, rows: int) -> None:
        books = config.num_codebooks
        self.recent = np.zeros((rows, books, PENALTY_FRAMES), np.int64)
        self.uniforms = np.zeros((rows, books + 1), np.float64)
        self.temperature, self.top_p, self.penalty = (np.ones((rows, 1), np.float64) for _ in range(3))
        self.again = np.zeros(rows, np.bool_)
        self.codes = np.zeros((rows, books), np.int64)

    def sampling(self) -> dict[str, npt.NDArray[Any]]:
        """The inputs by name."""
        names = ("recent", "uniforms", "temperature", "top_p", "penalty", "again")
        return {name: getattr(self, name) for name in names}

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
