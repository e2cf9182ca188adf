"""Distance of quantised transformers from full precision, on the same prompts, with random or trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.dual_ar_transformers import load
from saywell.bench.speed import alone
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.onnx.runtime_ar import ArRuntime
from saywell.models.dual_ar.sampling import Sampling
from saywell.plan.plan import Plan

EXACT = "fp32"
_PROMPTS, _LENGTH = 48, 48
_FEW = 5
Floats = npt.NDArray[np.float32]
State = tuple[Floats, Floats]
"""Logits and hidden state at the end of a prompt."""


def exact(directory: Path, plan: Plan) -> list[State]:
    """Logits and hidden states in full precision for each prompt; computed in a process of its own."""
    return list(alone(_states, directory, EXACT, plan))


def measure(directory: Path, precision: str, plan: Plan, wanted: Sequence[State]) -> dict[str, Any]:
    """Compare logits of the slow transformer, and codes of the fast one, which starts from the exact states."""
    found = alone(_states, directory, precision, plan)
    codes, right = (alone(_codes, directory, name, plan, wanted) for name in (precision, EXACT))
    exact_logits, logits = (np.stack([state[0] for state in states]) for states in (wanted, found))
    best, few = exact_logits.argmax(axis=1), np.argpartition(-exact_logits, _FEW, axis=1)[:, :_FEW]
    chosen = logits.argmax(axis=1)
    return {
        "prompts": len(best),
        "logits": round(float(np.sqrt(np.square(logits - exact_logits).mean() / exact_logits.var())), 4),
        "same_token": round(float((chosen == best).mean()), 3),
        "token_in_best_5": round(float((few == chosen[:, None]).any(axis=1).mean()), 3),
        "same_first_residual": round(float((codes[:, 2] == right[:, 2]).mean()), 3),
    }


def _states(directory: Path, precision: str, plan: Plan) -> list[State]:
    runtime, states = load(directory, precision, plan, 1, _LENGTH), []
    for seed in range(_PROMPTS):
        running = runtime.prefill(_prompt(runtime, seed), Sampling())
        if running.ready is not None:
            states.append(running.ready)
        runtime.release(running)
    return states


def _codes(directory: Path, precision: str, plan: Plan, states: Sequence[State]) -> npt.NDArray[np.int64]:
    """The frame that the fast transformer decodes from each state, greedily, [prompts, 1 + num_codebooks]."""
    runtime, frames = load(directory, precision, plan, 1, _LENGTH), []
    greedy = Sampling(temperature=0, repetition_penalty=1.0)
    for seed, (logits, hidden) in enumerate(states):
        running = runtime.prefill(_prompt(runtime, seed)[:, :1], greedy)
        running.ready = logits.copy(), hidden.copy()
        frames.append(runtime.step([running])[0])
        runtime.release(running)
    return np.array(frames)


def _prompt(runtime: ArRuntime, seed: int) -> npt.NDArray[np.int64]:
    """Half text, then half audio, both random."""
    config: Config = runtime.config
    random, half = np.random.default_rng(seed), _LENGTH // 2
    prompt = np.zeros((1 + config.num_codebooks, _LENGTH), np.int64)
    prompt[0] = random.integers(0, config.vocab_size // 2, _LENGTH)
    prompt[1, half:] = random.integers(0, config.codebook_size, half)
    prompt[2:, half:] = random.integers(0, config.residual_logits, (config.num_codebooks - 1, half))
    prompt[0, half:] = prompt[1, half:] + runtime.begin
    return prompt
