"""The edges of one sequence: no click, no long silence. What lies between is passed on untouched.

Everything is decided on a fixed grid of 5 ms blocks counted from the first sample, so any split of the input gives the
identical output. At most two blocks (10 ms) are held back while there is speech; silence beyond a natural pause is held
until it is known whether it was a pause (all of it follows) or the end (it is dropped).
"""

from __future__ import annotations

import numpy as np

from saywell.types import Samples

BLOCK_S = 0.005
"""Grid and length of a fade."""
LEAD_S = 0.02
"""Kept before the first sound: room for the soft start of an f or an h, which lies below the threshold."""
AUDIBLE = 10 ** (-50 / 20)
"""-50 dB of full scale. What begins a sequence softer than this is not waited through."""
TRAIL_S = 0.42
"""Silence kept after the last sound: most of the pause that readers make between two sentences, .38 to .5 s."""
SILENT = 1e-3
"""-60 dB of full scale. Nothing below it counts as sound, and a step of this size does not click."""
SILENT_BESIDE_PEAK = 3e-3
"""-50 dB of the loudest block so far: below that, a vocoder's own noise beside speech."""


class Stitcher:
    """One sequence after the other: `last=True` ends one, and the next `feed` begins a new one."""

    def __init__(self, sample_rate: int, speed: float = 1.0) -> None:
        """`speed`: of the speech; who speaks slowly pauses longer."""
        self._block = max(1, round(sample_rate * BLOCK_S))
        self._lead = round(LEAD_S / BLOCK_S) * self._block
        self._trail = round(TRAIL_S / min(1.0, speed) / BLOCK_S) * self._block
        self._fade_in = (0.5 - 0.5 * np.cos(np.pi * (np.arange(self._block) + 0.5) / self._block)).astype(np.float32)
        self._reset()

    def _reset(self) -> None:
        nothing = np.zeros(0, np.float32)
        self._partial = nothing
        """Samples that do not fill a block yet."""
        self._peak = 0.0
        """The loudest block so far."""
        self._spoken = False
        self.dropped = 0
        """Samples of silence left out before the first sound; known when the first sample has come out."""
        self._pause = 0
        """Silent samples passed on since the last sound."""
        self._held: list[Samples] = []
        """Silence not passed on: before the first sound, or beyond the pause."""
        self._end = nothing
        """The last block passed by `_trim`, which may turn out to be the end and need a fade."""

    def feed(self, samples: Samples, last: bool = False) -> Samples:
        """Samples [n] of a sequence in, samples out, perhaps none; with `last`, the rest of it."""
        waiting = np.concatenate((self._partial, np.asarray(samples, np.float32)))
        whole = len(waiting) if last else len(waiting) // self._block * self._block
        self._partial = waiting[whole:]
        kept = self._finish(self._trim(waiting[:whole]), last)
        if last:
            self._reset()
        return kept

    def _trim(self, blocks: Samples) -> Samples:
        """Whole blocks in (the very last may be short); out what is not surplus silence."""
        sound = np.flatnonzero(self._sounding(blocks))
        if not len(sound):
            return self._hold(blocks)
        start, end = int(sound[0]) * self._block, (int(sound[-1]) + 1) * self._block
        before = np.concatenate((*self._held, blocks[:start]))
        self._held = []
        if not self._spoken:
            self.dropped += max(0, len(before) - self._lead)
            before = before[max(0, len(before) - self._lead) :]
        begins, self._spoken, self._pause = not self._spoken, True, 0
        kept = np.concatenate((before, blocks[start:end], self._hold(blocks[end:])))
        if begins:
            kept[: self._block] *= self._fade_in[: len(kept)]
        return kept

    def _sounding(self, blocks: Samples) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Which blocks hold sound: louder than silence, beside the peak up to and including the block itself.

        The first one must be audible.
        """
        padded = np.zeros(-(-len(blocks) // self._block) * self._block, np.float32)
        padded[: len(blocks)] = np.abs(blocks)
        peaks = padded.reshape(-1, self._block).max(axis=1)
        loudest = np.maximum.accumulate(np.concatenate((np.asarray([self._peak], np.float32), peaks)))
        self._peak = float(loudest[-1])
        sounding = np.asarray(peaks > np.maximum(SILENT, SILENT_BESIDE_PEAK * loudest[1:]))
        if not self._spoken:
            audible = np.flatnonzero(peaks > AUDIBLE)
            sounding[: audible[0] if len(audible) else None] = False
        return sounding

    def _hold(self, silence: Samples) -> Samples:
        """Keep silence back, but for what belongs to the pause after a sound."""
        room = self._trail - self._pause if self._spoken else 0
        passed, rest = silence[:room], silence[room:]
        self._pause += len(passed)
        if len(rest):
            self._held.append(rest)
        if not self._spoken and self._held:
            held = np.concatenate(self._held)
            self.dropped += max(0, len(held) - self._lead)
            self._held = [held[-self._lead :]]
        return passed

    def _finish(self, kept: Samples, last: bool) -> Samples:
        """Hold one block back, so that whatever turns out to be the end can be faded out."""
        kept = np.concatenate((self._end, kept))
        if not last:
            cut = max(0, len(kept) - self._block)
            self._end = kept[cut:]
            return kept[:cut]
        edge = kept[-self._block :]
        if len(edge) and np.abs(edge).max() > SILENT:
            edge *= self._fade_in[::-1][-len(edge) :]
        return kept
