"""The sampling rule, shown on its NumPy reference; `test_graphs` holds the graphs against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reference.sampling import Sampler, draw, nucleus, penalise
from saywell.errors import ModelFailure
from saywell.models.dual_ar.sampling import Sampling
from saywell.runtimes.draws import uniforms
from saywell.types import SamplingParams

LOGITS = hnp.arrays(np.float64, st.integers(1, 400), elements=st.integers(-80, 80).map(lambda n: n / 10))


def test_nucleus_keeps_at_least_one() -> None:
    assert nucleus(np.array([0.0, 9.0, 1.0]), 1e-6).tolist() == [1]


def test_nucleus_ignores_temperature() -> None:
    """A high temperature must not let in what the untempered distribution leaves out."""
    logits = np.array([4.0, 3.0, 0.0, 0.0])
    drawn = {draw(logits, 2.0, 0.98, u) for u in np.linspace(0, 0.999, 200)}
    assert drawn == {0, 1}


def test_penalty_divides_positive_multiplies_negative_once() -> None:
    logits = np.array([2.0, -2.0, 2.0, 0.0])
    assert penalise(logits, np.array([0, 0, 1, 3]), 2.0).tolist() == [1.0, -4.0, 2.0, 0.0]
    assert penalise(logits, np.array([], dtype=np.int64), 2.0).tolist() == logits.tolist()


def test_draws_follow_the_distribution() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    us = (np.arange(10_000) + 0.5) / 10_000
    counts = np.bincount([draw(np.log(probabilities), 1.0, 1.0, u) for u in us], minlength=4)
    np.testing.assert_allclose(counts / len(us), probabilities, atol=1e-3)


def test_temperature_sharpens_and_floor_holds() -> None:
    logits = np.log(np.array([0.6, 0.4]))
    cool = np.mean([draw(logits, 0.5, 1.0, u) for u in np.linspace(0, 0.999, 1000)])
    assert cool == pytest.approx(0.16 / 0.52, abs=2e-3)
    assert {draw(logits, 1e-12, 1.0, u) for u in np.linspace(0, 0.999, 50)} == {0}


@given(LOGITS, st.floats(0, 1, exclude_max=True), st.floats(0.01, 2), st.floats(0.01, 1))
def test_draw_is_always_within_the_nucleus(logits: np.ndarray, u: float, temperature: float, top_p: float) -> None:
    token = draw(logits, temperature, top_p, u)
    assert 0 <= token < len(logits)
    if top_p < 1:
        assert token in nucleus(logits, top_p)


def test_greedy_takes_the_lower_id_on_a_tie() -> None:
    assert draw(np.array([1.0, 5.0, 5.0]), 0.0, 1.0, 0.9) == 1


def test_random_numbers_depend_on_seed_and_frame_alone() -> None:
    np.testing.assert_array_equal(uniforms(7, 3, 5), uniforms(7, 3, 5))
    np.testing.assert_array_equal(uniforms(7, 3, 9)[:5], uniforms(7, 3, 5))
    streams = {uniforms(seed, frame, 2).tobytes() for seed in (0, 1, 2**63 - 1) for frame in range(50)}
    assert len(streams) == 150
    many = np.concatenate([uniforms(1, frame, 11) for frame in range(2000)])
    assert 0 <= many.min() < many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=0.01)


def test_frames_of_a_seed_are_not_shifts_of_each_other() -> None:
    assert not set(uniforms(1, 0, 11)) & set(uniforms(1, 1, 11))


def spoken(sampling: Sampling, frames: int, seed: int = 0) -> list[list[int]]:
    random, sampler = np.random.default_rng(seed), Sampler(sampling, 3)
    made = []
    for _ in range(frames):
        sampler.semantic(random.normal(0, 2, 9))
        sampler.residual(random.normal(0, 2, 8))
        sampler.residual(random.normal(0, 2, 8))
        made.append(sampler.end_frame())
    return made


def test_sampler_repeats_by_seed() -> None:
    assert spoken(Sampling(seed=4), 30) == spoken(Sampling(seed=4), 30)
    assert spoken(Sampling(seed=4), 30) != spoken(Sampling(seed=5), 30)


def test_penalty_forgets_after_sixteen_frames() -> None:
    sampler = Sampler(Sampling(temperature=0.0, repetition_penalty=2.0), 1)
    logits = np.array([1.0, 0.8] + [0.6 - each / 1000 for each in range(20)])
    drawn = []
    for _ in range(18):
        drawn.append(sampler.semantic(logits))
        sampler.end_frame()
    assert drawn[:16] == list(range(16))
    assert drawn[16:] == [16, 0]


def test_each_codebook_has_its_own_penalty() -> None:
    sampler = Sampler(Sampling(temperature=0.0, repetition_penalty=2.0), 2)
    logits = np.array([1.0, 0.8, 0.1])
    frames = []
    for _ in range(2):
        sampler.semantic(np.array([0.0, 0.0, 1.0]))
        sampler.residual(logits)
        frames.append(sampler.end_frame())
    assert [frame[1] for frame in frames] == [0, 1]


def test_repetition_aware_draws_again() -> None:
    """A token that top_p 0.5 forces is escaped only by the second draw."""
    logits = np.log(np.array([0.55, 0.25, 0.2]))
    plain = Sampling(top_p=0.5, temperature=1.0, repetition_penalty=1.0, seed=3)
    aware = replace(plain, repetition_aware=True)
    drawn = {}
    for sampling in (plain, aware):
        sampler = Sampler(sampling, 1)
        drawn[sampling] = [(sampler.semantic(logits), sampler.end_frame())[0] for _ in range(40)]
    assert set(drawn[plain]) == {0}
    assert drawn[aware][0] == 0
    assert set(drawn[aware]) == {0, 1}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_logits_are_a_model_failure(bad: float) -> None:
    with pytest.raises(ModelFailure, match="frame 0, codebook 0"):
        Sampler(Sampling(), 1).semantic(np.array([0.0, bad]))


def test_request_parameters_override_defaults() -> None:
    assert Sampling.of(SamplingParams(), 3) == Sampling(seed=3)
    assert Sampling.of(SamplingParams(temperature=0, top_p=0.3), 3) == Sampling(temperature=0, top_p=0.3, seed=3)
