"""T3 at run time: a voice and text in, speech tokens out, any number of sequences in one step.

`prefill` starts a sequence, `step` draws the next token of each sequence of a batch, `release` frees its rows.
Sequences may start and end between any two steps. A sequence's tokens depend on its prompt, its sampling parameters and
its seed alone, never on the batch. With guidance a sequence has two rows of the cache, the second without the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saywell.errors import BadCheckpoint, TooLarge, Unavailable
from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.t3.conditioning import Ids, Tables
from saywell.models.chatterbox.t3.files import graph_file, read_config, scales_file
from saywell.models.chatterbox.t3.sampling import Sampling, draw, guided
from saywell.runtimes.base import Threading
from saywell.runtimes.decoder import Decoder, Row
from saywell.runtimes.kv_cache import KvCache, Prefix

BROKEN = -1
"""Token of a frame whose logits were not finite."""
_PAIRED = frozenset({"int4"})
"""Precisions whose kernel computes rows in pairs and an odd last row differently."""


@dataclass(slots=True, eq=False)
class Running:
    """State of one sequence, valid in the runtime that returned it."""

    rows: list[Row]
    """One, or two with guidance: with and without the text."""
    sampling: Sampling
    frame: int = 0
    """Tokens drawn."""
    last: int = 0
    seen: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """The distinct tokens drawn."""
    ready: Floats | None = None
    """Logits [row, …] at the end of the prompt, until the first token is drawn from them."""

    @property
    def length(self) -> int:
        """Positions in the cache, of each row."""
        return self.rows[0].length


class T3Runtime:
    """A loaded transformer with room for `slots` sequences of `max_len` positions (voice, text and speech)."""

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
        8 only on processors with exact int8 sums. Raises GraphError, BadCheckpoint."""
        self.config = read_config(path)
        self.slots, self.max_len = slots, min(max_len, self.config.max_seq_len)
        self.tables = Tables(path, self.config)
        self._decoder = Decoder(
            path / graph_file(precision, cache, activation_bits),
            threading,
            rows=slots * (2 if self.config.guided else 1),
            positions=self.max_len,
            scales=_scales(path / scales_file(precision)) if cache == "int8" else None,
            pairs=precision in _PAIRED,
        )
        self._running = 0

    @property
    def cache(self) -> KvCache:
        return self._decoder.cache

    @property
    def seconds(self) -> float:
        """Spent in steps of the graph since loading."""
        return self._decoder.seconds

    @property
    def free(self) -> int:
        """Slots without a sequence."""
        return self.slots - self._running

    def voice(self, speaker: Floats, prompt: Ids, exaggeration: float) -> Prefix:
        """Keys and values of a voice, for `prefill`: compute them once for each voice and exaggeration.

        `speaker`: its embedding; `prompt`: speech tokens of the recording. Uses a slot during the call. Raises
        Unavailable, TooLarge.
        """
        rows = self.tables.voice(speaker, prompt, exaggeration)
        self._check(0, len(rows))
        return self._decoder.prefix(rows)

    def prefill(self, text: Ids, sampling: Sampling, voice: Prefix) -> Running:
        """Start a sequence: text ids [T] as upstream's tokeniser gives them (Llama: with start and stop).

        Raises Unavailable if every slot is taken, TooLarge if the prompt leaves no room for speech.
        """
        blank = (False, True) if self.config.guided and sampling.cfg_weight > 0 else (False,)
        prompts = [self.tables.prompt(text, voice.length, blank=each) for each in blank]
        self._check(voice.length, len(prompts[0]))
        running = Running([Row() for _ in prompts], sampling)
        started: list[Row] = []
        try:
            for row, prompt in zip(running.rows, prompts, strict=True):
                logits = self._decoder.start(row, prompt, voice)["logits"]
                started.append(row)
                running.ready = logits[None] if running.ready is None else np.stack([running.ready[0], logits])
        except BaseException:
            for row in started:
                self._decoder.release(row)
            raise
        self._running += 1
        return running

    def room(self, running: Running) -> int:
        """Tokens that fit into the sequence's remaining positions."""
        left = self.max_len - running.length - (running.frame > 0)
        if not self.config.guided:
            return left
        return min(left, self.config.speech_positions - 1 - running.frame)

    def step(self, batch: Sequence[Running]) -> npt.NDArray[np.int64]:
        """The next token of each sequence, [len(batch)].

        The token `config.stop_speech` ends its sequence; the token `BROKEN` reports logits that were not finite. After
        either the sequence must not be stepped again.
        """
        if not batch:
            return np.empty(0, np.int64)
        count = self._decoder.gather([row for running in batch for row in running.rows])
        going = [(running, row) for running in batch if running.ready is None for row in running.rows]
        if going:
            tokens, frames, places = np.array([(each.last, each.frame, row.length) for each, row in going]).T
            self._decoder.step([row for _, row in going], self.tables.spoken(tokens, frames, places), count)
        return np.array([self._token(running) for running in batch], np.int64)

    def release(self, running: Running) -> None:
        """Free the sequence's rows."""
        for row in running.rows:
            self._decoder.release(row)
        self._running -= 1

    def _check(self, start: int, length: int) -> None:
        if start + length >= self.max_len:
            raise TooLarge(f"voice and text take all of the {self.max_len} positions a sequence has", param="text")
        if not self.free:
            raise Unavailable(f"all {self.slots} slots are taken")

    def _token(self, running: Running) -> int:
        """Draw from the sequence's logits."""
        logits = running.ready
        if logits is None:
            logits = self._decoder.outputs["logits"][[row.row for row in running.rows]]
        running.ready = None
        if not np.isfinite(logits).all():
            return BROKEN
        values = guided(logits, running.sampling.cfg_weight)
        index = draw(self.config.kind, values, running.seen, running.sampling, running.frame)
        running.frame, running.last = running.frame + 1, index
        if index not in running.seen:
            running.seen = np.append(running.seen, index)
        return index if index < self.config.start_speech else self.config.stop_speech


def _scales(path: Path) -> Floats:
    """Raises BadCheckpoint."""
    try:
        return np.asarray(np.load(path), np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise BadCheckpoint(f"{path} is missing or damaged; run `saywell convert` again") from error
