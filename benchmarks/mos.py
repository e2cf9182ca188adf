"""Sound quality by DNSMOS: P.835 (speech, background, overall) and P.808, each from 1 to 5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.hearing import RATE, Clip
from saywell.audio.resample import resample
from saywell.types import Samples

SCALES = ("sig", "bak", "ovrl", "p808")
WORST = 1.0
"""Score of a recording without samples."""

Opinions = npt.NDArray[np.float64]
"""[recordings, SCALES]."""


def judge(samples: Samples, rate: int) -> dict[str, float]:
    """Scores of one recording, by scale. DNSMOS loops recordings shorter than 9 s."""
    from speechmos import dnsmos

    if not len(samples):
        return dict.fromkeys(SCALES, WORST)
    scores = dnsmos.run(np.clip(resample(samples, rate, RATE), -1.0, 1.0), sr=RATE)
    return {scale: float(scores[f"{scale}_mos"]) for scale in SCALES}


def judge_all(clips: Sequence[Clip]) -> Opinions:
    """Scores of all recordings, [recordings, SCALES]."""
    return np.array([list(judge(*clip).values()) for clip in clips]).reshape(-1, len(SCALES))
