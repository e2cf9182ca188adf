"""T3 of Chatterbox at full size with random weights: tokens a second, and the distance from the real modules.

The graphs are written into FOLDER, and used again if they are there. Then, each in a process of its own: `speed` (a
step over precision, guidance and batch, at a context of 400 positions, beside the bound that reading weights, keys and
values sets), `agreement` (lower precisions fed the tokens of fp32, which must be there), and with `--reference PYTHON`,
an interpreter that has chatterbox-tts, `parity` (tokens and seconds of the real modules and of ours for the same text).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import random_t3
from benchmarks.random_t3 import CASES, FULL, Case, StandIn
from saywell.bench import report
from saywell.bench.speed import alone, read_rate
from saywell.graphs.numerics import Floats
from saywell.machine import detect
from saywell.models.chatterbox.t3.config import T3Config
from saywell.models.chatterbox.t3.cost import bytes_read, position_bytes
from saywell.models.chatterbox.t3.files import PRECISIONS, graph_file
from saywell.models.chatterbox.t3.runtime import Running, T3Runtime
from saywell.models.chatterbox.t3.sampling import guided
from saywell.runtimes.base import Threading
from saywell.runtimes.kv_cache import Prefix

CONTEXT = 400
"""Positions in the middle of a sentence of 280 characters: voice, text, and half of its speech."""
BATCHES = (1, 4)
_FRAMES = 20
_WARM = 3
Row = dict[str, Any]


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chatterbox_t3", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", choices=FULL, help="may repeat (default: english and turbo)")
    parser.add_argument("--reference", type=Path, metavar="PYTHON", help="an interpreter that has chatterbox-tts")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="may repeat (default: all)")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="may repeat (default: all)")
    parser.add_argument("--tokens", type=int, default=48, help="of parity and agreement (default: 48)")
    parser.add_argument("--threads", type=int, default=detect().usable_cores)
    options = parser.parse_args(args)
    console = Console(width=140)
    found: dict[str, dict[str, list[Row]]] = {}
    precisions = options.precision or PRECISIONS
    for model in options.model or ["english", "turbo"]:
        path = options.folder / model
        alone(write, model, path, precisions, options.threads)
        found[model] = {}
        for name, section in SECTIONS.items():
            if name in (options.section or SECTIONS):
                found[model][name] = rows = section(model, path, precisions, options)
                report.show(console, rows, f"{model}: {name}")
    print(json.dumps({"bench": "chatterbox-t3", "machine": report.machine(), **found}))


def write(model: str, path: Path, precisions: Sequence[str], threads: int) -> None:
    """The graphs of these precisions, unless they are there."""
    from saywell.graphs.linears import Judge
    from saywell.models.chatterbox.t3 import calibrate, graph  # building needs onnx, running does not

    config = FULL[model]
    weights = StandIn(config)
    path.mkdir(parents=True, exist_ok=True)
    prompts = [
        calibrate.Prompt(*random_t3.voice(config, 60, seed), 0.5, random_t3.text(config, 40, seed))
        for seed in range(50, 58)
    ]
    for precision in precisions:
        if (path / graph_file(precision, "fp32")).exists():
            continue
        graph.build_tables(config, weights, path)
        graph.build(config, weights, path, precision, Judge({}))
        if precision != "fp32":
            calibrate.write_scales(path, path, precision, prompts, threads)


def _runtime(path: Path, precision: str, threads: int, slots: int, cache: str = "") -> T3Runtime:
    cache = cache or ("fp32" if precision == "fp32" else "int8")
    bits = 8 if "exact-int8" in detect().traits else 7
    return T3Runtime(
        path, precision, Threading(threads=threads), slots=slots, max_len=800, cache=cache, activation_bits=bits
    )


# Speed ----------------------------------------------------------------------------------------------------------------


def speed(model: str, path: Path, precisions: Sequence[str], options: argparse.Namespace) -> list[Row]:
    """A row for each precision, batch and guidance."""
    rate = float(alone(read_rate, options.threads))
    return list(_speed(FULL[model], path, precisions, rate, options.threads))


def _speed(config: T3Config, path: Path, precisions: Sequence[str], rate: float, threads: int) -> Iterator[Row]:
    for precision in precisions:
        for batch in BATCHES:
            for weight in (0.0, 0.5) if config.guided else (0.0,):
                step_s, draws_s = alone(step_seconds, path, precision, batch, weight, threads)
                rows = batch * (2 if weight else 1)
                cached = rows * CONTEXT * position_bytes(config, "fp32" if precision == "fp32" else "int8")
                read = bytes_read(config, precision) + cached
                yield {
                    "precision": precision,
                    "guided": bool(weight),
                    "batch": batch,
                    "step_ms": round(step_s * 1e3, 1),
                    "tokens_per_s": round(batch / step_s, 1),
                    "read_mb": round(read / 1e6),
                    "bound_ms": round(read / rate / 1e6, 1),
                    "gb_per_s": round(rate, 2),
                    "of_bound": round(read / rate / 1e9 / step_s, 2),
                    "draws": round(draws_s / step_s, 3),
                }


def step_seconds(path: Path, precision: str, batch: int, weight: float, threads: int) -> tuple[float, float]:
    """Seconds of the fastest step at the context measured; the median seconds of a step outside the graph."""
    loaded = _runtime(path, precision, threads, batch)
    base = CASES["english" if loaded.config.guided else "turbo"]
    running = []
    for seed in range(batch):
        sampling = replace(base.sampling, seed=seed, cfg_weight=weight)
        prompt = random_t3.text(loaded.config, 8, seed)
        running.append(loaded.prefill(prompt, sampling, _past(loaded, CONTEXT - _FRAMES // 2 - 12, seed)))
    spent, outside = [], []
    for _ in range(_FRAMES + _WARM):
        began, inside = time.perf_counter(), loaded.seconds
        loaded.step(running)
        spent.append(time.perf_counter() - began)
        outside.append(spent[-1] - (loaded.seconds - inside))
        for each in running:
            each.last = min(each.last, loaded.config.start_speech - 1)  # an end does not matter here
    return min(spent[_WARM:]), statistics.median(outside[_WARM:])


def _past(loaded: T3Runtime, length: int, seed: int) -> Prefix:
    """Random keys and values."""
    layers, _, heads, _, size = loaded.cache.data.shape
    past = np.random.default_rng(seed).integers(-100, 100, (layers, heads, length, size), dtype=np.int8)
    if loaded.cache.data.dtype == np.int8:
        return Prefix(past)
    return Prefix((past / np.float32(100)).astype(np.float32))


# Distance -------------------------------------------------------------------------------------------------------------


def agreement(model: str, path: Path, precisions: Sequence[str], options: argparse.Namespace) -> list[Row]:
    """Share of positions at which a lower precision has the same most likely token; relative error of logits."""
    return [alone(_agreement, model, path, precisions, options.tokens, options.threads)]


def _agreement(model: str, path: Path, precisions: Sequence[str], count: int, threads: int) -> Row:
    case = CASES["english" if FULL[model].guided else "turbo"]
    exact, tokens = _forced(_runtime(path, "fp32", threads, 1), case, count, None)
    row: Row = {"tokens": len(tokens)}
    for precision in precisions:
        if precision == "fp32":
            continue
        logits, _ = _forced(_runtime(path, precision, threads, 1), case, count, tokens)
        row[f"{precision}_agrees"] = round(float((logits.argmax(1) == exact.argmax(1)).mean()), 3)
        row[f"{precision}_error"] = round(float(np.linalg.norm(logits - exact) / np.linalg.norm(exact)), 3)
    return row


def _start(loaded: T3Runtime, case: Case) -> Running:
    config = loaded.config
    voice = loaded.voice(*random_t3.voice(config, case.prompt, case.seed), case.sampling.exaggeration)
    return loaded.prefill(random_t3.text(config, case.text, case.seed), case.sampling, voice)


def _forced(loaded: T3Runtime, case: Case, count: int, tokens: list[int] | None) -> tuple[Floats, list[int]]:
    """Guided logits [count, size], with these tokens fed, or those that it draws; and the tokens."""
    running, logits, drawn = _start(loaded, case), [], []
    for number in range(count):
        ready = running.ready
        loaded.step([running])
        if ready is None:
            ready = loaded._decoder.outputs["logits"][[row.row for row in running.rows]]
        logits.append(guided(ready, case.sampling.cfg_weight))
        drawn.append(running.last)
        if tokens is not None:
            running.last = tokens[number]
    return np.stack(logits), drawn


def parity(model: str, path: Path, precisions: Sequence[str], options: argparse.Namespace) -> list[Row]:
    """The real modules and ours on the same cases. Milliseconds of a token hold its share of the text. On a machine
    that does other work too, only the seconds of the cores compare, and only with one thread."""
    python, count, threads = options.reference, options.tokens, options.threads
    if python is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "real.npz"
        root = Path(__file__).parents[1]
        call: list[str | Path] = [python, "-m", "tests.reference.chatterbox_t3", "--full", file, "--models", model]
        call += ["--tokens", str(count), "--threads", str(threads)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
        subprocess.run(call, cwd=root, env=env, check=True)
        real = dict(np.load(file))
    rows = []
    for name, case in CASES.items():
        if case.model == model:
            theirs = {key: real[f"{name}/{key}"] for key in ("tokens", "logits", "seconds")}
            rows.append({"case": name, **alone(_compared, path, precisions, case, count, theirs, threads)})
    return rows


def _compared(path: Path, precisions: Sequence[str], case: Case, count: int, real: dict[str, Any], threads: int) -> Row:
    real_cpu, real_s = real["seconds"] / len(real["tokens"])
    row: Row = {"real_ms": round(real_s * 1e3), "real_cpu_ms": round(real_cpu * 1e3)}
    for precision in precisions:
        loaded = _runtime(path, precision, threads, 1)
        began = np.array([time.process_time(), time.perf_counter()])
        running = _start(loaded, case)
        tokens: list[int] = []
        if precision == "fp32":
            assert running.ready is not None
            wanted = real["logits"][0][: len(running.rows)]
            row["logits_off"] = float(np.abs(running.ready - wanted).max() / wanted.std())
        while len(tokens) < count and loaded.config.stop_speech not in tokens:
            tokens += loaded.step([running]).tolist()
        cpu, seconds = (np.array([time.process_time(), time.perf_counter()]) - began) / len(tokens)
        if precision == "fp32":
            row["tokens"], row["equal"] = len(tokens), tokens == real["tokens"].tolist()
        row[f"{precision}_ms"] = round(seconds * 1e3)
        row[f"{precision}_cpu_faster"] = round(real_cpu / cpu, 2)
    return row


SECTIONS: dict[str, Callable[[str, Path, Sequence[str], argparse.Namespace], list[Row]]] = {
    "parity": parity,
    "agreement": agreement,
    "speed": speed,
}


if __name__ == "__main__":
    main(sys.argv[1:])
