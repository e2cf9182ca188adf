"""What the meter reads off a set of recordings: words, spectra, speaker, level, pauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from saywell.audio.verdict import FULL_SCALE, SILENT
from saywell.bench.hearing import Clip, hear_all
from saywell.bench.held_out import words
from saywell.bench.spectra import Print, Spectrum, distance, nearest, spectrum, voice_print
from saywell.bench.word_errors import Score, score
from saywell.types import Samples

_WINDOW_S = 0.02


@dataclass(eq=False)
class Take:
    """The same texts, spoken one way. A text that could not be spoken has a clip without samples."""

    texts: Sequence[str]
    clips: Sequence[Clip]
    processes: int = 1
    """That listen side by side."""

    @cached_property
    def score(self) -> Score:
        """Word errors; this is where the time goes."""
        return score(self.texts, hear_all(self.clips, self.processes))

    @cached_property
    def spectra(self) -> list[Spectrum | None]:
        return [spectrum(*clip) if len(clip[0]) else None for clip in self.clips]


def figures(
    take: Take,
    fp32: Take | None = None,
    teacher: Take | None = None,
    prints: Mapping[str, Print] | None = None,
    speaker: str | None = None,
) -> dict[str, Any]:
    """Everything about one take, for the table and for JSON.

    `fp32`, `teacher`: the same texts at full precision, and by whom the voice was learned. `prints`: voices to choose
    from; `speaker`: the one it should be.
    """
    low, high = take.score.interval
    row: dict[str, Any] = {
        "sentences": len(take.texts),
        "words": int(take.score.by_word[:, 1].sum()),
        "failed": sum(not len(samples) for samples, _ in take.clips),
        "wer": round(take.score.wer, 4),
        "wer_interval": [round(low, 4), round(high, 4)],
        "cer": round(take.score.cer, 4),
        "fp32_db": _apart(take, fp32),
        "teacher_db": _apart(take, teacher),
        "teacher_added": None if teacher is None else round(take.score.wer - teacher.score.wer, 4),
        "speaker": matches(take, prints, speaker) if prints and speaker else None,
        **levels(take),
    }
    return row


def matches(take: Take, prints: Mapping[str, Print], speaker: str) -> float | None:
    """Share of the recordings whose nearest voice is `speaker`'s; None if there is no recording."""
    found = [nearest(voice_print([each]), prints) == speaker for each in take.spectra if each is not None]
    return round(sum(found) / len(found), 4) if found else None


def levels(take: Take) -> dict[str, float | None]:
    """Clipped samples, the longest pause inside a sentence, the pace."""
    spoken = [clip for clip in take.clips if len(clip[0])]
    if not spoken:
        return {"clipped": None, "pause_s": None, "s_per_word": None}
    said = sum(len(words(text)) for text, clip in zip(take.texts, take.clips, strict=True) if len(clip[0]))
    seconds = sum(len(samples) / rate for samples, rate in spoken)
    return {
        "clipped": round(float(np.mean([np.mean(np.abs(samples) >= FULL_SCALE) for samples, _ in spoken])), 6),
        "pause_s": round(max(pause(*clip) for clip in spoken), 3),
        "s_per_word": round(seconds / max(1, said), 4),
    }


def pause(samples: Samples, rate: int) -> float:
    """Seconds of the longest silence between two sounds."""
    size = round(_WINDOW_S * rate)
    windows = samples[: len(samples) // size * size].reshape(-1, size)
    sound = np.flatnonzero(np.ptp(windows, axis=1) > SILENT) if len(windows) else np.zeros(0, int)
    return float(max(0, np.diff(sound).max() - 1) * _WINDOW_S) if len(sound) > 1 else 0.0


def _apart(take: Take, other: Take | None) -> float | None:
    """Mean log-spectral distance in dB over the texts both have spoken."""
    if other is None:
        return None
    found = [
        distance(one, two)
        for one, two in zip(take.spectra, other.spectra, strict=True)
        if one is not None and two is not None
    ]
    return round(float(np.mean(found)), 3) if found else None
