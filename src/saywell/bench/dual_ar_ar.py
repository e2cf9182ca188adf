"""The DualAR transformers on this CPU: milliseconds of a frame, against the time its weights take to be read.

A step reads every weight of the slow transformer once and those of the fast one once for each residual codebook, and
does little with them: memory bandwidth is the ceiling. It is measured first, in the same run, with the same number of
threads. Then frames at growing batch and context, prompts, load time and memory. Each variant runs in a process of
its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.table import Table

from saywell.bench.alone import alone
from saywell.executors.base import Threading
from saywell.hardware import detect
from saywell.models.dual_ar.ar_files import fast_file, scales_file, slow_file
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.kv_cache import Prefix
from saywell.models.dual_ar.runtime_ar import ArRuntime, Running
from saywell.models.dual_ar.sampling import Sampling

BATCHES = (1, 2, 4, 8, 16)
CONTEXTS = (128, 512, 1024, 2048, 4096)
PROMPTS = (32, 128, 512)
GOALS = {"int8": 0.70, "int4": 0.60}
"""Share of the memory roofline the slow step at batch 1 must reach."""
LOAD_S = 5.0
_READ = 1 << 30
_FRAMES = 12
_MATRICES = ("MatMul", "MatMulNBits", "MatMulIntegerToFloat")


def main(args: list[str]) -> int:
    """Run it. 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="saywell bench dual_ar_ar", description=__doc__)
    add_options(parser)
    options = parser.parse_args(args)
    with graphs(options.model, options.precision) as directory:
        result = measure(directory, options.precision, options.threads or detect().usable_cores)
    print(json.dumps(result))  # noqa: T201 - the machine-readable last line
    return 0 if met(result) else 1


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", type=Path, help="a converted model (default: random weights, full size)")
    parser.add_argument("--precision", action="append", help="may repeat (default: int8 and int4)")
    parser.add_argument("--threads", type=int, default=0, help="default: every core this process may use")


def measure(directory: Path, precisions: list[str] | None, threads: int) -> dict[str, Any]:
    """Everything, printed as it comes."""
    console, config = Console(width=120), Config.read(directory)
    bandwidth = alone(read_rate, threads)
    console.print(f"Memory: {bandwidth:.1f} GB/s read by {threads} threads. Ceiling of one frame at batch 1:")
    rows = []
    for precision in precisions or list(GOALS):
        slow, fast = (
            alone(weight_bytes, directory / name) for name in (slow_file(precision, "fp32"), fast_file(precision))
        )
        ceiling = {"slow_ms": slow / bandwidth / 1e6, "fast_ms": fast * (config.num_codebooks - 1) / bandwidth / 1e6}
        console.print(
            f"  {precision}: {slow / 1e6:.0f} MB once → {ceiling['slow_ms']:.1f} ms, "
            f"{fast / 1e6:.0f} MB × {config.num_codebooks - 1} → {ceiling['fast_ms']:.1f} ms"
        )
        row = alone(variant, directory, precision, threads)
        row["roofline"] = {part: round(ceiling[part] / row["batch"][0][part], 3) for part in ceiling}
        rows.append({"precision": precision, "weights_mb": round((slow + fast) / 1e6), **row})
        _show(console, rows[-1], config.codec.frame_rate)
    return {"bench": "dual_ar_ar", "threads": threads, "gb_per_s": round(bandwidth, 1), "rows": rows}


def met(result: dict[str, Any]) -> bool:
    """Whether every precision with a goal reaches it, and loads in time."""
    return all(
        row["roofline"]["slow_ms"] >= GOALS.get(row["precision"], 0) and row["load_s"] <= LOAD_S
        for row in result["rows"]
    )


