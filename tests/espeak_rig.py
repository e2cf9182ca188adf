"""Drives the eSpeak NG Model without an engine."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import psutil

from plans import TINY_PLAN
from saywell.models import espeak
from saywell.models.base import DecodeJob
from saywell.models.espeak import DEFAULT_VOICE
from saywell.models.espeak.model import EspeakModel
from saywell.plan.plan import Plan
from saywell.types import Frame, Request, Samples, Sequence

TEXT = "The weather is very nice today and the children are playing in the garden."
LONG = " ".join([TEXT] * 20)


def plan(slots: int = 2, hang_s: float = 30.0) -> Plan:
    return replace(
        TINY_PLAN,
        model="espeak",
        executor="process",
        max_batch_size=slots,
        max_parallel_chunks=slots,
        max_queue=8,
        chunk_chars=200,
        first_frames=1,
        chunk_frames=1,
        max_frames=10000,
        max_text_chars=20000,
        timeout_s=60.0,
        buffer_s=5.0,
        hang_s=hang_s,
        memory_budget=1 << 32,
        adapt=True,
    )


def load(slots: int = 2, hang_s: float = 30.0) -> EspeakModel:
    model = espeak.load(espeak.spec("espeak", None), plan(slots, hang_s))
    assert isinstance(model, EspeakModel)
    return model


def sequence(model: EspeakModel, text: str = TEXT, voice: str = DEFAULT_VOICE, speed: float = 1.0) -> Sequence:
    known = {known.id: known for known in model.voices()}
    return Sequence(
        request=Request(text=text, voice=voice, speed=speed),
        index=0,
        source=text,
        text=text,
        voice=known[voice],
        seed=0,
        max_frames=10_000,
    )


def run(model: EspeakModel, *sequences: Sequence, limit_s: float = 60.0) -> list[list[Frame]]:
    """Run sequences concurrently to their ends, and release them."""
    frames: dict[Sequence, list[Frame]] = {one: [] for one in sequences}
    model.prefill(list(sequences))
    running = list(sequences)
    until = time.monotonic() + limit_s
    try:
        while running:
            assert time.monotonic() < until, "no end in sight"
            for frame in model.step(running):
                frames[frame.sequence].append(frame)
                if frame.finish:
                    running.remove(frame.sequence)
    finally:
        for one in sequences:
            model.release(one)
    return list(frames.values())


def joined(frames: list[Frame]) -> Samples:
    """The samples of all frames."""
    return np.concatenate([frame.data for frame in frames if frame.data is not None])


def say(model: EspeakModel, text: str = TEXT, voice: str = DEFAULT_VOICE, speed: float = 1.0) -> Samples:
    one = sequence(model, text, voice, speed)
    (frames,) = run(model, one)
    return model.decode([DecodeJob(one, frames, True)])[0]


def children() -> set[int]:
    """Process ids of the speech processes."""
    found = psutil.Process().children()
    return {child.pid for child in found if "saywell.models.espeak.process" in child.cmdline()}


def process_of(one: Sequence) -> int:
    """Id of the process that speaks a sequence; 0 before it has started."""
    frame = one.state.pieces.gi_frame
    child = frame.f_locals.get("child") if frame is not None else None
    return child.process.pid if child is not None else 0
