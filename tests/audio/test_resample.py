from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saywell.audio.resample import Resampler, resample

RATES = [(24000, 48000), (22050, 24000), (44100, 24000), (24000, 16000), (16000, 24000), (48000, 8000)]


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 6000), max_size=12), end_alone=st.booleans())
def test_streamed_equals_whole_bit_for_bit(from_hz: int, to_hz: int, cuts: list[int], end_alone: bool) -> None:
    audio = noise(6000)
    pieces = np.split(audio, sorted(cuts))
    if end_alone:
        pieces.append(audio[:0])
    stream = Resampler(from_hz, to_hz)
    out = [stream.feed(piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    assert np.array_equal(np.concatenate(out), resample(audio, from_hz, to_hz))


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_tone_keeps_its_pitch_level_and_length(from_hz: int, to_hz: int) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(from_hz) / from_hz)).astype(np.float32)
    out = resample(tone, from_hz, to_hz)
    assert out.dtype == np.float32
    assert len(out) == to_hz
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(to_hz) / to_hz)
    middle = slice(to_hz // 10, -to_hz // 10)
    assert np.abs(out - expected)[middle].max() < 1e-3


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_delay_is_bounded(from_hz: int, to_hz: int) -> None:
    stream, given_s, got = Resampler(from_hz, to_hz), 0.0, 0
    for piece in np.array_split(noise(from_hz), 100):
        got += len(stream.feed(piece))
        given_s += len(piece) / from_hz
        assert given_s - got / to_hz <= (0.05 if to_hz >= 16000 else 0.2)


def test_equal_rates_pass_through() -> None:
    audio = noise(100)
    assert np.array_equal(resample(audio, 24000, 24000), audio)


@pytest.mark.parametrize("rates", [(0, 24000), (24000, 0), (-1, 24000)])
def test_rates_must_be_positive(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Resampler(*rates)
