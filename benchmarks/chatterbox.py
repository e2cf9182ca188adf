"""A converted Chatterbox from text to samples: load, first sound, real-time factor, voices, streams, memory.

    python -m benchmarks.random_chatterbox CHECKPOINT --kind turbo --size full
    saywell convert CHECKPOINT -o MODEL
    python -m benchmarks.chatterbox MODEL [--precision int4] [--seconds 5]

Random weights never end a sentence, so each text is spoken for a fixed number of frames.
"""

from __future__ import annotations

import argparse
import os
import time
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
            _say(tts, 1)
            table.add_row("load and first frame", f"{time.perf_counter() - began:.2f}")
            for name, seconds in _measured(tts, frames, options.rounds):
                table.add_row(name, f"{seconds:.2f}")
            plan = tts.plan
    Console().print(f"{options.model.name}, {plan.precision}, {plan.options}, load {os.getloadavg()[0]:.2f}")
    Console().print(table)
    Console().print(f"peak memory {peak.bytes / 2**20:.0f} MB")


def _measured(tts: TTS, frames: int, rounds: int) -> list[tuple[str, float]]:
    """What was measured, and seconds; the rest per second of audio."""
    audio = frames / FRAME_RATE
    alone = [_say(tts, frames) for _ in range(rounds)]
    began = time.perf_counter()
    streams = [tts.stream(TEXT, **_fields(frames, seed)) for seed in range(_STREAMS)]
    for stream in streams:
        for _ in stream:
            pass
    together = time.perf_counter() - began
    reference = Reference(pcm=clip(7.0, RATE).tobytes(), sample_rate=RATE)
    fresh, known = (_say(tts, 1, reference=reference)[1] for _ in range(2))
    return [
        ("first sound, known voice", median(first for first, _ in alone)),
        ("RTF, one stream", median(total for _, total in alone) / audio),
        (f"RTF, {_STREAMS} streams at once, in sum", together / audio / _STREAMS),
        ("a frame of a new recording", fresh),
        ("a frame of a known one", known),
    ]


def _say(tts: TTS, frames: int, **fields: Any) -> tuple[float, float]:
    """Seconds to the first sound and to the last."""
    began, first = time.perf_counter(), 0.0
    for chunk in tts.stream(TEXT, **_fields(frames, 1), **fields):
        if len(chunk.samples):
            first = first or time.perf_counter() - began
    return first, time.perf_counter() - began


def _fields(frames: int, seed: int) -> dict[str, Any]:
    return {"raw": True, "language": "en", "max_frames": frames, "seed": seed}


if __name__ == "__main__":
    main()
