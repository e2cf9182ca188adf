"""Source and filter: frames of F0, mel cepstrum and strengths of voicing → samples.

Pulses at F0 and noise pass a filter that changes every frame. The filter is the mel cepstrum's: minimum phase, so its
logarithm is linear in the cepstrum, magnitude by cosines and phase by sines of the warped angle (Tokuda et al.,
"Mel-generalized cepstral analysis", ICSLP 1994). The strengths part each band between pulses and noise (mixed
excitation, McCree and Barnwell, 1995). Every frame's stretch of excitation, under a Hann window of two frames, is
filtered in the frequency domain and the answers are overlapped and added.

Pulses lie at exact, not whole, samples. Noise is drawn by counter (Philox), so frame n of a seed sounds the same
however one gets there. A stream cut elsewhere is the same but for rounding; `synth.py` always cuts at the same places.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RATE = 16000
HOP = 80
"""Samples of a frame: 5 ms."""
FFT = 480
ANSWER = FFT // HOP
"""Frames over which one frame sounds."""
ALPHA = 0.42
ORDER = 25
BAND_EDGES_HZ = (1000, 2000, 4000, 6000)
SMEAR_HZ = 200.0
COUNTERS = HOP // 16
"""Philox counters of a frame of noise: each gives 4 × 64 bits, a sample takes 16."""

Floats = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]


@dataclass
class State:
    """How far an utterance is.

    frame: the next. turns: periods since its beginning. late: the pulses of the frame before. answers: what earlier
    frames still have to say, in blocks of a frame [ANSWER - 1 frames, ANSWER blocks, HOP].
    """

    seed: int
    frame: int = 0
    turns: float = 0.0
    late: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    answers: Floats = field(default_factory=lambda: np.zeros((ANSWER - 1, ANSWER, HOP), np.float32))


def _filters() -> Spectra:
    """Mel cepstrum → logarithm of the spectrum [ORDER, bins]."""
    angle = np.linspace(0, np.pi, FFT // 2 + 1)
    warped = angle + 2 * np.arctan(ALPHA * np.sin(angle) / (1 - ALPHA * np.cos(angle)))
    return np.asarray(np.exp(-1j * np.arange(ORDER)[:, None] * warped), np.complex64)


def _bands() -> Floats:
    """Strengths of the 5 bands → strength of each bin [5, bins], with soft edges."""
    hertz = np.linspace(0, RATE / 2, FFT // 2 + 1)
    above = [1 / (1 + np.exp(-(hertz - edge) / SMEAR_HZ)) for edge in BAND_EDGES_HZ]
    steps = np.stack([np.ones_like(hertz), *above, np.zeros_like(hertz)])
    return (steps[:-1] - steps[1:]).astype(np.float32)


FILTERS, BANDS = _filters(), _bands()
MAGNITUDE, PHASE = (np.ascontiguousarray(part) for part in (FILTERS.real, FILTERS.imag))
WINDOW = (0.5 - 0.5 * np.cos(np.pi * (np.arange(2 * HOP) + 0.5) / HOP)).astype(np.float32)
BIN_ANGLE = -2j * np.pi * np.arange(FFT // 2 + 1) / FFT
_FINE = 16
"""A rotation by a bin's angle is one by a multiple of so many bins and one by the rest."""


def sharpened(cepstrum: Floats, factor: float) -> Floats:
    """Formants sharper by `factor` (below 1: flatter) at the same energy: [frames, ORDER].

    The mel cepstrum from its third number on is multiplied: the postfilter of HTS and of Flite.
    """
    sharp = cepstrum * np.where(np.arange(ORDER) < 2, 1, factor).astype(np.float32)
    before, after = (np.exp(2 * (each[:, 1:] @ MAGNITUDE[1:])).mean(1) for each in (cepstrum, sharp))
    sharp[:, 0] += 0.5 * np.log(before / after)
    return sharp


def pulses(f0: Floats, state: State) -> npt.NDArray[np.float64]:
    """Place in samples, from the first of these frames, and height of each pulse [pulses, 2]; turns the phase on.

    f0: Hz, never 0 [frames]. A pulse has the energy of its period, so the train's spectrum has density 1.
    """
    turns = np.cumsum(np.concatenate([[state.turns], f0.astype(np.float64) * (HOP / RATE)]))
    at = np.arange(np.ceil(turns[0]), np.ceil(turns[-1]))
    frame = np.searchsorted(turns, at, side="right") - 1
    places = (frame + (at - turns[frame]) / (turns[frame + 1] - turns[frame])) * HOP
    state.turns = float(turns[-1])
    return np.stack([places, np.sqrt(RATE / f0[frame])], 1)


