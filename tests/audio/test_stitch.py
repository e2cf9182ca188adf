from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saywell.audio.stitch import AUDIBLE, BLOCK_S, LEAD_S, SILENT, SILENT_BESIDE_PEAK, TRAIL_S, Stitcher

HZ = 24000


def noise(seconds: float, level: float = 0.3, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).uniform(-1, 1, round(seconds * HZ))).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * HZ), np.float32)


def stitched(audio: np.ndarray, hz: int = HZ) -> np.ndarray:
    return Stitcher(hz).feed(audio, last=True)


@st.composite
def recordings(draw: st.DrawFn) -> np.ndarray:
    """Stretches of sound, near-silence and silence, of lengths on and off the grid."""
    parts = draw(st.lists(st.tuples(st.sampled_from([0.0, 5e-4, 2e-3, 0.1, 0.9]), st.integers(0, 9000)), max_size=6))
    pieces = [noise(n / HZ, level, seed) for seed, (level, n) in enumerate(parts)]
    return np.concatenate([np.zeros(0, np.float32), *pieces])


@settings(max_examples=300, deadline=None)
@given(
    audio=recordings(),
    fractions=st.lists(st.floats(0, 1), max_size=20),
    end_alone=st.booleans(),
    hz=st.integers(7000, 50000),
)
def test_any_split_gives_the_identical_output(
    audio: np.ndarray, fractions: list[float], end_alone: bool, hz: int
) -> None:
    pieces = np.split(audio, sorted(int(f * len(audio)) for f in fractions))
    if end_alone:
        pieces.append(audio[:0])
    stitcher = Stitcher(hz)
    out = [stitcher.feed(piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    assert np.array_equal(np.concatenate(out), stitched(audio, hz))


@settings(max_examples=200, deadline=None)
@given(audio=recordings())
def test_output_equals_the_input_except_at_its_edges(audio: np.ndarray) -> None:
    out, fade = stitched(audio), round(BLOCK_S * HZ)
    loud = np.flatnonzero(np.abs(audio) > 0.05)
    assert len(out) >= (loud[-1] - loud[0] + 1 if len(loud) else 0)
    core = out[fade:-fade]
    shifts = range(len(audio) - len(out) + 1)
    assert any(np.array_equal(core, audio[s + fade : s + fade + len(core)]) for s in shifts)


@settings(max_examples=200, deadline=None)
@given(audio=recordings())
def test_edges_do_not_click_and_their_silence_is_bounded(audio: np.ndarray) -> None:
    out = np.abs(stitched(audio))
    if not len(out):
        assert np.abs(audio).max(initial=0) <= AUDIBLE
        return
    assert max(out[0], out[-1]) <= SILENT
    # A faint start or end counts as sound, but is faded out.
    fade = round(BLOCK_S * HZ)
    loud_start, faint_end = np.abs(audio[:fade]).max() > AUDIBLE, np.abs(audio[-2 * fade :]).max() > SILENT
    sounding = np.flatnonzero(out > AUDIBLE)
    assert loud_start or not len(sounding) or sounding[0] <= (LEAD_S + BLOCK_S) * HZ
    audible = np.flatnonzero(out > max(SILENT, SILENT_BESIDE_PEAK * out.max()))
    assert faint_end or not len(audible) or len(out) - audible[-1] <= (TRAIL_S + 2 * BLOCK_S) * HZ


def test_long_silence_at_the_edges_is_cut_and_short_silence_kept() -> None:
    speech = noise(1)
    long = stitched(np.concatenate((silence(1), speech, silence(2))))
    assert len(long) == pytest.approx((1 + LEAD_S + TRAIL_S) * HZ, abs=BLOCK_S * HZ)
    short = np.concatenate((silence(0.02), speech, silence(0.4)))
    assert np.array_equal(stitched(short), short)


def test_pause_inside_is_kept_whole() -> None:
    audio = np.concatenate((silence(0.02), noise(0.5), silence(1.5), noise(0.5), silence(0.02)))
    assert np.array_equal(stitched(audio), audio)


def test_soft_edges_of_speech_are_kept() -> None:
    """A fricative that fades over 200 ms below the threshold, and one that rises over 15 ms, both survive."""
    rise = noise(0.015) * np.linspace(0, 0.003, round(0.015 * HZ), dtype=np.float32)
    fall = noise(0.2) * np.linspace(0.003, 0, round(0.2 * HZ), dtype=np.float32)
    audio = np.concatenate((silence(0.5), rise, noise(1), fall, silence(1)))
    out = stitched(audio)
    kept = np.concatenate((rise, noise(1), fall))
    assert any(np.array_equal(out[s : s + len(kept)], kept) for s in range(len(out) - len(kept) + 1))


def test_sharp_edge_is_faded_over_five_milliseconds() -> None:
    audio = np.full(HZ, 0.5, np.float32)
    out = stitched(audio)
    fade = round(BLOCK_S * HZ)
    assert len(out) == len(audio)
    assert abs(out[0]) < 1e-4
    assert abs(out[-1]) < 1e-4
    assert np.abs(np.diff(out)).max() < 0.5 * np.pi / 2 / fade * 1.1
    assert np.array_equal(out[fade:-fade], audio[fade:-fade])
    assert np.array_equal(audio, np.full(HZ, 0.5, np.float32)), "the caller's samples are unchanged"


def test_speech_is_delayed_by_at_most_ten_milliseconds() -> None:
    stitcher, given_n, got = Stitcher(HZ), 0, 0
    for piece in np.split(noise(1), 200):
        given_n += len(piece)
        got += len(stitcher.feed(piece))
        assert given_n - got <= 2 * BLOCK_S * HZ


def test_stitcher_is_reusable_for_the_next_sequence() -> None:
    audio, stitcher = np.concatenate((silence(0.3), noise(0.3), silence(0.5))), Stitcher(HZ)
    assert np.array_equal(stitcher.feed(audio, last=True), stitcher.feed(audio, last=True))


def test_silence_and_empty_input_give_no_samples() -> None:
    assert len(stitched(silence(0))) == 0
    assert len(stitched(silence(2))) == 0


def test_stitching_takes_under_a_hundredth_of_real_time() -> None:
    audio, stitcher = noise(20), Stitcher(HZ)
    started = time.process_time()
    for piece in np.split(audio, 250):
        stitcher.feed(piece)
    assert time.process_time() - started < 0.01 * 20
