"""Trials for `saywell tune`: each candidate is a real engine in a worker process, given the same work as the others.

A worker that crashes or is killed for its memory is the end of that candidate and of nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median

from saywell.engine.worker.client import EngineClient
from saywell.errors import BadAudio, ModelFailure
from saywell.machine.process_memory import Peak, footprint
from saywell.plan import memory
from saywell.plan.plan import Plan
from saywell.tune.search import Sample
from saywell.tune.space import Candidate
from saywell.types import Audio, ModelSpec, Request, Samples, SamplingParams

TEXTS = (
    "The lighthouse keeper lit the lamp before the ships came home.",
    "A small boat crossed the bay while gulls circled over the harbour.",
    "She wrote down every number twice because the first list was lost.",
    "Nobody expected the old clock to strike again after all those years.",
    "Rain fell on the garden all night, and by morning the river had risen.",
    "He told the story slowly, as if each word were a stone to be put down.",
)
FIRST = "Good morning. The train to the north leaves in ten minutes."
_ROUND_SHARE = 50
"""A round should take no more than this part of the time there is."""
_LEAST_S, _MOST_S = 0.3, 6.0
"""Bounds of a round: shorter is noise, longer leaves time for too few."""
_LEAST_FRAMES, _MOST_FRAMES = 8, 86
"""Bounds of a sequence of an autoregressive model: enough to be a batch, no more than a sentence."""
_MOST_TEXTS = 96
_FIRSTS = 3
"""First sounds measured in a round, where they take a tenth of a second at most."""
_QUICK_S = 0.1
_DRAWS = 4
"""Seeds tried where a model with random weights ends a sentence too early."""
_TIMEOUT_S = 300.0
_LATER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What each round consists of."""

    texts: int
    """Spoken at once, as many as the plan lets in."""
    frames: int | None
    """Of each, for a model that would end by itself at no known time; None: to its end."""


class Trials:
    """A Rig: keeps the candidates of a race loaded together, as far as the memory goes."""

    def __init__(
        self,
        spec: ModelSpec,
        seconds: float,
        *,
        python: Path | None = None,
        room: int,
        alike: Callable[[Samples, Samples, int], str] | None = None,
    ) -> None:
        """`seconds`: the time for everything. `room`: bytes that loaded engines may take together. `alike`: given the
        sound of full precision, that of another and their rate, what speaks against the other; empty: nothing."""
        self._spec, self._python, self._room, self._alike = spec, python, room, alike
        self._round_s = min(_MOST_S, max(_LEAST_S, seconds / _ROUND_SHARE))
        self._engines: dict[Candidate, EngineClient] = {}
        self._peaks: dict[Candidate, int] = {}
        self._exact: Samples | None = None
        self._against: dict[str, str] = {}
        """Precision → what speaks against its sound; empty: nothing."""
        self._usual = ""
        """The precision of the first that ran: the rules'."""
        self._work: Work | None = None

    def hold(self, candidates: Sequence[Candidate]) -> None:
        for candidate in [each for each in self._engines if each not in candidates]:
            self._engines.pop(candidate).close()

    def run(self, candidate: Candidate, round_: int) -> Sample:
        """Raises SaywellError when the candidate cannot be loaded, fails, or sounds unlike full precision."""
        engine = self._engine(candidate)
        if self._work is None:
            self._work, self._usual = self._size(engine), candidate.plan.precision
        self._listen(candidate.plan, engine)
        with Peak(engine.pid) as peak:
            first = self._first(engine, round_)
            rtf = self._busy(engine, round_, self._work)
        self._peaks[candidate] = max(self._peaks.get(candidate, 0), peak.bytes)
        return Sample(rtf=rtf, first_s=first)

    def peak(self, candidate: Candidate) -> int:
        return self._peaks.get(candidate, 0)

    def close(self) -> None:
        self.hold(())

    # -- engines

    def _engine(self, candidate: Candidate) -> EngineClient:
        found = self._engines.get(candidate)
        if found is not None:
            return found
        needed = memory.estimate(candidate.plan, self._spec, len(FIRST)).total
        while self._engines and needed + self._held() > self._room:
            self._engines.pop(next(iter(self._engines))).close()
        self._engines[candidate] = engine = self._start(candidate.plan)
        return engine

    def _start(self, plan: Plan) -> EngineClient:
        """A warm engine: every slot has spoken. It keeps to its plan: its rivals would count as pressure."""
        engine = EngineClient(self._spec, replace(plan, adapt=False), python=self._python)
        try:
            engine.start()
            self._busy(engine, 0, Work(texts=plan.slots, frames=self._frames(plan)))
        except BaseException:
            engine.close()
            raise
        return engine

    def _held(self) -> int:
        return sum(footprint(engine.pid) for engine in self._engines.values())

    # -- work

    def _size(self, engine: EngineClient) -> Work:
        """So much that a round of the rules' plan takes about as long as it should."""
        plan = engine.plan
        together = 2 * plan.slots if self._spec.kind == "autoregressive" else plan.slots
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

    def _first(self, engine: EngineClient, round_: int) -> float:
        """Seconds to the first sound of a lone request."""
        found: list[float] = []
        for index in range(_FIRSTS):
            found.append(self._speak(engine, FIRST, round_ + index, self._frames(engine.plan)).summary.first_audio_s)
            if found[0] > _QUICK_S:
                break
        return median(found)

    def _busy(self, engine: EngineClient, round_: int, work: Work) -> float:
        """Seconds of work per second of audio, with as many requests at once as the plan lets in."""
        numbers = range(work.texts)
        together = min(work.texts, engine.plan.slots + min(engine.plan.queue, engine.plan.slots))
        began = time.perf_counter()
        with ThreadPoolExecutor(together) as readers:
            spoken = list(
                readers.map(
                    lambda n: self._speak(engine, TEXTS[n % len(TEXTS)], round_ * _MOST_TEXTS + n, work.frames), numbers
                )
            )
        return (time.perf_counter() - began) / sum(audio.duration_s for audio in spoken)

    @staticmethod
    def _speak(engine: EngineClient, text: str, seed: int, frames: int | None) -> Audio:
        for draw in count():
            sampling = SamplingParams(seed=seed + _LATER * draw)
            request = Request(text=text, sampling=sampling, max_frames=frames, timeout_s=_TIMEOUT_S)
            try:
                return engine.submit(request).collect()
            except BadAudio:
                if draw + 1 == _DRAWS:
                    raise
        raise AssertionError

    # -- sound

    def _listen(self, plan: Plan, engine: EngineClient) -> None:
        """Refuse a precision, other than the rules' own, that sounds unlike fp32.

        Only a model that says the same in the same time can be compared: one that draws its frames never does.
        """
        if self._alike is None or self._spec.kind == "autoregressive" or plan.precision in (self._usual, "fp32"):
            return
        if plan.precision not in self._against:
            exact = self._full_precision(plan)
            audio = self._speak(engine, FIRST, 0, None)
            self._against[plan.precision] = self._alike(exact, audio.samples, audio.sample_rate)
        if why := self._against[plan.precision]:
            raise ModelFailure(f"{plan.precision} sounds unlike full precision: {why}")

    def _full_precision(self, plan: Plan) -> Samples:
        if self._exact is None:
            engine = self._start(replace(plan, precision="fp32"))
            try:
                self._exact = self._speak(engine, FIRST, 0, None).samples
            finally:
                engine.close()
        return self._exact


def room(budget: int) -> int:
    """Bytes that engines under trial may take together: what the plan may use at all, less a fifth for others."""
    return budget * 4 // 5
