"""wren's source and filter."""

from __future__ import annotations

import numpy as np
import pytest

from saywell.models.wren.phones import encode
from saywell.models.wren.reader import read
from saywell.models.wren.source import (
    ANSWER,
    FILTERS,
    HOP,
    ORDER,
    RATE,
    Floats,
    State,
    pulse_spectra,
    responses,
    sharpened,
    sound,
)
from saywell.models.wren.synth import Synthesiser


@pytest.fixture(scope="module")
def cepstrum() -> Floats:
    """Frames of a sentence, as the network gives them."""
    voice = Synthesiser()
    prosody = voice.prosody(encode(read("The lamp beside the window was lit every evening.").symbols), 0)
    return voice._frames(prosody, 0, prosody.frames // 2)[:, 2 : 2 + ORDER]


def test_formants_are_sharpened_at_the_same_energy(cepstrum: Floats) -> None:
    sharp = sharpened(cepstrum, 1.4)
    np.testing.assert_allclose(sharp[:, 2:], 1.4 * cepstrum[:, 2:], rtol=1e-6)
    np.testing.assert_array_equal(sharp[:, 1], cepstrum[:, 1])
    flat, lifted = (np.exp(2 * (each @ FILTERS.real)).mean(1) for each in (cepstrum, sharp))
    np.testing.assert_allclose(flat, lifted, rtol=1e-4)


def test_what_is_sharpened_can_be_flattened(cepstrum: Floats) -> None:
    np.testing.assert_allclose(sharpened(sharpened(cepstrum, 1.4), 1 / 1.4), cepstrum, atol=1e-4)


def test_by_one_nothing_changes(cepstrum: Floats) -> None:
    np.testing.assert_array_equal(sharpened(cepstrum, 1.0), cepstrum)


def test_the_filters_are_the_exponentials_of_the_cepstrum(cepstrum: Floats) -> None:
    wanted = np.exp(cepstrum.astype(np.complex128) @ FILTERS)
    assert np.abs(responses(cepstrum) - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_pulses_lie_between_samples_where_the_pitch_says() -> None:
    """A train of them at a constant pitch is, but for the window, one harmonic series."""
    f0, frames = 137.0, 64
    spectra = pulse_spectra(np.full(frames, f0, np.float32), State(0))
    train = np.zeros((frames + ANSWER) * HOP)
    for frame, answer in enumerate(np.fft.irfft(spectra)):
        train[frame * HOP :][: len(answer)] += answer
    turns = np.arange(1, 40) * RATE / f0 + HOP  # windows begin a frame early
    for at in turns:
        near = np.arange(int(at) - 40, int(at) + 40)
        height = (train[near] * np.sinc(at - near)).sum()
        np.testing.assert_allclose(height, np.sqrt(RATE / f0), rtol=0.05)


def test_cut_elsewhere_it_sounds_the_same(cepstrum: Floats) -> None:
    frames = len(cepstrum)
    f0, voiced, strengths = (
        np.linspace(90, 240, frames, dtype=np.float32),
        np.ones(frames, np.float32),
        np.ones((frames, 5), np.float32),
    )

    def said(step: int) -> Floats:
        state = State(7)
        cuts = [slice(at, at + step) for at in range(0, frames, step)]
        pieces = [sound(f0[c], voiced[c], cepstrum[c], strengths[c], state, c.stop >= frames) for c in cuts]
        return np.concatenate(pieces)

    whole = said(frames)
    assert len(whole) == frames * HOP
    for step in (1, 7, 50):
        np.testing.assert_allclose(said(step), whole, atol=2e-6 * np.abs(whole).max())
