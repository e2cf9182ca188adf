"""The rule by which T3's tokens are drawn, against a plain one; and the guards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from saywell.models.chatterbox.t3.config import ENGLISH, NANO, TURBO
from saywell.models.chatterbox.t3.guards import LOOP_FRAMES, Guard, limit
from saywell.models.chatterbox.t3.sampling import DEFAULTS, Sampling, draw, guided
from saywell.runtimes.draws import uniforms

SIZE = 60
SETTINGS = [
    {},
    {"temperature": 1.0, "repetition_penalty": 1.0},
    {"temperature": 0.3, "top_p": 0.7, "min_p": 0.0, "top_k": 7},
    {"temperature": 1.7, "top_p": 0.4, "min_p": 0.2, "top_k": 1, "repetition_penalty": 2.0},
    {"top_p": 1e-9, "min_p": 1.0, "top_k": 10_000},
    {"temperature": 1e-9},
]


def softmax(values: np.ndarray) -> np.ndarray:
    shares = np.exp(values - values.max())
    return shares / shares.sum()


def kept_by_mass(values: np.ndarray, top_p: float) -> np.ndarray:
    """As upstream: what lies in the lower tail of mass 1 − top_p goes, the most likely token stays."""
    order = np.argsort(values, kind="stable")
    gone = np.cumsum(softmax(values)[order]) <= 1 - top_p
    gone[-1] = False
    out = values.copy()
    out[order[gone]] = -np.inf
    return out


def penalised(values: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    out = values.copy()
    for index in seen:
        out[index] = out[index] * penalty if out[index] < 0 else out[index] / penalty
    return out


def shares_of(kind: str, logits: np.ndarray, seen: np.ndarray, s: Sampling) -> np.ndarray:
    """The probability of each token."""
    values = logits.astype(np.float64)
    if kind == "llama":
        values = penalised(values, seen, s.repetition_penalty) / max(s.temperature, 1e-5)
        values[softmax(values) < s.min_p * softmax(values).max()] = -np.inf
        return softmax(kept_by_mass(values, s.top_p))
    values = values / max(s.temperature, 1e-5)
    if s.top_k:
        values[values < np.sort(values)[-min(s.top_k, len(values))]] = -np.inf
    return softmax(penalised(kept_by_mass(values, s.top_p), seen, s.repetition_penalty))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_draws_follow_the_rule(kind: str, given: dict[str, float]) -> None:
    random = np.random.default_rng(0)
    for seed in range(40):
        logits = (random.standard_normal(SIZE) * random.choice([0.1, 2, 10])).astype(np.float32)
        seen = random.choice(SIZE, int(random.integers(0, 9)), replace=False)
        sampling = replace(DEFAULTS[kind], seed=seed, **given)
        heap = np.cumsum(shares_of(kind, logits, seen, sampling))
        wanted = int(np.searchsorted(heap, uniforms(seed, seed, 1)[0] * heap[-1], side="right"))
        assert draw(kind, logits, seen, sampling, seed) == wanted


def test_greedy_takes_the_highest_penalised_logit() -> None:
    logits, seen = np.array([3, 4, -1, 3.9], np.float32), np.array([1])
    for kind in DEFAULTS:
        assert draw(kind, logits.copy(), seen, Sampling(temperature=0), 0) == 3
    assert draw("llama", np.ones(4, np.float32), seen[:0], Sampling(temperature=0), 0) == 0


def test_guidance_moves_away_from_the_row_without_text() -> None:
    logits = np.array([[1, 2], [3, 0]], np.float32)
    np.testing.assert_array_equal(guided(logits, 0.5), [0, 3])
    np.testing.assert_array_equal(guided(logits[:1], 0.5), logits[0])


def test_defaults_are_of_the_model() -> None:
    assert Sampling.of(ENGLISH, 3, top_p=None, cfg_weight=0.2) == Sampling(cfg_weight=0.2, seed=3)
    assert (Sampling.of(TURBO, 0).top_k, Sampling.of(TURBO, 0).min_p) == (1000, 0)


def test_guard_detects_loops_and_runaways() -> None:
    random = np.random.default_rng(0)
    assert [limit(ENGLISH, 20), limit(TURBO, 20), limit(NANO, 20, 1), limit(TURBO, 99)] == [300, 600, 700, 1000]
    runaway = Guard(200)
    ends = [runaway.add(int(token)) for token in random.integers(0, 6561, 300)]
    assert ends.index("length") == 199
    for period in (1, 5, 24):
        looping = Guard(1000)
        ends = [looping.add(token % period) for token in range(300)]
        assert LOOP_FRAMES <= ends.index("loop") + 1 <= LOOP_FRAMES + 24
    assert "loop" not in [Guard(1000).add(4299) for _ in range(60)]