def read_rate(threads: int) -> float:
    """GB/s at which memory far larger than any cache is read."""
    parts = np.array_split(np.ones(_READ // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return _READ / 1e9 / min(_seconds(lambda: list(pool.map(np.sum, parts))) for _ in range(5))


def weight_bytes(graph: Path) -> int:
    """Bytes of the matrices and their scales in a graph, the bodies of its loops included."""
    import onnx  # building needs it, running does not

    model = onnx.load(graph, load_external_data=False)
    kept = {each.name: _length(each) for each in model.graph.initializer if each.external_data}
    todo: list[Any] = [model.graph]
    used: set[str] = set()
    while todo:
        for node in todo.pop().node:
            used.update(node.input if node.op_type in _MATRICES else ())
            todo.extend(each.g for each in node.attribute if each.HasField("g"))
    return sum(size for name, size in kept.items() if name in used)


def _length(tensor: Any) -> int:
    return next(int(each.value) for each in tensor.external_data if each.key == "length")


def variant(directory: Path, precision: str, threads: int) -> dict[str, Any]:
    """All measurements of one precision."""
    cache = "fp32" if precision == "fp32" else "int8"
    start = time.perf_counter()
    alone_runtime = _runtime(directory, precision, threads, cache, 1)
    load_s = time.perf_counter() - start
    batch = [_frame(alone_runtime, 1, 128)]
    resident = psutil.Process().memory_info().rss
    contexts = {str(length): _frame(alone_runtime, 1, length)["slow_ms"] for length in CONTEXTS}
    prompts = {str(length): _prompt(alone_runtime, length) for length in PROMPTS}
    del alone_runtime
    together = _runtime(directory, precision, threads, cache, max(BATCHES))
    batch += [_frame(together, count, 128) for count in BATCHES[1:]]
    return {
        "load_s": round(load_s, 2),
        "resident_mb": round(resident / 1e6),
        "batch": batch,
        "slow_ms_by_context": contexts,
        "prompt_ms": prompts,
    }


def _runtime(directory: Path, precision: str, threads: int, cache: str, slots: int) -> ArRuntime:
    length = (max(CONTEXTS) if slots == 1 else 256) + 2 * _FRAMES
    return ArRuntime(directory, precision, Threading(threads=threads), slots=slots, max_len=length, cache=cache)


def _frame(runtime: ArRuntime, count: int, context: int) -> dict[str, Any]:
    """Median milliseconds of a frame for `count` sequences of that context together."""
    batch = [_begin(runtime, context - _FRAMES, seed) for seed in range(count)]
    spent: dict[str, list[float]] = {"frame_ms": [], "slow_ms": [], "fast_ms": []}
    for _ in range(_FRAMES + 2):
        slow, fast = runtime.slow_s, runtime.fast_s
        spent["frame_ms"].append(_seconds(lambda: runtime.step(batch)))
        spent["slow_ms"].append(runtime.slow_s - slow)
        spent["fast_ms"].append(runtime.fast_s - fast)
    for each in batch:
        runtime.release(each)
    # The first frame comes from the prompt's logits, the second warms up.
    return {"batch": count, **{name: round(statistics.median(each[2:]) * 1e3, 2) for name, each in spent.items()}}


def _begin(runtime: ArRuntime, context: int, seed: int) -> Running:
    """A sequence with that much behind it; what it was does not matter here."""
    layers, _, heads, _, size = runtime.cache.data.shape
    random = np.random.default_rng(seed)
    behind = random.integers(-100, 100, (layers, heads, context - 1, size), dtype=np.int8)
    prefix = Prefix(behind.astype(runtime.cache.data.dtype))
    return runtime.prefill(_text(runtime.config, 1, seed), Sampling(seed=seed), prefix)


def _prompt(runtime: ArRuntime, length: int) -> float:
    """Milliseconds to read a prompt."""
    prompt, seconds = _text(runtime.config, length, 0), []
    for _ in range(3):
        start = time.perf_counter()
        running = runtime.prefill(prompt, Sampling())
        seconds.append(time.perf_counter() - start)
        runtime.release(running)
    return round(min(seconds) * 1e3, 1)


def _text(config: Config, length: int, seed: int) -> npt.NDArray[np.int64]:
    prompt = np.zeros((1 + config.num_codebooks, length), np.int64)
    prompt[0] = np.random.default_rng(seed).integers(0, config.vocab_size // 2, length)
    return prompt


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _show(console: Console, row: dict[str, Any], frame_rate: float) -> None:
    share = row["roofline"]
    console.print(
        f"\n{row['precision']}: {share['slow_ms']:.0%} of the roofline in the slow transformer, "
        f"{share['fast_ms']:.0%} in the fast one; loaded in {row['load_s']:.1f} s, {row['resident_mb']} MB resident"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("batch", "slow ms", "fast ms", "frame ms", "RTF", "frames/s"):
        table.add_column(name, justify="right")
    for each in row["batch"]:
        rtf = each["frame_ms"] * frame_rate / 1e3 / each["batch"]
        numbers = [f"{each[name]:.1f}" for name in ("slow_ms", "fast_ms", "frame_ms")]
        table.add_row(str(each["batch"]), *numbers, f"{rtf:.3f}", f"{each['batch'] * 1e3 / each['frame_ms']:.0f}")
    console.print(table)
    for label, values in (("slow step by context", row["slow_ms_by_context"]), ("prompt", row["prompt_ms"])):
        console.print(f"  {label}: " + ", ".join(f"{size} → {value:.1f} ms" for size, value in values.items()))


@contextmanager
def graphs(model: Path | None, precisions: list[str] | None) -> Iterator[Path]:
    """A converted model's directory: the given one, or a temporary one of random weights."""
    if model is not None:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="saywell-ar-") as folder:
        alone(write_random, Path(folder), precisions or list(GOALS))
        yield Path(folder)


def write_random(directory: Path, precisions: list[str]) -> None:
    """Graphs of the full size."""
    from saywell.models.dual_ar import graphs_ar  # needs onnx
    from saywell.models.dual_ar.fixture import FULL  # needs torch
    from saywell.models.dual_ar.layout import model_tensors

    config = Config.parse(FULL)
    (directory / "config.json").write_text(json.dumps(FULL), encoding="utf-8")
    weights = _Random(model_tensors(config))
    ids = {"semantic_begin_id": config.vocab_size - config.codebook_size, "im_end_id": 0}
    graphs_ar.build_tables(weights, directory, **ids)
    for precision in precisions:
        graphs_ar.build(config, weights, directory, precision, **ids)
        shape = (2 * config.n_layer, config.n_local_heads, config.head_dim)
        np.save(directory / scales_file(precision), np.full(shape, 0.04, np.float32))


class _Random(dict[str, npt.NDArray[np.float32]]):
    """Tensors made when they are asked for."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._shapes = shapes
        self._random = np.random.default_rng(0)

    def __missing__(self, name: str) -> npt.NDArray[np.float32]:
        shape = self._shapes[name]
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        noise = self._random.standard_normal(shape, dtype=np.float32)
        noise *= np.float32(1 / np.sqrt(shape[1]))
        return noise