def pulse_spectra(f0: Floats, state: State) -> Spectra:
    """Spectra of the pulses under each frame's window, which begins one frame earlier [frames, bins]."""
    fresh = pulses(f0, state)
    train = np.concatenate([state.late, fresh])
    frames = len(f0)
    state.late = fresh[fresh[:, 0] >= (frames - 1) * HOP] - [frames * HOP, 0]
    spectra = np.zeros((frames, FFT // 2 + 1), np.complex64)
    frame = np.floor(train[:, 0] / HOP).astype(np.int64)
    for earlier in (0, 1):  # each pulse lies in the second half of its frame's window and the first half of the next
        window = frame + earlier
        inside = (window >= 0) & (window < frames)
        offset = train[inside, 0] - (window[inside] - 1) * HOP
        height = train[inside, 1] * (0.5 - 0.5 * np.cos(np.pi * (offset + 0.5) / HOP))
        for at, answer in zip(window[inside], height.astype(np.float32)[:, None] * _delays(offset), strict=True):
            spectra[at] += answer
    return spectra


def _delays(offset: npt.NDArray[np.float64]) -> Spectra:
    """Spectra of single samples that come `offset` samples late [pulses, bins]."""
    far, near = np.exp(offset[:, None] * BIN_ANGLE[::_FINE]), np.exp(offset[:, None] * BIN_ANGLE[:_FINE])
    turned = far.astype(np.complex64)[:, :, None] * near.astype(np.complex64)[:, None, :]
    return turned.reshape(len(offset), far.shape[1] * _FINE)[:, : len(BIN_ANGLE)]


def responses(cepstrum: Floats) -> Spectra:
    """Answers of the filters [frames, bins]; in real numbers, whose exp, cos and sin are vectorised."""
    magnitude, phase = np.exp(cepstrum @ MAGNITUDE), cepstrum @ PHASE
    found = np.empty(magnitude.shape, np.complex64)
    np.multiply(magnitude, np.cos(phase), out=found.real)
    np.multiply(magnitude, np.sin(phase), out=found.imag)
    return found


def noise_spectra(seed: int, first: int, frames: int) -> Spectra:
    """Spectra of noise of variance 1 under each frame's window, from frame `first` on [frames, bins]."""
    drawn = np.random.Philox(key=seed, counter=np.array([first * COUNTERS, 0, 0, 0], np.uint64))
    raw = drawn.random_raw((frames + 1) * HOP // 4).view(np.uint16)
    samples = ((raw.astype(np.float32) - 32767.5) * np.float32(np.sqrt(3) / 32768)).reshape(-1, HOP)
    return np.fft.rfft(np.concatenate([samples[:-1], samples[1:]], 1) * WINDOW, FFT).astype(np.complex64)


def sound(f0: Floats, voiced: Floats, cepstrum: Floats, strengths: Floats, state: State, last: bool) -> Floats:
    """Samples of the next frames: as many frames as are given, less one at the beginning, plus one at the end (`last`).

    f0: Hz, never 0 [frames]. voiced: 0…1 [frames]. cepstrum [frames, ORDER]. strengths: 0…1 [frames, 5].
    """
    frames = len(f0)
    begin = state.frame
    harmonic = (strengths * voiced[:, None]) @ BANDS
    excitation = harmonic * pulse_spectra(f0, state) + (1 - harmonic) * noise_spectra(state.seed, begin, frames)
    spectra = responses(cepstrum) * excitation
    answers = np.fft.irfft(spectra, FFT).astype(np.float32).reshape(frames, ANSWER, HOP)
    answers = np.concatenate([state.answers, answers])
    state.answers, state.frame = answers[frames:], begin + frames
    blocks = np.asarray(sum(answers[ANSWER - 1 - later : len(answers) - later, later] for later in range(ANSWER)))
    if last:
        rest = np.asarray(sum(answers[len(answers) - later, later] for later in range(1, ANSWER)))
        blocks = np.concatenate([blocks, rest[None]])
    return np.asarray(blocks[1 if begin == 0 else 0 :]).reshape(-1)
