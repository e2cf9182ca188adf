"""Preparation of a reference recording: level, length, silence, 8-bit noise; rejection of what is not speech.

All thresholds are relative to the recording's own level, so its volume makes no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saywell.audio.resample import resample
from saywell.errors import InvalidRequest
from saywell.types import Samples

VERSION = 1
"""Version of this processing. A change of it invalidates cached voice states."""
LEVEL_DB = -23.0
"""RMS of the speech in dB of full scale: that of `fap loudness-norm`, which Fish Audio recommends for training data of
its models."""
FRAME_S, HOP_S = 0.04, 0.02
BAND_HZ = (80.0, 8000.0)
"""Band in which levels are measured: without rumble, and the same at every sample rate."""
LOUD_S = 0.5
"""The loudest level is the minimum over the loudest frames of this total duration: a click is shorter."""
SILENT_DB = -110.0
"""Below this there are only zeros: the smallest step of 16 bits is 20 dB louder."""
SOFTEST_DB, ABOVE_NOISE_DB, SURELY_DB = -30.0, 8.0, -12.0
"""Threshold of speech relative to its loudest level: ABOVE_NOISE_DB above the noise, but at least SOFTEST_DB and at
most SURELY_DB."""
GAP_S = 0.3
"""Sounds closer together than this are one utterance."""
SHORTEST_S = 0.1
"""A shorter utterance is a click or a bump."""
MARGIN_S = 0.25
"""Silence kept on each side of an utterance: words start and end softly. Pauses are at most twice as long."""
FADE_S = 0.01
LIVELY_DB = 2.3
"""See `liveliness`. Noise of any colour has 1.6 to 2.1, hum and tones less than that; clear speech 5.5 to 14, speech
with noise as loud as itself 2.6 to 3.0."""
QUARTILES = 1.349
"""Interquartile range of a normal distribution with standard deviation 1."""
LONGEST_WORD = 30
"""In letters; text without spaces is cut between any two."""
UNHEARD_DB = -60.0
"""Noise this much softer than the speech is kept."""
NOISE_TAKEN, NOISE_LEFT_DB = 2.0, -20.0
"""Twice the power of the noise is subtracted, so that hardly any peaks remain, but no frequency is attenuated by more
than NOISE_LEFT_DB.

Quantisation to 8 bits adds white noise of known power: a twelfth of the squared step, three times as much with dither.
A model trained on clean speech changes the voice even for that."""
_EPSILON = 1e-20
_EDGES_HZ = np.arange(100, 3851, 250)
_BATCH = 256
"""Frames analysed at once; bounds memory."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prepared:
    """A prepared recording."""

    samples: Samples
    speech_s: float
    """Seconds of speech before the recording was cut."""
    cut: bool
    """Whether it was cut because it was too long."""


def prepare(samples: Samples, rate: int, to_hz: int, longest_s: float) -> Prepared:
    """Samples [n] at `rate` Hz → speech at `to_hz` and LEVEL_DB, without silence at the ends, with shortened pauses,
    cut in a pause if longer than `longest_s`, and with 8-bit noise removed.

    Raises InvalidRequest for silence, clicks, noise, hum and tones.
    """
    noise = _step(samples) ** 2 / 4 * to_hz / rate
    samples = resample(samples, rate, to_hz)
    samples = samples - samples.mean(dtype=np.float32)
    levels, shapes = _measure(samples, to_hz)
    loud = np.sort(levels)[-min(len(levels), round(LOUD_S / HOP_S))]
    if loud < SILENT_DB:
        raise _refused("is silent")
    levels = np.minimum(levels, loud)
    active = _active(levels, loud)
    if liveliness(shapes[active]) < LIVELY_DB:
        raise _refused("is noise or a tone, without a voice")
    utterances = _utterances(active)
    if not utterances:
        raise _refused("contains clicks but no speech")
    spoken = np.concatenate([levels[begin:end][active[begin:end]] for begin, end in utterances])
    power = float(np.mean(10 ** (spoken / 10)))
    speech = _joined(samples, utterances, to_hz)
    speech_s = len(speech) / to_hz
    if speech_s > longest_s:
        speech = _cut(speech, to_hz, longest_s)
    if noise > power * 10 ** (UNHEARD_DB / 10):
        speech = _denoised(noise, speech, to_hz)
    speech = speech * np.float32(np.sqrt(10 ** (LEVEL_DB / 10) / power))
    return Prepared(samples=np.clip(speech, -1, 1), speech_s=speech_s, cut=speech_s > longest_s)


def beginning(transcript: str, share: float) -> str:
    """The transcript of the first `share` of a recording, accurate to a word or two: that share of the letters, up to
    the end of a word."""
    end = round(share * len(transcript))
    space = f"{transcript} ".rfind(" ", max(0, end - LONGEST_WORD), end + 1)
    return transcript[: space if space > 0 else end].strip()


def _active(levels: _Floats, loud: float) -> npt.NDArray[np.bool_]:
    """Which frames contain speech, if the recording is speech."""
    noise = np.percentile(levels[levels > loud + 2 * SOFTEST_DB], 5)
    active: npt.NDArray[np.bool_] = levels > loud + np.clip(noise + ABOVE_NOISE_DB - loud, SOFTEST_DB, SURELY_DB)
    return active


