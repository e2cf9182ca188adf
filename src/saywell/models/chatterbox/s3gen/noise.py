"""The noise of one sequence, counted by its seed and absolute position: never by windows, calls or other sequences."""

from __future__ import annotations

import numpy as np

from saywell.graphs.numerics import Floats
from saywell.models.chatterbox.s3gen.config import S3GenConfig

_BLOCK = 16
"""Frames drawn together."""
_FRAMES, _PROMPT, _SOURCE, _PHASES = range(4)


class Noise:
    """Standard normal numbers, and the phases of the harmonics."""

    def __init__(self, config: S3GenConfig, seed: int) -> None:
        """`seed`: any integer; its lower 64 bits count."""
        self._config, self._seed = config, seed & (1 << 64) - 1

    def frames(self, start: int, stop: int) -> Floats:
        """Where the flow of frames start … stop − 1 begins, [frames, mel]."""
        return self._normal(_FRAMES, start, stop, self._config.mel)

    def prompt(self, start: int, stop: int) -> Floats:
        """As `frames`, of the frames of the voice's prompt."""
        return self._normal(_PROMPT, start, stop, self._config.mel)

    def source(self, start: int, stop: int) -> Floats:
        """Breath in the harmonic source of frames start … stop − 1, [samples, harmonics + 1]."""
        tones = self._config.vocoder.harmonics + 1
        return self._normal(_SOURCE, start, stop, self._config.frame * tones).reshape(-1, tones)

    def phases(self) -> Floats:
        """Of the harmonics, in radians; the fundamental's is zero. [harmonics + 1]."""
        random = self._generator(_PHASES, 0).random(self._config.vocoder.harmonics + 1, np.float32)
        phases = (random * 2 - 1) * np.float32(np.pi)
        phases[0] = 0
        return np.asarray(phases, np.float32)

    def _normal(self, stream: int, start: int, stop: int, width: int) -> Floats:
        if stop <= start:
            return np.zeros((0, width), np.float32)
        first, last = start // _BLOCK, (stop - 1) // _BLOCK
        blocks = [
            self._generator(stream, block).standard_normal((_BLOCK, width), np.float32)
            for block in range(first, last + 1)
        ]
        return np.concatenate(blocks)[start - first * _BLOCK : stop - first * _BLOCK]

    def _generator(self, stream: int, block: int) -> np.random.Generator:
        # The counter's low word counts draws, so blocks never overlap.
        return np.random.Generator(np.random.Philox(key=self._seed + (stream << 64), counter=block << 64))
