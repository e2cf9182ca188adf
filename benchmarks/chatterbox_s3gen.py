"""S3Gen's decoder at full size, with random weights: equality with chatterbox-tts, arithmetic, speed and windows.

    python -m benchmarks.chatterbox_s3gen FOLDER [--python INTERPRETER] [--threads 1] [--turns 2]

FOLDER keeps the stand-ins (2 GB). INTERPRETER has chatterbox-tts 0.1.7; it runs `tests/reference/chatterbox_s3gen.py`,
in turns with ours. Times are CPU seconds with one thread, else seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import random_s3gen
from benchmarks.random_tensors import tensor
from saywell.bench.speed import alone
from saywell.graphs import winograd
from saywell.graphs.linears import Format, Judge, Linears
from saywell.graphs.numerics import Floats
from saywell.graphs.writer import TRANSFORMER, External, GraphWriter
from saywell.models.chatterbox.s3gen.config import MEANFLOW, STANDARD, S3GenConfig
from saywell.models.chatterbox.s3gen.files import CONFIG, VOCODER, Precision, estimator_file
from saywell.models.chatterbox.s3gen.graphs.build import build
from saywell.models.chatterbox.s3gen.graphs.waves import OUTPUTS
from saywell.models.chatterbox.s3gen.layout import ESTIMATOR, tensors
from saywell.models.chatterbox.s3gen.runtime import Decoder, Voice, Windows, completed
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph

KINDS = {"standard": STANDARD, "meanflow": MEANFLOW}
SEED, PROMPT, TOKENS = 7, 125, 125
"""As in the reference: 5 s of prompt, 5 s of speech."""
WHOLE = Windows(sizes=())
PLANS = {
    "whole": WHOLE,
    "25, 50, 100": Windows(),
    "50": Windows(sizes=(50,)),
    "25, 100": Windows(sizes=(25, 100)),
    "25, 50, 100, 200": Windows(sizes=(25, 50, 100, 200)),
    "25, 50, 100; prompt 75": Windows(prompt=75),
    "25, 50, 100; context 0": Windows(context=0),
}
LENGTHS = (250, 500, 1000)
"""Frames for which a step of the flow is timed."""
SPEECH_S, PROMPTS_S = 10, (5, 10)
_PRODUCT, _PRODUCTS = 1024, 8
"""Size of the matrices, and number of products in a row."""
_NEAR = 240
"""Samples on each side of a seam between outputs of the vocoder."""


# -- Arithmetic
def step_gflop(c: S3GenConfig, frames: int) -> tuple[float, float]:
    """Of one entry of a step of the flow: layers with weights of int8 under int8; all else."""
    inner, count = c.flow_heads * c.head_dim, (c.mid_stages + 2) * c.flow_blocks
    linear, rest = 0.0, 4.0 * frames * frames * inner * count
    for name, shape in tensors(c).items():
        if name.startswith(ESTIMATOR) and len(shape) > 1 and "mlp" not in name and "time" not in name:
            work = 2.0 * math.prod(shape) * frames
            linear, rest = (linear + work, rest) if ".1." in name else (linear, rest + work)
    return linear / 1e9, rest / 1e9


def vocoder_gflop(c: S3GenConfig) -> tuple[float, float]:
    """Of a second of audio: as published, and with fewer products."""
    v, plain, fewer = c.vocoder, 0.0, 0.0
    frames = c.token_rate * c.frames
    for name, shape in tensors(c).items():
        if not name.startswith("mel2wav.") or len(shape) < 3 or shape[-1] == 1:
            continue
        part, index = name.split(".")[1:3]
        rate = float(frames)
        if part in ("source_resblocks", "resblocks", "source_downs"):
            level = int(index) // (len(v.block_kernels) if part == "resblocks" else 1)
            rate *= math.prod(v.rates[: level + 1])
        elif part == "ups":
            rate *= math.prod(v.rates[: int(index)])
        elif part == "conv_post":
            rate *= math.prod(v.rates)
        work = 2 * math.prod(shape) * rate
        plain += work
        fewer += work * (_share(shape[-1]) if part.endswith("resblocks") else 1)
    return plain / 1e9, fewer / 1e9


def _share(taps: int) -> float:
    size = len(winograd.transforms(OUTPUTS[taps], taps).before)
    return size / (OUTPUTS[taps] * taps)


# -- Timing
def product_rate(fmt: Format, threads: int) -> float:
    """GFLOP/s of large matrix products, timed as all else here: `ceiling.product_rate` needs an idle machine."""
    with tempfile.TemporaryDirectory() as folder:
        external = External(Path(folder) / "data")
        g = GraphWriter("products", TRANSFORMER, external)
        y = g.input("x", (_PRODUCT, _PRODUCT))
        linear = Linears(g, fmt, y, Judge({}))
        for index in range(_PRODUCTS):
            y = linear(y, f"w{index}", tensor(f"w{index}", (_PRODUCT, _PRODUCT)))
        g.output("y", g.op("ReduceMean", y, keepdims=1), (1, 1))
        external.close()
        path = Path(folder) / "products.onnx"
        path.write_bytes(g.model().SerializeToString())
        graph = Graph(path, Threading(threads=threads))
        feeds = {"x": tensor("x", (_PRODUCT, _PRODUCT))}
        return 2e-9 * _PRODUCT**3 * _PRODUCTS / Bench(Path(folder), threads).timed(lambda: graph.run(feeds), 5)


def spent(threads: int) -> float:
    return time.process_time() if threads == 1 else time.perf_counter()


@dataclass(frozen=True)
class Bench:
    folder: Path
    threads: int

    def decoder(self, kind: str, precision: Precision, windows: Windows) -> Decoder:
        return Decoder(self.folder / kind, precision, Threading(threads=self.threads), windows=windows)

    def timed(self, work: Callable[[], Any], turns: int) -> float:
        work()
        seconds = []
        for _ in range(turns):
            start = spent(self.threads)
            work()
            seconds.append(spent(self.threads) - start)
        return min(seconds)


def voice(config: S3GenConfig, tokens: int = PROMPT) -> Voice:
    return Voice(*random_s3gen.voice(config, tokens))


def stand_ins(folder: Path) -> None:
    for kind, config in KINDS.items():
        directory = folder / kind
        if not (directory / CONFIG).is_file():
            directory.mkdir(parents=True, exist_ok=True)
            build(random_s3gen.weights(config), config, directory)


def whole(bench: Bench, kind: str, precision: Precision) -> dict[str, Any]:
    """A sequence in one window: seconds of flow and vocoder, and what they made."""
    decoder = bench.decoder(kind, precision, WHOLE)
    for _ in range(2 if decoder.config.meanflow else 1):  # the first step allocates memory
        state = decoder.start(voice(decoder.config), SEED)
        state.tokens = random_s3gen.speech(decoder.config, TOKENS)
        start = spent(bench.threads)
        state.mel = completed(decoder._flow(state, TOKENS, 0))
        flowed = spent(bench.threads)
        samples = decoder._speak(state, True)
        ended = spent(bench.threads)
    return {"flow_s": flowed - start, "vocoder_s": ended - flowed, "mel": state.mel, "samples": samples,
            "rss_mb": psutil.Process().memory_info().rss >> 20}  # fmt: skip


def reference(python: str, folder: Path, threads: int) -> dict[str, dict[str, Floats]]:
    """What the real modules make of the same, and their seconds."""
    command = [python, "-m", "tests.reference.chatterbox_s3gen", "--full", str(folder), "--threads", str(threads)]
    paths = os.pathsep.join(["src", "."])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths}, capture_output=True)
    return {kind: dict(np.load(folder / f"{kind}.npz")) for kind in KINDS}


def compare(bench: Bench, python: str | None, turns: int) -> Iterator[dict[str, Any]]:
    """Speed and equality, in turns."""
    formats: dict[str, Format] = {"fp32": "fp32", "int8": "w8a8"}
    rates = {kind: float(alone(product_rate, fmt, bench.threads)) for kind, fmt in formats.items()}
    yield {"what": "peak", "threads": bench.threads, **{f"{k}_gflops": round(v) for k, v in rates.items()}}
    ours: dict[tuple[str, Precision], dict[str, Any]] = {}
    theirs: dict[str, dict[str, Floats]] = {}
    for _ in range(turns):
        for kind in KINDS:
            for precision in ("fp32", "int8"):
                one = alone(whole, bench, kind, precision)
                before = ours.get((kind, precision), one)
                ours[kind, precision] = one | {name: min(one[name], before[name]) for name in ("flow_s", "vocoder_s")}
        if python:
            made = reference(python, bench.folder / "reference", bench.threads)
            theirs = {kind: _faster(made[kind], theirs.get(kind)) for kind in KINDS}
    for (kind, precision), one in ours.items():
        yield _row(bench, kind, precision, one, ours[kind, "fp32"], rates, theirs.get(kind))


def _faster(one: dict[str, Floats], other: dict[str, Floats] | None) -> dict[str, Floats]:
    return one | {"seconds": np.minimum(one["seconds"], other["seconds"] if other else np.inf)}


def _row(
    bench: Bench,
    kind: str,
    precision: Precision,
    one: dict[str, Any],
    exact: dict[str, Any],
    rates: dict[str, float],
    real: dict[str, Floats] | None,
) -> dict[str, Any]:
    config, seconds = KINDS[kind], TOKENS / STANDARD.token_rate
    linear, rest = step_gflop(config, config.frames * (PROMPT + TOKENS))
    entries = config.steps * (1 if config.meanflow else 2)
    bound = entries * (linear / rates["int8" if precision == "int8" else "fp32"] + rest / rates["fp32"])
    plain, fewer = (seconds * each for each in vocoder_gflop(config))
    row = {
        "what": "whole", "kind": kind, "precision": precision,
        "flow_gflop_per_s": round(entries * (linear + rest) / seconds, 1), "flow_s_per_s": one["flow_s"] / seconds,
        "flow_of_bound": bound / one["flow_s"], "vocoder_gflop_per_s": round(plain / seconds, 1),
        "vocoder_gflop_fewer": round(fewer / seconds, 1), "vocoder_s_per_s": one["vocoder_s"] / seconds,
        "vocoder_of_bound": plain / rates["fp32"] / one["vocoder_s"],
        "vocoder_of_bound_fewer": fewer / rates["fp32"] / one["vocoder_s"], "rss_mb": one["rss_mb"],
    }  # fmt: skip
    if precision == "int8":
        row |= {"mel_snr_db": _snr(exact["mel"], one["mel"]), "mel_l1": float(np.abs(exact["mel"] - one["mel"]).mean()),
                "mel_std": float(exact["mel"].std())}  # fmt: skip
    if real is not None:
        wall, cpu = real["seconds"][:2], real["seconds"][2:]
        flow, vocoder = map(float, cpu if bench.threads == 1 else wall)
        row |= {"torch_flow": flow / one["flow_s"], "torch_vocoder": vocoder / one["vocoder_s"]}
        if precision == "fp32":
            row |= _equality(bench, kind, one, real)
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}


def _equality(bench: Bench, kind: str, one: dict[str, Any], real: dict[str, Floats]) -> dict[str, float]:
    """Largest differences from the real modules."""
    config, directory = KINDS[kind], bench.folder / kind
    graph = partial(Graph, threading=Threading(threads=bench.threads))
    frames = config.frames * (PROMPT + TOKENS)
    rows = {name: tensor(name, (2, config.mel, frames), SEED) for name in ("x", "mu", "cond")}
    feeds = {name: np.ascontiguousarray(each.transpose(0, 2, 1)) for name, each in rows.items()}
    times = {"t": np.array([0.3], np.float32), "r": np.array([0.7], np.float32)}
    feeds |= {name: times[name] for name in ("t", "r")[: 1 + config.meanflow]}
    (slope,) = graph(directory / estimator_file("fp32")).run(
        feeds | {"speaker": tensor("speaker", (2, config.mel), SEED)}
    )
    given = {"mel": np.ascontiguousarray(real["mel"][0].T), "source": real["source"].reshape(-1)}
    (samples,) = graph(directory / VOCODER).run(given)
    decoder = bench.decoder(kind, "fp32", WHOLE)
    speaker = voice(config)
    ids = np.concatenate([speaker.tokens, random_s3gen.speech(config, TOKENS)])
    mu, _ = decoder._encoder.run({"tokens": ids[None], "xvector": speaker.xvector[None]})
    pairs = {
        "mu": (mu, real["mu"]), "dxdt": (slope.transpose(0, 2, 1), real["dxdt"]), "mel": (one["mel"].T, real["mel"][0]),
        "vocoder": (samples, real["samples"][0]),
    }  # fmt: skip
    found = {f"max_{name}": float(np.abs(a - b).max()) for name, (a, b) in pairs.items()}
    return found | {"vocoder_snr_db": _snr(real["samples"][0], samples)}


def _snr(exact: Floats, other: Floats) -> float:
    return round(float(10 * np.log10(np.mean(exact**2) / np.mean((exact - other) ** 2))), 1)


# -- Windows
def windows(bench: Bench, turns: int) -> Iterator[dict[str, Any]]:
    """What each plan costs for `SPEECH_S` of speech, from measured steps, and when its first window is done."""
    for kind, config in KINDS.items():
        for precision in ("fp32", "int8"):
            cost = alone(_costs, bench, kind, precision, turns)
            for prompt_s in PROMPTS_S:
                for name, plan in PLANS.items():
                    yield {"what": "windows", "kind": kind, "precision": precision, "prompt_s": prompt_s, "plan": name,
                           **_plan(config, plan, prompt_s, cost)}  # fmt: skip


def _costs(bench: Bench, kind: str, precision: Precision, turns: int) -> dict[str, list[float]]:
    """Polynomials in the number of frames: seconds of the encoder, of a step, of the vocoder."""
    decoder, config = bench.decoder(kind, precision, WHOLE), KINDS[kind]
    found: dict[str, list[float]] = {"encoder": [], "step": [], "vocoder": []}
    for frames in LENGTHS:
        x = tensor("x", (1 if config.meanflow else 2, frames, config.mel))
        times = {name: np.array([0.5], np.float32) for name in ("t", "r")[: 1 + config.meanflow]}
        feeds = {"x": x, "mu": x, "cond": x, "speaker": x[:, 0], **times}
        ids = random_s3gen.speech(config, frames // config.frames)[None]
        tokens = {"tokens": ids, "xvector": tensor("v", (1, config.speaker))}
        sound = {"mel": x[0], "source": tensor("s", (frames * config.frame,)) * np.float32(0.05)}
        found["encoder"].append(bench.timed(partial(decoder._encoder.run, tokens), turns))
        found["step"].append(bench.timed(partial(decoder._estimator.run, feeds), turns))
        found["vocoder"].append(bench.timed(partial(decoder._vocoder.run, sound), turns))
    return {name: list(np.polyfit([0, *LENGTHS], [0, *times], 2)) for name, times in found.items()}


def _plan(config: S3GenConfig, plan: Windows, prompt_s: int, cost: dict[str, list[float]]) -> dict[str, Any]:
    total, first, start, spoken = 0.0, None, 0, 0
    tokens, prompt = SPEECH_S * config.token_rate, prompt_s * config.token_rate
    prompt = min(prompt, plan.prompt) if plan.prompt else prompt
    number, reach = 0, config.vocoder.reach
    while start < tokens:
        size = plan.size(number) or tokens
        stop = min(tokens, start + size)
        frames = config.frames * (prompt + min(start, plan.context) + stop - start)
        made = config.frames * stop - (0 if stop == tokens else reach + config.vocoder.f0_layers)
        heard = made - spoken + min(spoken, reach) + (0 if stop == tokens else reach)
        seconds = float(np.polyval(cost["encoder"], frames) + config.steps * np.polyval(cost["step"], frames))
        total += seconds + float(np.polyval(cost["vocoder"], heard))
        if first is None:
            first = {"first_s": round(total, 3), "first_audio_s": round(made * config.frame / config.sample_rate, 2)}
        start, spoken, number = stop, made, number + 1
    return {"s_per_s": round(total / SPEECH_S, 3), "windows": number, **(first or {})}


def seams(bench: Bench) -> Iterator[dict[str, Any]]:
    """How far windowed speech is from whole speech, and whether its seams stand out. Random weights."""
    config, tokens = MEANFLOW, 250
    speech, speaker = random_s3gen.speech(config, tokens), voice(config)
    decoders = {name: bench.decoder("meanflow", "int8", plan) for name, plan in PLANS.items()}

    def made(name: str, seed: int = SEED) -> tuple[Floats, Floats]:
        state = decoders[name].start(speaker, seed)
        return decoders[name].decode(state, speech, last=True), state.mel

    _, mel = made("whole")
    _, another = made("whole", SEED + 1)
    yield {"what": "seams", "plan": "whole, another seed", "mel_l1": round(float(np.abs(mel - another).mean()), 3)}
    for name, plan in PLANS.items():
        if plan is WHOLE:
            continue
        samples, windowed = made(name)
        ends = np.cumsum([plan.size(number) for number in range(tokens)])
        frames = config.frames * ends[ends + config.look_ahead <= tokens]
        jumps = np.abs(np.diff(windowed, axis=0)).mean(axis=1)
        state = decoders[name].start(speaker, SEED)
        state.mel = windowed
        exact = decoders[name]._speak(state, True)
        heard = (frames - config.vocoder.reach - config.vocoder.f0_layers) * config.frame
        near = (heard[:, None] + np.arange(-_NEAR, _NEAR)).reshape(-1)
        yield {"what": "seams", "plan": name, "mel_l1": round(float(np.abs(mel - windowed).mean()), 3),
               "mel_jump": round(float(jumps[frames - 1].mean() / jumps.mean()), 2), "snr_db": _snr(exact, samples),
               "near_seams_db": _snr(exact[near], samples[near])}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=["whole", "windows", "seams"])
    args = parser.parse_args()
    stand_ins(args.folder)
    bench = Bench(args.folder, args.threads)
    parts = {
        "whole": partial(compare, bench, args.python, args.turns),
        "windows": partial(windows, bench, args.turns),
        "seams": partial(seams, bench),
    }
    for part in args.parts:
        for row in parts[part]():
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