def liveliness(shapes: _Floats) -> float:
    """How much the shape of the spectrum changes from frame to frame, in dB. `shapes`: energies, [frames, bands].

    The spread of each band's share of its frame, averaged over the bands, so that the volume, colour and swelling of a
    noise make no difference. Measured between quartiles, since a tone that turns on and off changes in few frames only.
    """
    shares = _decibels(shapes + 1e-6 * shapes.sum(axis=1, keepdims=True))
    low, high = np.percentile(shares - shares.mean(axis=1, keepdims=True), [25, 75], axis=0)
    return float(((high - low) / QUARTILES).mean())


def _measure(samples: Samples, rate: int) -> tuple[_Floats, _Floats]:
    """The level of each frame in dB, [frames], and the energies of its bands, [frames, bands]."""
    size, hop = round(FRAME_S * rate), round(HOP_S * rate)
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window, hz = np.hanning(size).astype(np.float32), np.fft.rfftfreq(size, 1 / rate)
    edges = np.searchsorted(hz, (*BAND_HZ, *_EDGES_HZ))
    levels, shapes = [], []
    for start in range(0, len(frames), _BATCH):
        power = np.abs(np.fft.rfft(frames[start : start + _BATCH] * window)) ** 2
        levels.append(power[:, edges[0] : edges[1]].sum(axis=1) * 2 / (size * np.square(window).sum()))
        shapes.append(np.add.reduceat(power[:, : edges[-1]], edges[2:-1], axis=1))
    return _decibels(np.concatenate(levels)), np.concatenate(shapes)


def _decibels(power: _Floats) -> _Floats:
    decibels: _Floats = 10 * np.log10(power + _EPSILON)
    return decibels


def _utterances(active: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first frame, one past the last frame) of each utterance."""
    frames = np.flatnonzero(active)
    breaks = np.flatnonzero(np.diff(frames) > GAP_S / HOP_S) + 1
    runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(frames, breaks)]
    return [(begin, end) for begin, end in runs if end - begin > SHORTEST_S / HOP_S]


def _joined(samples: Samples, utterances: list[tuple[int, int]], rate: int) -> Samples:
    """The utterances with their margins, crossfaded."""
    margin, hop, size = round(MARGIN_S * rate), round(HOP_S * rate), round(FRAME_S * rate)
    spans: list[tuple[int, int]] = []
    for begin, end in utterances:
        first, last = max(0, begin * hop - margin), min(len(samples), (end - 1) * hop + size + margin)
        if spans and first <= spans[-1][1]:
            first = spans.pop()[0]
        spans.append((first, last))
    fade = round(FADE_S * rate)
    rising = np.linspace(0, 1, fade, dtype=np.float32)
    joined = samples[slice(*spans[0])]
    for first, last in spans[1:]:
        piece = samples[first:last]
        seam = joined[-fade:] * (1 - rising) + piece[:fade] * rising
        joined = np.concatenate([joined[:-fade], seam, piece[fade:]])
    return joined


def _cut(speech: Samples, rate: int, longest_s: float) -> Samples:
    """The speech up to the quietest moment in the last third of `longest_s`; the last of several equal ones."""
    hop, fade = round(HOP_S * rate), round(FADE_S * rate)
    levels, _ = _measure(speech[: round(longest_s * rate)], rate)
    width = round(GAP_S / 2 / HOP_S)
    power = np.convolve(10 ** (levels / 10), np.ones(width), "valid")[::-1]
    quietest = len(power) - 1 - int(np.argmin(power[: len(power) // 3]))
    end = (quietest + width // 2) * hop
    kept = speech[:end].copy()
    kept[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return kept


def _step(samples: Samples) -> float:
    """The quantisation step of all samples, between those of 16 and 8 bits; 0.0 if it is finer than 16 bits."""
    step = 0.0
    for bits in range(15, 6, -1):
        counted = np.ldexp(samples, bits)
        if (counted != np.rint(counted)).any():
            break
        step = 2.0**-bits
    return step


def _denoised(noise: float, samples: Samples, rate: int) -> Samples:
    """Samples with white noise of this power attenuated in each frequency of each frame, by its likely share there."""
    size = round(FRAME_S * rate) // 2 * 2
    hop, window = size // 2, np.sin(np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)
    padded = np.pad(samples, (hop, size + -len(samples) % hop))
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window)
    # Averaged with its neighbours in time and frequency: isolated peaks of noise would remain audible as tones.
    power = _smooth(_smooth(np.abs(spectra) ** 2).T).T
    share = noise * NOISE_TAKEN * np.square(window).sum() / (power + _EPSILON)
    frames = np.fft.irfft(spectra * np.sqrt(np.clip(1 - share, 10 ** (NOISE_LEFT_DB / 10), 1)), size) * window
    halves = frames.reshape(len(frames), 2, hop)
    joined = np.concatenate([halves[0, :1], halves[:-1, 1] + halves[1:, 0]]).reshape(-1)
    return joined[hop : hop + len(samples)].astype(np.float32)


def _smooth(power: _Floats) -> _Floats:
    """Each row averaged with the one before and the one after it."""
    wide = np.pad(power, ((1, 1), (0, 0)), mode="edge")
    return (wide[:-2] + wide[1:-1] + wide[2:]) / 3


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"the reference {why}; give 5 to 30 s of one person speaking", param="reference")
