"""The family end to end: loading, memory, first sound, one sentence, a long text, many listeners.

The real engine in a process of its own, with the plan this machine gets. A sequence is cut off after so many frames, so
that random weights, which never end a sentence, say as much as real ones.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from saywell.bench.dual_ar_ceiling import STREAMS
from saywell.bench.setting import SENTENCES, TRIES
from saywell.bench.watch import Watch, memory, proportional
from saywell.engine.engine import Engine
from saywell.engine.launch import decide
from saywell.engine.stream import Stream
from saywell.errors import BadAudio
from saywell.models.base import DecodeJob, Model, load_family
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.speakers import state_of, voice_store
from saywell.plan.plan import Plan
from saywell.settings import load_settings
from saywell.types import Frame, Request, Samples, SamplingParams, Summary
from saywell.types import Sequence as Spoken

T = TypeVar("T")
LOOKAHEADS = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16)
TEXTS = (100, 300, 1000, 5000)
VOICE, TRANSCRIPT = "bench", "The parcel came on a wet Tuesday, and nobody in the house had any idea who had sent it."
VOICE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is measured, and how much of it."""

    model: Path
    data: Path
    """Where the voice is kept."""
    precision: str = "int8"
    executor: str | None = None
    """None: by the plan."""
    threads: int | None = None
    frames: int = 172
    """Of each sentence: 8 s."""
    short: int = 43
    """Of each sentence where only growth counts: 2 s."""
    repeats: int = 3
    firsts: int = 12
    """First sounds measured."""

    def wishes(self, **more: Any) -> dict[str, Any]:
        mine = {"precision": self.precision, "executor": self.executor, "threads": self.threads}
        return {"model": str(self.model), "data_dir": self.data, "adapt": False, **mine, **more}


class Clocked:
    """A model that counts the seconds spent in each of its calls."""

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

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        return self._timed("codec", lambda: self._model.decode(jobs))

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        found = work()
        self.spent[name] += time.perf_counter() - began
        return found


class Session:
    """A running engine with clocks on its model."""

    def __init__(self, setup: Setup, **wishes: Any) -> None:
        decision = decide(load_settings(setup.wishes(**wishes)))
        self.plan = decision.plan
        self.engine = Engine(decision.spec, decision.plan, self._load)
        self._decision = decision
        with Watch() as self.loading:
            self.engine.start()

    def _load(self, plan: Plan) -> Model:
        spec = self._decision.spec
        self.model = Clocked(load_family(spec.family).load(spec, plan))
        return self.model

    def speak(self, texts: Sequence[str], frames: int, seed: int = 0) -> dict[str, Any]:
        """All texts at once, each sequence `frames` long; what it took. Seconds."""
        for each in range(seed, seed + TRIES):
            self.model.spent.clear()
            try:
                with Watch() as watch:
                    found = self._collect(texts, frames, each * 1000)
                return self._row(found, watch)
            except BadAudio:  # an end too early, by chance: another draw
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

    def _row(self, found: list[Summary], watch: Watch) -> dict[str, Any]:
        spent, audio_s = self.model.spent, sum(each.audio_s for each in found)
        parts = {name: spent[name] / audio_s for name in ("prefill", "ar", "codec")}
        rtf = watch.seconds / audio_s
        return {
            "rtf": round(rtf, 4),
            **{name: round(each, 4) for name, each in parts.items()},
            "rest": round(rtf - sum(parts.values()), 4),
            "audio_s": round(audio_s, 2),
            "sequences": sum(each.sequences for each in found),
            "mean_batch": round(sum(each.frames for each in found) / spent["steps"], 2),
            "first_s": round(statistics.median(each.first_audio_s for each in found), 4),
            "peak_mb": watch.peak,
            "others": watch.others,
        }


