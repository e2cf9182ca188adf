"""Trials of `saywell tune`: each candidate is a real engine in a worker process with the same work.

A worker that crashes or runs out of memory excludes only its candidate.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer

from saywell.engine.worker.client import EngineClient
from saywell.errors import BadAudio, ModelFailure
from saywell.machine.process_memory import Peak, footprint
from saywell.plan import memory
from saywell.plan.plan import Plan
from saywell.plan.tuning_store import Trial
from saywell.tune.space import Candidate
from saywell.types import Audio, ModelSpec, Request, SamplingParams

TEXTS = (
    "The lighthouse keeper lit the lamp before the ships came home.",
    "A small boat crossed the bay while gulls circled over the harbour.",
    "She wrote down every number twice because the first list was lost.",
    "Nobody expected the old clock to strike again after all those years.",
    "Rain fell on the garden all night, and by morning the river had risen.",
    "He told the story slowly, as if each word were a stone to be put down.",
)
FIRST = "Good morning. The train to the north leaves in ten minutes."
_ROUND_SHARE = 100
"""Rounds per total time: bounds the duration of a round."""
_LEAST_S, _MOST_S = 0.3, 6.0
"""Bounds of a round in seconds: shorter is noise, longer allows too few rounds."""
_LEAST_FRAMES, _MOST_FRAMES = 8, 86
"""Bounds of an autoregressive sequence: long enough to fill a batch, at most a sentence."""
_MOST_TEXTS = 96
_DRAWS = 4
"""Seeds tried if a model with random weights ends too early."""
_LATER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of one round."""

    texts: int
    """Concurrent requests, as far as the plan admits them."""
    frames: int | None
    """Frame limit per request; None: until its end."""


class Trials:
    """The search's Rig: keeps compared candidates loaded at the same time, as far as memory allows."""

    def __init__(self, spec: ModelSpec, seconds: float, *, room: int, python: Path | None = None) -> None:
        """`seconds`: total time. `room`: bytes for all loaded engines."""
        self._spec, self._python, self._room = spec, python, room
        self._round_s = min(_MOST_S, max(_LEAST_S, seconds / _ROUND_SHARE))
        self._engines: dict[Candidate, EngineClient] = {}
        self._work: Work | None = None

    def hold(self, candidates: Iterable[Candidate]) -> None:
        for candidate in self._engines.keys() - set(candidates):
            self._engines.pop(candidate).close()

    def run(self, candidate: Candidate, round_: int, limit_s: float) -> Trial:
        loaded = self._engines.get(candidate)
        engine = loaded or self._add(candidate)
        alarm = Timer(limit_s, engine.close)
        alarm.start()
        try:
            if loaded is None:
                engine.start()  # then warm up all slots
                self._busy(engine, 0, Work(texts=engine.plan.max_batch_size, frames=self._frames(engine.plan)))
            if self._work is None:
                self._work = self._size(engine)
            with Peak(engine.pid) as peak:
                first = self._speak(engine, FIRST, round_, self._frames(engine.plan)).summary.first_audio_s
                rtf = self._busy(engine, round_, self._work)
        except BaseException:
            self._engines.pop(candidate).close()
            raise
        finally:
            alarm.cancel()
            alarm.join()  # if it fired, wait until the worker is closed
        return Trial(values=dict(candidate.values), rtf=(rtf,), first_s=(first,), peak_bytes=peak.bytes)

    def close(self) -> None:
        self.hold(())

    def _add(self, candidate: Candidate) -> EngineClient:
        """A new engine, after making room. It does not adapt: other candidates would count as pressure."""
        needed = memory.estimate(candidate.plan, self._spec, len(FIRST)).total
        while self._engines and needed + sum(footprint(engine.pid) for engine in self._engines.values()) > self._room:
            self._engines.pop(next(iter(self._engines))).close()
        engine = EngineClient(self._spec, replace(candidate.plan, adapt=False), python=self._python)
        self._engines[candidate] = engine
        return engine

    # -- work

    def _size(self, engine: EngineClient) -> Work:
        """Work for which a round of the rules' plan has the wanted duration."""
        plan = engine.plan
        together = 2 * plan.max_batch_size if self._spec.kind == "autoregressive" else plan.max_batch_size
        frames = self._frames(plan)
        work = Work(texts=together, frames=frames)
        began = time.perf_counter()
        self._busy(engine, 0, work)
        ratio = self._round_s / (time.perf_counter() - began)
        if frames is None:
            return Work(texts=max(together, min(_MOST_TEXTS, round(together * ratio))), frames=None)
        return Work(texts=together, frames=max(_LEAST_FRAMES, min(_MOST_FRAMES, round(frames * ratio))))

    def _frames(self, plan: Plan) -> int | None:
        return max(_LEAST_FRAMES, 2 * plan.first_frames) if self._spec.kind == "autoregressive" else None

    def _busy(self, engine: EngineClient, round_: int, work: Work) -> float:
        """RTF with as many concurrent requests as the plan admits."""

        def speak(number: int) -> Audio:
            return self._speak(engine, TEXTS[number % len(TEXTS)], round_ * _MOST_TEXTS + number, work.frames)

        together = min(work.texts, engine.plan.max_batch_size + min(engine.plan.max_queue, engine.plan.max_batch_size))
        began = time.perf_counter()
        with ThreadPoolExecutor(together) as readers:
            spoken = list(readers.map(speak, range(work.texts)))
        return (time.perf_counter() - began) / sum(audio.duration_s for audio in spoken)

    @staticmethod
    def _speak(engine: EngineClient, text: str, seed: int, frames: int | None) -> Audio:
        for draw in range(_DRAWS):
            sampling = SamplingParams(seed=seed + _LATER * draw)
            with suppress(BadAudio):
                return engine.submit(Request(text=text, sampling=sampling, max_frames=frames)).collect()
        raise ModelFailure(f"no audio for {text!r} with any of {_DRAWS} seeds")
