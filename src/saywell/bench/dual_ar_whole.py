"""The DualAR family end to end on this CPU: loading, memory, first sound, one sentence, a long text, many listeners.

The real engine in a process of its own, with the plan this machine gets. First the ceiling: the time the transformers'
weights take to be read and the codec's arithmetic takes to be done, one after the other, for both want all cores. A
sequence is cut off after so many frames, so that random weights, which never end a sentence, say as much as real ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console

from saywell.bench import dual_ar_report as report
from saywell.bench.alone import alone
from saywell.bench.dual_ar_ar import read_rate, weight_bytes
from saywell.bench.dual_ar_codec import arithmetic, product_rate
from saywell.bench.watch import Watch, memory, proportional
from saywell.engine.engine import Engine
from saywell.engine.launch import decide
from saywell.engine.stream import Stream
from saywell.errors import BadAudio
from saywell.models.base import DecodeJob, Model, load_family
from saywell.models.dual_ar.ar_files import fast_file, slow_file
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.speakers import PRECISION, model_digest
from saywell.plan import Plan
from saywell.settings import load_settings
from saywell.types import Frame, Request, Samples, SamplingParams, Summary
from saywell.types import Sequence as Spoken
from saywell.voices import VoiceStore

T = TypeVar("T")
ONLY = ("first", "long", "text", "batch")
LOOKAHEADS = (1, 2, 4, 8)
STREAMS = 8
BATCHES = (1, 2, 4, 8, 16)
TEXTS = (100, 300, 1000, 5000)
VOICE, TRANSCRIPT = "bench", "The parcel came on a wet Tuesday, and nobody in the house had any idea who had sent it."
VOICE_S = 10.0
SENTENCES = (
    "The lighthouse keeper lit the lamp before the ships came home through fog.",
    "A small boat crossed the bay while gulls circled over the empty harbour.",
    "She wrote down every number twice because the first list had been lost.",
    "Nobody expected the old clock to strike again after all of those years.",
    "Bring two loaves of bread and some butter from the shop at the corner.",
    "The train to the north was late so we drank our coffee in the station.",
    "Rain fell on the garden all night and by morning the river had risen.",
    "He told the story slowly as if each word were a stone to be put down.",
    "In the market they sold apples and rope and a great many old lanterns.",
)
"""Of one length, each one chunk: neither longer than a first chunk nor with a clause to cut it at."""
_TRIES = 4
"""Draws of a sentence that random weights may end too early."""


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
    only: tuple[str, ...] = ONLY

    def wishes(self, **more: Any) -> dict[str, Any]:
        mine = {"precision": self.precision, "executor": self.executor, "threads": self.threads}
        return {"model": str(self.model), "data_dir": self.data, "adapt": False, **mine, **more}


class Clocked:
    """A model that counts the seconds spent in each of its calls."""

    def __init__(self, model: Model) -> None:
        self.spec, self._model = model.spec, model
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.voices, self.prepare, self.adapt = model.voices, model.prepare, model.adapt
        self.release, self.close = model.release, model.close

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
        for each in range(seed, seed + _TRIES):
            self.model.spent.clear()
            try:
                with Watch() as watch:
                    found = self._collect(texts, frames, each * 1000)
                return self._row(found, watch)
            except BadAudio:  # an end too early, by chance: another draw
                continue
        raise BadAudio(f"random weights ended a sentence too early {_TRIES} times; give --model a trained one")

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


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executor", choices=("onnx", "openvino"), help="of the codec (default: by the plan)")
    parser.add_argument("--only", action="append", choices=ONLY, help="this of the whole part; may repeat")
    parser.add_argument("--frames", type=int, default=172, help="of a sentence (default 172, 8 s)")
    parser.add_argument("--quick", action="store_true", help="shorter sentences, fewer of them")


def main(args: list[str]) -> int:
    """Run it alone. 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="saywell bench dual_ar_whole", description=__doc__)
    parser.add_argument("model", type=Path, help="a converted model")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", type=int)
    add_options(parser)
    parser.add_argument("--plots", type=Path, help="directory for PNG files")
    options = parser.parse_args(args)
    result = measure(options.model, options.precision, options)
    if options.plots:
        report.plot({"whole": result}, options.plots)
    print(json.dumps({"bench": "dual_ar_whole", "machine": report.machine(), **result}))  # noqa: T201
    return 0 if met(result) else 1


