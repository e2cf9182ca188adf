"""One row of the quality benchmark: the figures of a take, and its differences to others on the same sentences."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks import intervals
from benchmarks.mos import SCALES
from benchmarks.spectra import Print, similarity
from benchmarks.takes import Take
from benchmarks.word_errors import verdict


def figures(take: Take, references: Mapping[str, Take], speaker: Print | None = None) -> dict[str, Any]:
    """Rates as fractions, MOS from 1 to 5, times in the unit of the name's suffix; JSON-serialisable.

    `references`: name → take to compare with. `speaker`: print of the intended voice.
    """
    audible = [seconds for seconds in take.first_audible_s if seconds is not None]
    return {
        "packages": dict(take.packages),
        "sentences": len(take.texts),
        "words": int(take.score.by_word[:, 1].sum()),
        "failed": [error for error in take.errors if error],
        "wer": round(take.score.wer, 4),
        "wer_interval": _rounded(take.score.interval),
        "cer": round(take.score.cer, 4),
        **_opinions(take),
        **_speed(take),
        "first_audible_ms": round(1000 * statistics.median(audible), 1) if audible else None,
        "memory_mb": round(take.memory_bytes / 1e6),
        "speaker": _likeness(take, speaker) if speaker is not None else None,
        "against": {name: compared(take, other, name) for name, other in references.items()},
    }


def compared(take: Take, other: Take, name: str) -> dict[str, Any]:
    """`take` minus `other` on the same texts, with intervals, and the verdict on word errors."""
    difference = take.opinions - other.opinions
    result: dict[str, Any] = {"verdict": asdict(verdict(take.score, other.score, name))}
    for scale, values in zip(SCALES, difference.T, strict=True):
        result[scale] = round(float(values.mean()), 3)
        result[f"{scale}_interval"] = _rounded(intervals.mean(values))
    return result


def _opinions(take: Take) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for scale, values in zip(SCALES, take.opinions.T, strict=True):
        result[scale] = round(float(values.mean()), 3)
        result[f"{scale}_interval"] = _rounded(intervals.mean(values))
    return result


def _speed(take: Take) -> dict[str, Any]:
    """Real-time factor: seconds of synthesis per second of audio, over all sentences with audio."""
    times = [(total, len(samples) / rate) for total, (samples, rate) in zip(take.total_s, take.clips, strict=True)]
    spent, audio = np.array([pair for pair in times if pair[1]]).reshape(-1, 2).T
    if not len(audio):
        return {"rtf": None, "rtf_interval": None}
    return {"rtf": round(float(spent.sum() / audio.sum()), 4), "rtf_interval": _rounded(intervals.ratio(spent, audio))}


def _likeness(take: Take, speaker: Print) -> float | None:
    """Mean similarity of the sentences' prints to the speaker's."""
    return round(statistics.mean(similarity(one, speaker) for one in take.prints), 3) if take.prints else None


def _rounded(interval: intervals.Interval) -> list[float]:
    return [round(bound, 4) for bound in interval]
