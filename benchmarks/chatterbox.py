"""A converted Chatterbox from text to samples: load, first sound, real-time factor, voices, streams, memory.

    python -m benchmarks.random_chatterbox CHECKPOINT --kind turbo --size full
    saywell convert CHECKPOINT -o MODEL
    python -m benchmarks.chatterbox MODEL [--precision int4] [--seconds 5]

Random weights do not end a sentence in time, so each text is spoken for a fixed number of frames at most.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.random_voice_parts import clip
from saywell.engine import launch
from saywell.engine.launch import TTS
from saywell.machine.process_memory import Peak
from saywell.models.chatterbox.config import FRAME_RATE, RATE
from saywell.settings import Settings
from saywell.types import Reference

TEXT = "The committee will meet again on Thursday, the fourteenth of March, at half past nine."
_STREAMS = 4
_PROMPTS = (5.1, 10.0)
"""Seconds of a recording; Turbo wants more than five."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--precision", choices=["fp32", "int8", "int4"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    frames = round(options.seconds * FRAME_RATE)
    settings = Settings(model_path=options.model.resolve(), precision=options.precision, adapt=False)
    table = Table("what", "seconds")
    with Peak(os.getpid()) as peak:
        began = time.perf_counter()
        with launch.open(settings=settings) as tts:
            _say(tts, 1, 1)
            table.add_row("load and first frame", f"{time.perf_counter() - began:.2f}")
            for name, seconds in _measured(tts, frames, options.rounds):
                table.add_row(name, f"{seconds:.2f}")
            plan = tts.plan
    Console().print(f"{options.model.name}, {plan.precision}, {plan.options}, load {os.getloadavg()[0]:.2f}")
    Console().print(table)
    Console().print(f"peak memory {peak.bytes / 2**20:.0f} MB")


def _measured(tts: TTS, frames: int, rounds: int) -> list[tuple[str, float]]:
    """What was measured, and seconds; the rest per second of audio."""
    found: list[tuple[str, float]] = []
    for prompt in _PROMPTS:
        reference = Reference(pcm=clip(prompt, RATE).tobytes(), sample_rate=RATE)
        said = _say(tts, frames, 1, reference=reference)
        found.append((f"prompt of {prompt:g} s: first sound, new recording", said.first_s))
        again = [_say(tts, frames, 1, reference=reference) for _ in range(rounds)]
        found.append((f"prompt of {prompt:g} s: first sound, known voice", median(each.first_s for each in again)))
        found.append((f"prompt of {prompt:g} s: RTF", median(each.total_s / each.audio_s for each in again)))
        began = time.perf_counter()
        with ThreadPoolExecutor(_STREAMS) as pool:
            together = list(pool.map(lambda seed: _say(tts, frames, seed, reference=reference), range(_STREAMS)))  # noqa: B023
        total = (time.perf_counter() - began) / sum(each.audio_s for each in together)
        found.append((f"prompt of {prompt:g} s: RTF, {_STREAMS} streams in sum", total))
    return found


@dataclass(frozen=True, slots=True)
class _Said:
    first_s: float
    total_s: float
    audio_s: float


def _say(tts: TTS, frames: int, seed: int, **fields: Any) -> _Said:
    began, first, samples = time.perf_counter(), 0.0, 0
    for chunk in tts.stream(TEXT, raw=True, language="en", max_frames=frames, seed=seed, **fields):
        if len(chunk.samples):
            first, samples = first or time.perf_counter() - began, samples + len(chunk.samples)
    return _Said(first, time.perf_counter() - began, samples / RATE)


if __name__ == "__main__":
    main()
