"""Trims and fades the edges of a sequence, so that sequences join without clicks and long silences.

Everything is decided on a fixed grid of 5 ms blocks from the first sample, so any split of the input gives identical
output; samples between the edges are unchanged. At most two blocks (10 ms) of speech are held back. Silence beyond a
natural pause is held until it turns out to be a pause (it is passed on whole) or the end (it is dropped).
"""

from __future__ import annotations

import numpy as np

from saywell.types import Samples

BLOCK_S = 0.005
"""Grid and length of a fade."""
LEAD_S = 0.02
"""Kept before the first sound, for the soft start of an f or an h below the threshold."""
AUDIBLE = 10 ** (-50 / 20)
"""-50 dB of full scale. A sequence starts at its first block louder than this."""
TRAIL_S = 0.42
"""Silence kept after the last sound: most of the pause of readers between sentences, 0.38 to 0.5 s."""
SILENT = 1e-3
"""-60 dB of full scale. Anything below is silence, and a step of this size does not click."""
SILENT_BESIDE_PEAK = 3e-3
"""-50 dB of the loudest block so far. Anything below is the vocoder's noise floor."""


class Stitcher:
    """Processes one sequence after another: `last=True` ends one, and the next `feed` starts the next."""

    def __init__(self, sample_rate: int, speed: float = 1.0) -> None:
        """`speed` of the speech: slow speech has longer pauses."""
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
        """Samples of silence dropped before the first sound; final once a sample has been returned."""
        self._pause = 0
        """Silent samples passed on since the last sound."""
        self._held: list[Samples] = []
        """Silence not passed on: before the first sound, or beyond the pause."""
        self._end = nothing
        """The last block passed by `_trim`, which needs a fade if it turns out to be the end."""

    def feed(self, samples: Samples, last: bool = False) -> Samples:
        """Samples [n] of a sequence in, the samples that are ready out; with `last`, all that remain."""
        waiting = np.concatenate((self._partial, np.asarray(samples, np.float32)))
        whole = len(waiting) if last else len(waiting) // self._block * self._block
        self._partial = waiting[whole:]
        kept = self._finish(self._trim(waiting[:whole]), last)
        if last:
            self._reset()
        return kept

    def _trim(self, blocks: Samples) -> Samples:
        """Whole blocks in (the last of a sequence may be short), samples without surplus silence out."""
        sound = np.flatnonzero(self._sounding(blocks))
        if not len(sound):
            return self._hold(blocks)
        start, end = int(sound[0]) * self._block, (int(sound[-1]) + 1) * self._block
        before = np.concatenate((*self._held, blocks[:start]))
        self._held = []
        if not self._spoken:
            self.dropped += max(0, len(before) - self._lead)
            before = before[max(0, len(before) - self._lead) :]
        starts, self._spoken, self._pause = not self._spoken, True, 0
        kept = np.concatenate((before, blocks[start:end], self._hold(blocks[end:])))
        if starts:
            kept[: self._block] *= self._fade_in[: len(kept)]
        return kept

    def _sounding(self, blocks: Samples) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Which blocks contain sound: above SILENT and relative to the peak so far. The first one must be audible."""
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
        """Hold back silence, except for the pause after a sound."""
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
        """Hold one block back, so that it can be faded out if it turns out to be the last."""
        kept = np.concatenate((self._end, kept))
        if not last:
            cut = max(0, len(kept) - self._block)
            self._end = kept[cut:]
            return kept[:cut]
        edge = kept[-self._block :]
        if len(edge) and np.abs(edge).max() > SILENT:
            edge *= self._fade_in[::-1][-len(edge) :]
        return kept