def measure(model: Path, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Everything asked for, printed as it comes."""
    with tempfile.TemporaryDirectory(prefix="saywell-bench-") as folder:
        setup = Setup(
            model=model,
            data=Path(folder),
            precision=precision,
            executor=options.executor,
            threads=options.threads or None,
            frames=options.frames,
            only=tuple(options.only or ONLY),
        )
        if options.quick:
            setup = replace(setup, frames=min(64, setup.frames), short=16, repeats=1, firsts=10)
        save_voice(setup)
        return figures(setup)


def figures(setup: Setup) -> dict[str, Any]:
    """The ceiling, then each part asked for."""
    console = Console(width=120)
    found: dict[str, Any] = {"precision": setup.precision, "ceiling": ceiling(setup)}
    report.show_ceiling(console, found["ceiling"])
    if "first" in setup.only:
        found.update(alone(first, setup))
        report.show_first(console, found)
    if "long" in setup.only:
        found["long"] = [alone(long, setup, lookahead) for lookahead in LOOKAHEADS]
        report.show_rows(console, "A text of nine sentences, so many side by side", "lookahead", found["long"])
    if "batch" in setup.only:
        found["batch"] = alone(batches, setup)
        report.show_rows(console, "Requests at once, one sentence each", "streams", found["batch"])
    if "text" in setup.only:
        found["text"] = alone(texts, setup)
        report.show_rows(console, f"Length of the text, {setup.short} frames a sentence", "chars", found["text"])
    found["goals"] = report.goals(found)
    report.show_goals(console, found["goals"])
    return found


def met(result: dict[str, Any]) -> bool:
    """Whether every goal that was measured is reached."""
    return all(goal["met"] for goal in result["goals"])


def save_voice(setup: Setup) -> None:
    """A voice of ten seconds of random codes, where the engine finds it."""
    config = Config.read(setup.model)
    store = VoiceStore(setup.data / "voices", model_digest(setup.model), PRECISION)
    top = min(config.codec.book_size(book) for book in range(config.num_codebooks))
    shape = (config.num_codebooks, round(VOICE_S * config.codec.frame_rate))
    store.save(VOICE, TRANSCRIPT, np.random.default_rng(0).integers(0, top, shape))


def ceiling(setup: Setup) -> dict[str, Any]:
    """What memory and arithmetic allow, measured now: seconds per second of audio, alone and with all streams."""
    plan = decide(load_settings(setup.wishes())).plan
    config, threads, precision = Config.read(setup.model), plan.threads, setup.precision
    kind = "fp32" if plan.convolutions == "winograd" else plan.convolutions
    bandwidth, rate = alone(read_rate, threads), alone(product_rate, kind, threads)
    slow, fast = (alone(weight_bytes, setup.model / name) for name in _graphs(precision))
    frame_s = (slow + fast * (config.num_codebooks - 1)) / bandwidth / 1e9
    gflop, frames = arithmetic(config.codec, fewer=plan.convolutions == "winograd"), config.codec.frame_rate
    ar, codec = frame_s * frames, gflop / rate
    return {
        "gb_per_s": round(bandwidth, 1),
        "frame_ms": round(frame_s * 1e3, 2),
        "convolutions": plan.convolutions,
        "arithmetic": kind,
        "gflops": round(rate),
        "gflop_per_audio_s": round(gflop, 2),
        "executor": plan.executor,
        "threads": threads,
        "ar": round(ar, 4),
        "codec": round(codec, 4),
        "one": round(ar + codec, 4),
        "streams": round(ar / STREAMS + codec, 4),
        "first_s": round((1 + plan.first_frames) * frame_s + plan.first_frames / frames * codec, 4),
    }


def _graphs(precision: str) -> tuple[str, str]:
    return slow_file(precision, "fp32"), fast_file(precision)


# Each of these runs in a process of its own


def first(setup: Setup) -> dict[str, Any]:
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
