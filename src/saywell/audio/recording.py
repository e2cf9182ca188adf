"""A recording of somebody speaking, made what a model was made to hear: its level, its length, no silence around.

Everything is judged by the recording's own level, so a soft one gives what the same one gives louder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saywell.audio.resample import resample
from saywell.errors import InvalidRequest
from saywell.types import Samples

VERSION = 1
"""Of what is done to a recording. Another number where that changes, for what was made of it before holds no longer."""
LEVEL_DB = -23.0
"""RMS of the speech, dB of full scale: what `fap loudness-norm` brings recordings to, by which Fish Audio advises to
prepare what its models are trained on."""
FRAME_S, HOP_S = 0.04, 0.02
BAND_HZ = (80.0, 8000.0)
"""Where levels are measured: no rumble, and the same at every sample rate."""
LOUD_S = 0.5
"""As loud as the speaker gets is what the loudest frames reach that last so long together: a click is shorter."""
SILENT_DB = -110.0
"""Softer than this there is nothing but zeros: the least step of 16 bits is 20 dB above it."""
SOFTEST_DB, ABOVE_NOISE_DB, SURELY_DB = -30.0, 8.0, -12.0
"""Beside its loudest, speech is no softer than the first; where noise is nearer than that it stands out of it by the
second; and what is no softer than the last is speech whatever the noise."""
GAP_S = 0.3
"""What lies closer together is one utterance."""
SHORTEST_S = 0.1
"""An utterance that is shorter is a click or a bump."""
MARGIN_S = 0.25
"""Silence that stays on each side of an utterance: words begin and end softly. Pauses are twice as long at most."""
FADE_S = 0.01
LIVELY_DB = 2.3
"""See `liveliness`. Noise of any colour has 1.6 to 2.1, hum and tones less than that; clear speech 5.5 to 14, speech
with noise as loud as itself 2.6 to 3.0."""
QUARTILES = 1.349
"""How far apart they are where the standard deviation is 1."""
LONGEST_WORD = 30
"""Letters; languages without spaces are cut between any two."""
UNHEARD_DB = -60.0
"""Noise that is so much softer than the speech may stay."""
NOISE_TAKEN, NOISE_LEFT_DB = 2.0, -20.0
"""Twice the noise's own power, so that hardly any stands out; and no frequency is made softer by more than this.

Recordings of 8 bits have steps, and what steps add is white noise of a known level: a twelfth of a step squared, and
three times as much where it was spread by dither, as it should be. A model that learned from clean speech takes even
that for somebody else's voice."""
_NOTHING = 1e-20
_EDGES_HZ = np.arange(100, 3851, 250)
_AT_ONCE = 256
"""Frames; bounds memory."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prepared:
    """What is left of a recording."""

    samples: Samples
    speech_s: float
    """Seconds of it before it was cut."""
    cut: bool
    """Whether that was too long."""


def prepare(samples: Samples, rate: int, to_hz: int, longest_s: float) -> Prepared:
    """Samples [n] at `rate` Hz → speech at `to_hz` and LEVEL_DB, without silence at the ends and in long pauses, cut in
    a pause where more than `longest_s` is left, and without the noise of 8 bits.

    Raises InvalidRequest for silence and for what is nobody's voice: noise, hum, a tone.
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
        raise _refused("is noise or a tone, there is no voice to be heard in it")
    utterances = _utterances(active)
    if not utterances:
        raise _refused("has no speech in it, only clicks")
    spoken = np.concatenate([levels[begin:end][active[begin:end]] for begin, end in utterances])
    power = float(np.mean(10 ** (spoken / 10)))
    speech = _joined(samples, utterances, to_hz)
    speech_s = len(speech) / to_hz
    if speech_s > longest_s:
        speech = _cut(speech, to_hz, longest_s)
    if noise > power * 10 ** (UNHEARD_DB / 10):
        speech = _without(noise, speech, to_hz)
    speech = speech * np.float32(np.sqrt(10 ** (LEVEL_DB / 10) / power))
    return Prepared(samples=np.clip(speech, -1, 1), speech_s=speech_s, cut=speech_s > longest_s)


def beginning(transcript: str, share: float) -> str:
    """What is said in that part of a recording, to a word or two: its part of the letters, to the end of a word."""
    end = round(share * len(transcript))
    space = f"{transcript} ".rfind(" ", max(0, end - LONGEST_WORD), end + 1)
    return transcript[: space if space > 0 else end].strip()


