"""The transformers alone: milliseconds of a frame over batch and context, and of prompts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.onnx.runtime_ar import ArRuntime, Running
from saywell.models.dual_ar.sampling import Sampling
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.runtimes.kv_cache import Prefix

BATCHES = (1, 2, 4, 8, 16)
CONTEXTS = (128, 512, 1024, 2048, 4096)
PROMPTS = (32, 128, 512)
_FRAMES = 12


def measure(directory: Path, precision: str, plan: Plan) -> list[dict[str, Any]]:
    """Frames over context and batch; in a process of its own."""
    contexts = _fitting(directory, CONTEXTS)
    runtime = load(directory, precision, plan, 1, max(contexts))
    rows = [_frame(runtime, 1, length) for length in contexts]
    del runtime
    together = load(directory, precision, plan, max(BATCHES), 256)
    return rows + [_frame(together, count, CONTEXTS[0]) for count in BATCHES]


def prompts(directory: Path, precision: str, plan: Plan) -> list[dict[str, Any]]:
    """Prompts of growing length; in a process of its own."""
    lengths = _fitting(directory, PROMPTS)
    runtime = load(directory, precision, plan, 1, max(lengths))
    return [{"prompt": length, "ms": _prompt(runtime, length)} for length in lengths]


def _fitting(directory: Path, lengths: Sequence[int]) -> list[int]:
    """The lengths that fit the model's positions."""
    most = Config.read(directory).max_seq_len
    return [length for length in lengths if length + 2 * _FRAMES <= most]


def load(directory: Path, precision: str, plan: Plan, slots: int, length: int) -> ArRuntime:
    """As the engine loads them, for `length` positions and the frames measured."""
    return ArRuntime(
        directory,
        precision,
        Threading(threads=plan.threads, affinity=plan.affinity),
        slots=slots,
        max_len=length + 2 * _FRAMES,
        cache="fp32" if precision == "fp32" else plan.options["kv_cache"],
        activation_bits=int(plan.options.get("activation_bits", 8)),
    )


def _frame(runtime: ArRuntime, count: int, context: int) -> dict[str, Any]:
    """Median milliseconds of a frame for a batch of `count` sequences of that context."""
    batch = [_begin(runtime, context - _FRAMES, seed) for seed in range(count)]
    spent: dict[str, list[float]] = {"frame_ms": [], "slow_ms": [], "fast_ms": []}
    for _ in range(_FRAMES + 2):
        slow, fast = runtime.slow_s, runtime.fast_s
        spent["frame_ms"].append(_seconds(lambda: runtime.step(batch)))
        spent["slow_ms"].append(runtime.slow_s - slow)
        spent["fast_ms"].append(runtime.fast_s - fast)
        for each in batch:  # keeps trained weights from ending; the content does not matter here
            each.recent[-1] = np.zeros_like(each.recent[-1])
    for each in batch:
        runtime.release(each)
    # The first frame comes from the prompt's logits, the second warms up.
    medians = {name: round(statistics.median(each[2:]) * 1e3, 2) for name, each in spent.items()}
    return {"batch": count, "context": context, **medians}


def _begin(runtime: ArRuntime, context: int, seed: int) -> Running:
    """A sequence with `context` random positions in the cache."""
    layers, _, heads, _, size = runtime.cache.data.shape
    random = np.random.default_rng(seed)
    past = random.integers(-100, 100, (layers, heads, context - 1, size), dtype=np.int8)
    prefix = Prefix(past.astype(runtime.cache.data.dtype))
    return runtime.prefill(text(runtime.config, 1, seed), Sampling(seed=seed), prefix)


def _prompt(runtime: ArRuntime, length: int) -> float:
    """Milliseconds to read a prompt."""
    prompt, seconds = text(runtime.config, length, 0), []
    for _ in range(3):
        start = time.perf_counter()
        running = runtime.prefill(prompt, Sampling())
        seconds.append(time.perf_counter() - start)
        runtime.release(running)
    return round(min(seconds) * 1e3, 1)


def text(config: Config, length: int, seed: int) -> npt.NDArray[np.int64]:
    """A prompt of random text, [1 + num_codebooks, length]."""
    prompt = np.zeros((1 + config.num_codebooks, length), np.int64)
    prompt[0] = np.random.default_rng(seed).integers(0, config.vocab_size // 2, length)
    return prompt


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
