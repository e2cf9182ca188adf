"""DualAR in the engine: loading, memory, first sound, one sentence, a long text, concurrent requests.

The engine runs in a process of its own, with this machine's plan. Sequences end after a fixed number of frames, so that
random weights, which never end a sentence, cost as much as trained ones.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.random_voice import TRIES, VOICE
from saywell.bench.service import SENTENCES, text_of
from saywell.engine.engine import Engine
from saywell.engine.launch import decide
from saywell.engine.stream import Stream
from saywell.errors import BadAudio
from saywell.machine.process_memory import Peak
from saywell.models.base import DecodeJob, Model, load_family
from saywell.plan.plan import Plan
from saywell.settings import load_settings
from saywell.types import Frame, Request, Samples, SamplingParams, Summary
from saywell.types import Sequence as Spoken

T = TypeVar("T")
PARALLEL_CHUNKS = (1, 2, 4, 8)
TEXTS = (100, 300, 1000, 5000)
PARTS = ("prefill", "ar", "codec", "rest")
"""Parts of the work for a second of audio: prompts, transformers, codec, engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Parameters of a measurement."""

    model: Path
    data: Path
    """`data_dir`, with the voice."""
    precision: str = "int8"
    executor: str | None = None
    """None: by the plan."""
    threads: int | None = None
    frames: int = 172
    """Frames of a sentence: 8 s."""
    short: int = 43
    """Frames of a sentence in comparisons of length: 2 s."""
    firsts: int = 12
    """Number of first sounds measured."""

    def settings(self, **more: Any) -> dict[str, Any]:
        own = {"precision": self.precision, "executor": self.executor, "threads": self.threads}
        return {"model": str(self.model), "data_dir": self.data, "adapt": False, **own, **more}


class TimedModel:
    """A model that sums the seconds spent in each of its methods."""

    def __init__(self, model: Model) -> None:
        self.spec, self.live, self._model = model.spec, model.live, model
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.voices, self.prepare, self.adapt = model.voices, model.prepare, model.adapt
        self.clear_caches, self.release, self.close = model.clear_caches, model.release, model.close

    def prefill(self, started: list[Spoken]) -> None:
        self._timed("prefill", lambda: self._model.prefill(started))

    def step(self, batch: list[Spoken]) -> list[Frame]:
        self.spent["steps"] += 1
        return self._timed("ar", lambda: self._model.step(batch))

    def decode(self, jobs: list[DecodeJob]) -> Iterable[Samples | None]:
        return self._timed("codec", lambda: self._model.decode(jobs))

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        self.spent[name] += time.perf_counter() - began
        return result


class Session:
    """A running engine with a `TimedModel`."""

    def __init__(self, setup: Setup, **settings: Any) -> None:
        decision = decide(load_settings(setup.settings(**settings)))
        self.plan = decision.plan
        self.engine = Engine(decision.spec, decision.plan, self._load)
        self._decision = decision
        began = time.perf_counter()
        self.engine.start()
        self.load_s = time.perf_counter() - began

    def _load(self, plan: Plan) -> Model:
        spec = self._decision.spec
        self.model = TimedModel(load_family(spec.family).load(spec, plan))
        return self.model

    def speak(self, texts: Sequence[str], frames: int, seed: int = 0) -> dict[str, Any]:
        """Speak all texts concurrently, each sequence `frames` long; costs in seconds."""
        for attempt in range(seed, seed + TRIES):
            self.model.spent.clear()
            try:
                with Peak(os.getpid()) as peak:
                    began = time.perf_counter()
                    found = self._collect(texts, frames, attempt * 1000)
                    took = time.perf_counter() - began
                return self._row(found, took, peak.bytes)
            except BadAudio:  # a sequence ended too early by chance: try another seed
                continue
        raise BadAudio(f"random weights ended a sentence too early {TRIES} times; give --model a trained one")

    def _collect(self, texts: Sequence[str], frames: int, seed: int) -> list[Summary]:
        requests = [
            Request(
                text=text,
                voice=VOICE,
                max_frames=frames,
                sampling=SamplingParams(seed=seed + index),
                timeout_s=3600,
            )
            for index, text in enumerate(texts)
        ]
        streams = [self.engine.submit(request) for request in requests]
        with ThreadPoolExecutor(len(streams)) as readers:
            return [audio.summary for audio in readers.map(Stream.collect, streams)]

    def _row(self, found: list[Summary], took: float, peak: int) -> dict[str, Any]:
        spent, audio_s = self.model.spent, sum(each.audio_s for each in found)
        parts = {name: spent[name] / audio_s for name in ("prefill", "ar", "codec")}
        rtf = took / audio_s
        return {
            "rtf": round(rtf, 4),
            **{name: round(each, 4) for name, each in parts.items()},
            "rest": round(rtf - sum(parts.values()), 4),
            "audio_s": round(audio_s, 2),
            "sequences": sum(each.sequences for each in found),
            "mean_batch": round(sum(each.frames for each in found) / spent["steps"], 2),
            "first_s": round(statistics.median(each.first_audio_s for each in found), 4),
            "peak_mb": round(peak / 1e6),
        }


def plan_of(setup: Setup) -> Plan:
    """This machine's plan."""
    return decide(load_settings(setup.settings())).plan


# Each of these functions runs in a process of its own


def load(setup: Setup) -> dict[str, Any]:
    """Load time, and memory while one sentence is spoken."""
    session = Session(setup)
    row = session.speak(SENTENCES[:1], setup.frames)
    session.engine.close()
    return {"load_s": round(session.load_s, 3), "speaking_mb": row["peak_mb"]}


def first(setup: Setup) -> list[dict[str, Any]]:
    """Time to first audio of a voice's first sentence and of later ones, and its parts."""
    session = Session(setup)
    size = session.plan.first_frames
    cold = session.speak(SENTENCES[:1], size)
    warm = [session.speak([SENTENCES[n % 9]], 3 * size, seed=n)["first_s"] for n in range(setup.firsts)]
    row = session.speak(SENTENCES[:1], size)
    session.engine.close()
    spent = {f"{name}_s": round(row[name] * row["audio_s"], 4) for name in PARTS}
    return [{"cold_s": cold["first_s"], "median_s": round(statistics.median(warm), 4), "worst_s": max(warm), **spent}]


def streams(setup: Setup, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Concurrent requests, a sentence each."""
    session = Session(setup, max_batch_size=max(counts))
    session.speak(SENTENCES[:1], 4)
    rows = [{"streams": count, **session.speak([SENTENCES[n % 9] for n in range(count)], setup.frames)}
            for count in counts]  # fmt: skip
    session.engine.close()
    return rows


def long(setup: Setup, parallel_chunks: int) -> dict[str, Any]:
    """One text whose chunks run in parallel."""
    session = Session(setup, max_parallel_chunks=parallel_chunks, max_batch_size=max(8, parallel_chunks))
    session.speak(SENTENCES[:1], 4)
    row = session.speak([" ".join(SENTENCES)], setup.frames)
    session.engine.close()
    return {"parallel_chunks": parallel_chunks, **row}


def texts(setup: Setup) -> list[dict[str, Any]]:
    """Texts of growing length."""
    session = Session(setup)
    session.speak(SENTENCES[:1], 4)
    rows = [{"chars": size, **session.speak([text_of(size)], setup.short)} for size in TEXTS]
    session.engine.close()
    return rows