def _active(levels: _Floats, loud: float) -> npt.NDArray[np.bool_]:
    """Which frames somebody speaks in, if it is speech."""
    noise = np.percentile(levels[levels > loud + 2 * SOFTEST_DB], 5)
    active: npt.NDArray[np.bool_] = levels > loud + np.clip(noise + ABOVE_NOISE_DB - loud, SOFTEST_DB, SURELY_DB)
    return active


def liveliness(shapes: _Floats) -> float:
    """How much the shape of a spectrum changes from frame to frame, in dB. `shapes`: energies, [frames, bands].

    The spread of each band's part of its frame, averaged over the bands: how loud a noise is, what colour it has and
    how it swells make no difference to it. Measured between quartiles, for a tone that goes on and off changes in few
    frames only.
    """
    parts = _decibels(shapes + 1e-6 * shapes.sum(axis=1, keepdims=True))
    low, high = np.percentile(parts - parts.mean(axis=1, keepdims=True), [25, 75], axis=0)
    return float(((high - low) / QUARTILES).mean())


def _measure(samples: Samples, rate: int) -> tuple[_Floats, _Floats]:
    """Of each frame its level in dB, [frames], and the energies of its bands, [frames, bands]."""
    size, hop = round(FRAME_S * rate), round(HOP_S * rate)
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window, hz = np.hanning(size).astype(np.float32), np.fft.rfftfreq(size, 1 / rate)
    edges = np.searchsorted(hz, (*BAND_HZ, *_EDGES_HZ))
    levels, shapes = [], []
    for at in range(0, len(frames), _AT_ONCE):
        power = np.abs(np.fft.rfft(frames[at : at + _AT_ONCE] * window)) ** 2
        levels.append(power[:, edges[0] : edges[1]].sum(axis=1) * 2 / (size * np.square(window).sum()))
        shapes.append(np.add.reduceat(power[:, : edges[-1]], edges[2:-1], axis=1))
    return _decibels(np.concatenate(levels)), np.concatenate(shapes)


def _decibels(power: _Floats) -> _Floats:
    found: _Floats = 10 * np.log10(power + _NOTHING)
    return found


def _utterances(active: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last frame of each."""
    frames = np.flatnonzero(active)
    breaks = np.flatnonzero(np.diff(frames) > GAP_S / HOP_S) + 1
    runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(frames, breaks)]
    return [(begin, end) for begin, end in runs if end - begin > SHORTEST_S / HOP_S]


def _joined(samples: Samples, utterances: list[tuple[int, int]], rate: int) -> Samples:
    """The utterances with their margins, one faded into the next."""
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
    """What comes before the last of the quietest moments in the last third of the time there is."""
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
    """What all samples are multiples of, from 16 bits' step to 8 bits'; 0.0 if there is no such step."""
    step = 0.0
    for bits in range(15, 6, -1):
        counted = np.ldexp(samples, bits)
        if (counted != np.rint(counted)).any():
            break
        step = 2.0**-bits
    return step


def _without(noise: float, samples: Samples, rate: int) -> Samples:
    """White noise of this power taken out: of each frequency in each frame as much as is likely to be noise."""
    size = round(FRAME_S * rate) // 2 * 2
    hop, window = size // 2, np.sin(np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)
    padded = np.pad(samples, (hop, size + -len(samples) % hop))
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window)
    # Averaged with its neighbours in time and frequency: single peaks of noise, left alone, would ring.
    power = _smooth(_smooth(np.abs(spectra) ** 2).T).T
    part = noise * NOISE_TAKEN * np.square(window).sum() / (power + _NOTHING)
    frames = np.fft.irfft(spectra * np.sqrt(np.clip(1 - part, 10 ** (NOISE_LEFT_DB / 10), 1)), size) * window
    halves = frames.reshape(len(frames), 2, hop)
    joined = np.concatenate([halves[0, :1], halves[:-1, 1] + halves[1:, 0]]).reshape(-1)
    return joined[hop : hop + len(samples)].astype(np.float32)


def _smooth(power: _Floats) -> _Floats:
    """Each row with the one before and the one after it."""
    wide = np.pad(power, ((1, 1), (0, 0)), mode="edge")
    return (wide[:-2] + wide[1:-1] + wide[2:]) / 3


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"the reference {why}; give 5 to 30 s of one person speaking", param="reference")
