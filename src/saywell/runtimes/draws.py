"""Random numbers of a sequence: they depend on its seed and the frame alone, never on what else runs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def uniforms(seed: int, frame: int, count: int) -> npt.NDArray[np.float64]:
    """`count` random numbers in [0, 1) for one frame of a sequence."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, frame, 0, 0])).random(count)