def save_voice(setup: Setup) -> None:
    """A voice of ten seconds of random codes, where the engine finds it."""
    config = Config.read(setup.model)
    decision = decide(load_settings(setup.wishes()))
    top = min(config.codec.book_size(book) for book in range(config.num_codebooks))
    shape = (config.num_codebooks, round(VOICE_S * config.codec.frame_rate))
    codes = np.random.default_rng(0).integers(0, top, shape)
    voice_store(decision.spec, decision.plan).save(VOICE, state_of(codes, TRANSCRIPT))


def plan_of(setup: Setup) -> Plan:
    """What this machine is given for it."""
    return decide(load_settings(setup.wishes())).plan


# Each of these runs in a process of its own


def speech(setup: Setup) -> dict[str, Any]:
    """Loading, memory, first sounds, one sentence, eight at once: one engine, the plan as it is."""
    session = Session(setup)
    load = {"load_s": round(session.loading.seconds, 3), "loaded_mb": memory(), "loaded_pss_mb": proportional()}
    load["load_peak_mb"] = session.loading.peak["rss"]
    cold = session.speak(SENTENCES[:1], session.plan.first_frames)
    warm = [session.speak([SENTENCES[n % 9]], 3 * session.plan.first_frames, seed=n) for n in range(setup.firsts)]
    begin = [session.speak([SENTENCES[n % 9]], session.plan.first_frames, seed=n) for n in range(setup.repeats)]
    one = _median([session.speak([SENTENCES[n % 9]], setup.frames, seed=n) for n in range(setup.repeats)])
    speaking = {"pss_mb": proportional(), **one["peak_mb"]}
    many = session.speak(_many(STREAMS), setup.frames)
    session.engine.close()
    times = sorted(row["first_s"] for row in warm)
    return {
        "plan": _brief(session.plan),
        "load": {**load, "speaking_mb": speaking},
        "first": {
            "cold_s": cold["first_s"],
            "median_s": round(statistics.median(times), 4),
            "worst_s": times[-1],
            "n": len(times),
            "parts_s": _parts(_median(begin)),
            "others": max(row["others"] for row in warm),
        },
        "one": one,
        "streams": {"streams": STREAMS, **many},
    }


def long(setup: Setup, lookahead: int) -> dict[str, Any]:
    """One text whose sentences run side by side."""
    session = Session(setup, lookahead=lookahead, slots=max(8, lookahead))
    session.speak(SENTENCES[:1], 4)
    row = session.speak([" ".join(SENTENCES)], setup.frames)
    session.engine.close()
    return {"lookahead": lookahead, **row}


def texts(setup: Setup) -> list[dict[str, Any]]:
    """Texts of growing length."""
    session = Session(setup)
    session.speak(SENTENCES[:1], 4)
    whole = " ".join(SENTENCES * (1 + max(TEXTS) // len(" ".join(SENTENCES))))
    rows = [{"chars": size, **session.speak([whole[:size]], setup.short)} for size in TEXTS]
    session.engine.close()
    return rows


def batches(setup: Setup) -> list[dict[str, Any]]:
    """Requests at once, up to sixteen."""
    session = Session(setup, slots=max(BATCHES))
    session.speak(SENTENCES[:1], 4)
    rows = [{"streams": count, **session.speak(_many(count), setup.frames // 2)} for count in BATCHES]
    session.engine.close()
    return rows


def _many(count: int) -> list[str]:
    return [SENTENCES[index % len(SENTENCES)] for index in range(count)]


def _median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row in the middle, by RTF."""
    return sorted(rows, key=lambda row: float(row["rtf"]))[(len(rows) - 1) // 2]


def _parts(row: dict[str, Any]) -> dict[str, float]:
    return {name: round(row[name] * row["audio_s"], 4) for name in ("prefill", "ar", "codec", "rest")}


def _brief(plan: Plan) -> dict[str, Any]:
    names = (
        "executor",
        "convolutions",
        "precision",
        "activation_bits",
        "threads",
        "slots",
        "lookahead",
        "first_frames",
        "chunk_frames",
        "chunk_chars",
    )
    return {name: getattr(plan, name) for name in names}
